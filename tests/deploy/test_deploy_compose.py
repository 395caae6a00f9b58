"""`docker compose up` on a real engine: what a user gets, what survives, what is lost. Run by make test-deploy."""

import json
import os
import re
import shutil
import statistics
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import yaml

from export.bundle import read_manifest, write_manifest
from export.starter import STARTERS
from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment_client import Client

ROOT = Path(__file__).parents[2]
USER = os.getuid() or 12345
RESTARTS = 20
REPLICAS = 3

pytestmark = pytest.mark.deploy

OVERRIDES = """
services:
  trainer:
    image: figment-test-trainer
    build: {build}
  server:
    image: figment-test-server
    environment: {{FIGMENT_BATCH__SIZES: "[16, 64]"}}
    ports: !override ["127.0.0.1::50051"]
  traffic:
    image: figment-test-server
  prometheus:
    ports: !override ["127.0.0.1::9090"]
  grafana:
    ports: !override ["127.0.0.1::3000"]
  envoy:
    ports: !override ["127.0.0.1::50050"]
"""
"""Free ports and names of our own, so that a Figment that runs here is left alone; padded batches, to see padding."""


class Stack:
    """The services of one compose project."""

    def __init__(self, folder: Path, models: Path) -> None:
        override = folder / "override.yml"
        wheels = subprocess.run(
            ["pip", "config", "get", "global.find-links"], capture_output=True, text=True
        ).stdout.strip()
        build: dict[str, object] = {}
        if wheels and Path(wheels).is_dir():  # this machine's pip finds torch there, so the build does too
            build = {"additional_contexts": {"wheels": wheels}}
        override.write_text(OVERRIDES.format(build=json.dumps(build)))
        files = ["--file", str(ROOT / "docker-compose.yml"), "--file", str(override)]
        self._compose = ["docker", "compose", "--project-name", "figment-test", "--profile", "*", *files]
        settings = {"FIGMENT_MODELS_FOLDER": models, "FIGMENT_UID": USER, "FIGMENT_GID": USER}
        self._environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}

    def __call__(self, *arguments: str) -> str:
        """`docker compose ...`; what it printed."""
        command = [*self._compose, *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def up(self, *services: str) -> None:
        self("up", "--detach", "--wait", "--no-build", *services)

    def address(self, service: str, port: int, index: int = 1) -> str:
        return self("port", "--index", str(index), service, str(port))

    def container(self, service: str, index: int = 1) -> str:
        return self("ps", "--quiet", service).splitlines()[index - 1]

    def inspect(self, container: str) -> dict:
        return json.loads(subprocess.run(["docker", "inspect", container], capture_output=True, text=True).stdout)[0]

    def query(self, expression: str) -> list[dict]:
        parameters = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://{self.address('prometheus', 9090)}/api/v1/query?{parameters}") as reply:
            return json.load(reply)["data"]["result"]


@pytest.fixture(scope="module")
def stack(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All images built; models that were trained for seconds and say that they were evaluated."""
    if not shutil.which("docker") or subprocess.run(["docker", "version"], capture_output=True).returncode:
        pytest.fail("no Docker engine answers")
    folder = tmp_path_factory.mktemp("deploy")
    folder.chmod(0o755)
    folder.parent.chmod(0o755)
    shutil.copytree(models, folder / "models")
    for version in (folder / "models").glob("*/1"):
        manifest = read_manifest(version)
        manifest.quality.update({"frechet_random": 0.2, "fid_clf": 5.0, "reconstruction_psnr_db": 20.0})
        write_manifest(manifest, version)
    for path in [folder / "models", *(folder / "models").rglob("*")]:
        os.chown(path, USER, USER)
    stack = Stack(folder, folder / "models")
    stack("build")
    yield stack
    stack("down", "--volumes", "--timeout", "5")


@pytest.fixture(autouse=True)
def one_server(stack: Stack) -> None:
    """One server and the monitoring, whatever the test before left."""
    stack.up("--scale", "server=1", "server", "prometheus", "grafana")
    stack("stop", "traffic", "envoy")


@contextmanager
def in_threads(work: Callable[[], None], number: int) -> Iterator[None]:
    """`work` again and again in threads, beside the block."""
    is_over = threading.Event()

    def again() -> None:
        while not is_over.is_set():
            work()

    with ThreadPoolExecutor(number) as pool:
        working = [pool.submit(again) for _ in range(number)]
        try:
            yield
        finally:
            is_over.set()
        for each in working:
            each.result()


def eventually(is_so: Callable[[], bool], seconds: float) -> bool:
    until_s = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until_s:
            return False
        time.sleep(1)
    return True


def test_from_up_to_the_first_image(stack: Stack):
    stack("down", "--volumes")
    started_s = time.monotonic()
    stack.up("server", "prometheus", "grafana")
    with Client(stack.address("server", 50051)) as client:
        assert client.generate("gan", 4, seed=7).shape == (4, 32, 32, 1)
    print(f"\nfrom `up` to the first image: {time.monotonic() - started_s:.1f} s")
    size = stack.inspect("figment-test-server")["Size"]
    print(f"image of the server: {size / 1e6:.0f} MB")


def test_everybody_is_confined(stack: Stack):
    for service in ("server", "trainer"):
        container = json.loads(stack("ps", "--all", "--format", "json", service).splitlines()[0])["ID"]
        config = stack.inspect(container)
        assert config["Config"]["User"] == f"{USER}:{USER}"
        assert config["HostConfig"]["ReadonlyRootfs"]
        assert config["HostConfig"]["CapDrop"] == ["ALL"]
    for image in ("figment-test-server", "figment-test-trainer"):
        assert stack.inspect(image)["Config"]["User"] == "10001:10001"
    ports = [port for line in stack("ps", "--format", "json").splitlines() for port in json.loads(line)["Publishers"]]
    assert {port["URL"] for port in ports if port["PublishedPort"]} == {"127.0.0.1"}


def train_starters(models: Path) -> subprocess.CompletedProcess[str]:
    """What the service `trainer` does with a folder of models."""
    for folder in list(models.parents)[:3]:
        folder.chmod(0o755)
    who = ["--user", f"{USER}:{USER}", "--read-only", "--tmpfs", "/tmp", "--volume", f"{models}:/models"]
    return subprocess.run(["docker", "run", "--rm", *who, "figment-test-trainer"], capture_output=True, text=True)


def test_a_folder_that_holds_models_is_left_alone(stack: Stack):
    assert "starter" not in stack("logs", "trainer")


def test_an_empty_folder_gets_the_starter_models(stack: Stack, tmp_path: Path):
    models = tmp_path / "models"
    models.mkdir()
    os.chown(models, USER, USER)
    done = train_starters(models)
    assert done.returncode == 0, done.stderr
    assert sorted(path.parent.parent.name for path in models.glob("*/1/manifest.json")) == sorted(
        [*STARTERS, "openmoji-hybrid"]
    )


def test_a_folder_that_the_trainer_may_not_write_is_named_with_the_way_out(stack: Stack, tmp_path: Path):
    models = tmp_path / "models"
    models.mkdir(mode=0o555)
    done = train_starters(models)
    assert done.returncode == 1
    assert f"/models: user {USER} may not write there; FIGMENT_UID" in done.stderr


def test_prometheus_sees_every_replica(stack: Stack):
    stack.up("--scale", f"server={REPLICAS}", "server")
    assert eventually(lambda: len(stack.query('up{job="figment"} == 1')) == REPLICAS, 60)


def _expressions() -> Iterator[tuple[str, str]]:
    """Name and expression of all panels, rules and alerts; alerts without their thresholds, GPUs left out."""
    for path in sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")):
        panels = json.loads(path.read_text())["panels"]
        for panel in panels:
            for target in panel.get("targets", ()):
                if "figment_gpu" not in target["expr"] and "ALERTS" not in target["expr"]:
                    yield f"{path.stem}: {panel['title']}", target["expr"]
    for path in sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                expression = re.sub(r"absent\((.*)\)", r"\1", rule["expr"])
                yield rule.get("alert") or rule["record"], re.sub(r"(>|==) [\d.]+( \* [\d.]+)?", "", expression)


def test_every_expression_of_dashboards_and_rules_returns_data_under_demo_traffic(stack: Stack):
    stack.up("server", "prometheus", "traffic")
    empty = {f"{name}: {expression}": expression for name, expression in _expressions()}
    number = len(empty)
    variables = {"$__rate_interval": "1m", "$__range": "5m", "$__interval": "15s", "$model": ".*", "$instance": ".*"}

    def all_return_data() -> bool:
        for name, expression in list(empty.items()):
            for variable, value in variables.items():
                expression = expression.replace(variable, value)
            if stack.query(expression):
                del empty[name]
        return not empty

    assert eventually(all_return_data, 400), "\n".join(empty)
    print(f"\n{number} expressions return data")


def test_no_admitted_request_is_lost_when_the_server_is_restarted_under_load(stack: Stack):
    """Not admitted: refused by the draining server, without a connection, or cancelled as gRPC closes the connection.

    The server says so itself if it ends with admitted requests that are not answered.
    """
    outcomes: Counter[str] = Counter()
    address = stack.address("server", 50051)
    not_admitted = re.compile(r"^failed to connect|draining|starting|^CANCELLED$")
    not_admitted_codes = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

    def draw() -> None:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = ImageServiceStub(channel)
            for _ in range(20):
                try:
                    assert stub.Generate(pb.GenerateRequest(model="vae", count=64)).images.count == 64
                    outcomes["unary, answered"] += 1
                except grpc.RpcError as error:
                    known = error.code() in not_admitted_codes and not_admitted.search(error.details())
                    outcomes[f"unary, {known[0] if known else f'LOST: {error.code()} {error.details()}'}"] += 1
                    time.sleep(0.05)

    def stream() -> None:
        asked = pb.StreamGenerateRequest(id="a", request=pb.GenerateRequest(model="gan", count=2_000))
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            received, is_last = 0, False
            try:
                for reply in ImageServiceStub(channel).StreamGenerate(iter([asked])):
                    received += reply.response.images.count
                    is_last = reply.last and not reply.error.code
            except grpc.RpcError as error:
                if received:
                    outcomes[f"stream, LOST after {received} images: {error.code()} {error.details()}"] += 1
            if is_last and received == 2_000:
                outcomes["stream, answered"] += 1
            elif received:
                outcomes[f"stream, LOST after {received} images"] += 1
            else:
                outcomes["stream, not admitted"] += 1
                time.sleep(0.05)

    with in_threads(draw, 4), in_threads(stream, 2):
        for _ in range(RESTARTS):
            time.sleep(1)
            stack("stop", "server")
            assert stack.inspect(stack("ps", "--all", "--quiet", "server"))["State"]["ExitCode"] == 0
            assert "drained too late" not in stack("logs", "--since", "10s", "server")
            stack("start", "server")
            # A published port may be another one after a start.
            address = stack.address("server", 50051)
            stack.up("server")
    print(f"\n{RESTARTS} restarts: {dict(outcomes)}")
    assert outcomes["unary, answered"] > 10 * RESTARTS
    assert outcomes["stream, answered"] > RESTARTS
    assert not [outcome for outcome in outcomes if "LOST" in outcome]


def test_a_server_that_is_killed_comes_back(stack: Stack):
    before = stack.inspect(stack.container("server"))
    os.kill(before["State"]["Pid"], 9)  # tini, whose end is the container's
    assert eventually(lambda: stack.inspect(stack.container("server"))["RestartCount"] > before["RestartCount"], 30)
    stack.up("server")
    with Client(stack.address("server", 50051)) as client:
        assert len(client.generate("gan", 4)) == 4


def test_the_memory_stays_below_its_limit_under_load(stack: Stack):
    with Client(stack.address("server", 50051)) as client:

        def flood() -> None:
            for _ in client.stream("vae", 20_000):
                pass

        with in_threads(flood, 4):
            time.sleep(20)
            container = stack.container("server")
            used = subprocess.run(
                ["docker", "stats", "--no-stream", "--format", "{{.MemPerc}}", container],
                capture_output=True,
                text=True,
            ).stdout
    print(f"\nmemory under load: {used.strip()} of 1 GiB")
    assert 0 < float(used.strip().rstrip("%")) < 80
    assert not stack.inspect(container)["State"]["OOMKilled"]
    assert stack.inspect(container)["HostConfig"]["Memory"] == 2**30


def test_envoy_spreads_calls_evenly(stack: Stack):
    stack.up("--scale", f"server={REPLICAS}", "server", "envoy")

    def handled() -> list[float]:
        expression = 'sum by (instance) (grpc_server_handled_total{grpc_method="Generate", grpc_code="OK"})'
        return [float(each["value"][1]) for each in stack.query(expression)]

    with Client(stack.address("envoy", 50050)) as client:

        def call() -> None:
            client.generate("gan", 4)

        with in_threads(call, 8):
            time.sleep(20)
    assert eventually(lambda: len(handled()) == REPLICAS, 30)
    time.sleep(6)  # a scrape of what was last
    calls = handled()
    print(f"\ncalls by replica: {calls}, most / least {max(calls) / min(calls):.2f}, mean {statistics.mean(calls):.0f}")
    assert max(calls) / min(calls) <= 1.3
