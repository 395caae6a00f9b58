"""Processes of a server that are killed, hang, or find another folder of models: no wrong byte, no hang, and words."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from export.bundle import read_manifest, write_manifest
from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from server.errors import CannotStart
from server.processes.process import HUNG_BEATS, Process
from server.processes.supervisor import Supervisor
from tests.fakes.servers import connect, healthz, metric, running_server

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def one(models: Path, tmp_path: Path) -> Path:
    """A folder with the model vae, to be changed."""
    shutil.copytree(models / "vae", tmp_path / "models" / "vae")
    return tmp_path / "models"


def replace(models: Path, folder: Path) -> None:
    """Put the graphs of another model of the same shape, hybrid, in the place of vae 1."""
    version = folder / "vae" / "1"
    shutil.rmtree(version)
    shutil.copytree(models / "hybrid" / "1", version)
    manifest = read_manifest(version)
    manifest.name = "vae"
    write_manifest(manifest, version)


def until(is_so: object, timeout_s: float = 60) -> None:
    """Return when something is so that only looking tells."""
    until_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until_s, "never so"
        time.sleep(0.02)


def hang(process: Process) -> None:
    """Stop a process, and have its supervisor miss it for as long as it takes."""
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: " T " in Path(f"/proc/{process.pid}/stat").read_text())

    def miss() -> None:
        for _ in range(HUNG_BEATS):
            process.beat()

    process._life.get_loop().call_soon_threadsafe(miss)


def kill(process: Process) -> None:
    failures = process.failures
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: process.failures > failures)


def ask(first: int = 0, count: int = 1) -> pb.GenerateRequest:
    return pb.GenerateRequest(model="vae", seed=7, first_index=first, count=count)


@contextmanager
def bulk(several: Supervisor) -> Iterator[Iterator[pb.StreamGenerateResponse]]:
    """The answers to a request of 1,000,000 images."""
    with connect(several) as channel:
        asked = iter([pb.StreamGenerateRequest(id="bulk", request=ask(count=1_000_000))])
        yield ImageServiceStub(channel).StreamGenerate(asked)


def test_engines_that_start_again_serve_what_is_left_and_nothing_new_is_told_to_be_of_the_old_engine(
    models: Path, one: Path
):
    shutil.copytree(models / "gan", one / "gan")
    with running_server(one, gateways=2, engines="shared") as several, bulk(several) as answers, ExitStack() as stack:
        old = ImageServiceStub(stack.enter_context(connect(several))).Generate(ask(count=8))
        assert next(answers).response.engine == old.engine
        replace(models, one)
        shutil.rmtree(one / "gan")
        kill(several.engines)
        *pieces, last = answers
        assert {piece.response.engine for piece in pieces} <= {old.engine}
        assert last.error.code == UNAVAILABLE.value[0]
        until(lambda: healthz(several)[0] == 200)
        stub = ImageServiceStub(stack.enter_context(connect(several)))
        new = stub.Generate(ask(count=8), wait_for_ready=True)
        assert new.engine != old.engine
        assert new.images.data[0] != old.images.data[0]
        with pytest.raises(grpc.RpcError, match="its folder is gone since the server started") as refused:
            stub.Generate(pb.GenerateRequest(model="gan", count=1))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_gateway_serves_what_the_others_do_or_stays_out_until_it_can(models: Path, one: Path):
    kept = shutil.copytree(one, one.parent / "kept")
    with running_server(one, gateways=2, engines="own") as several:
        engines = {version.engine for gateway in several.gateways for version in gateway.versions}
        assert len(engines) == 1
        shutil.copytree(one / "vae" / "1", one / "vae" / "2")
        replace(models, one)
        kill(several.gateways[0])
        until(lambda: "its folder was replaced" in healthz(several)[1])
        assert drawn_by_all(several) == engines
        shutil.rmtree(one / "vae" / "1")
        shutil.copytree(kept / "vae" / "1", one / "vae" / "1")
        until(lambda: healthz(several)[0] == 200)
        assert drawn_by_all(several) == engines
        assert [[v.version for v in gateway.versions] for gateway in several.gateways] == [["1"], ["1"]]


def drawn_by_all(several: Supervisor) -> set[str]:
    """The engines that answer on 12 connections."""
    with ExitStack() as stack:
        stubs = [ImageServiceStub(stack.enter_context(connect(several))) for _ in range(12)]
        return {stub.Generate(ask(), wait_for_ready=True, timeout=60).engine for stub in stubs}


@pytest.mark.parametrize("engines", ["own", "shared"])
def test_a_process_that_finds_no_models_any_more_stays_out_until_they_are_back(one: Path, engines: str):
    with running_server(one, gateways=2, engines=engines) as several:
        one.rename(one.parent / "away")
        kill(several.engines or several.gateways[0])
        until(lambda: "its folder is gone" in healthz(several)[1])
        assert healthz(several)[0] == 503
        with ExitStack() as stack:
            stubs = [ImageServiceStub(stack.enter_context(connect(several))) for _ in range(12)]
            codes = {stub.Generate.future(ask()).code() for stub in stubs}
        assert codes == ({UNAVAILABLE} if engines == "shared" else {grpc.StatusCode.OK})
        (one.parent / "away").rename(one)
        until(lambda: healthz(several)[0] == 200)
        assert len(drawn_by_all(several)) == 1


@pytest.mark.parametrize(("which", "how"), [("gateway", hang), ("own gateway", kill), ("engines", hang)])
def test_under_load_whatever_is_lost_is_told_and_nothing_is_wrong(only_vae: Path, which: str, how: object):
    engines = "own" if which == "own gateway" else "shared"
    with running_server(only_vae, gateways=2, engines=engines) as several, ExitStack() as stack:
        stubs = [ImageServiceStub(stack.enter_context(connect(several))) for _ in range(4)]
        expected = stubs[0].Generate(ask(count=200)).images.data[0]
        size = len(expected) // 200
        is_over = threading.Event()

        def load(number: int) -> list[grpc.StatusCode]:
            codes = []
            while not is_over.is_set():
                first, count = (17 * len(codes) + number) % 150, 1 + number * 12
                call = stubs[number].Generate.future(ask(first, count), timeout=60)
                codes.append(call.code())
                if codes[-1] is grpc.StatusCode.OK:
                    assert call.result().images.data[0] == expected[first * size : (first + count) * size]
                else:
                    time.sleep(0.01)
            return codes

        with ThreadPoolExecutor(len(stubs)) as pool:
            loads = [pool.submit(load, number) for number in range(len(stubs))]
            process = several.engines if which == "engines" else several.gateways[0]
            try:
                how(process)
                until(lambda: process.failures == 1 and healthz(several)[0] == 200)
            finally:
                is_over.set()
            codes = {code for each in loads for code in each.result()}
        assert codes <= {grpc.StatusCode.OK, UNAVAILABLE}
        for stub in stubs:
            assert stub.Generate(ask(count=200), wait_for_ready=True).images.data[0] == expected
        until(lambda: metric(several, "figment_queue_images") == 0)


def test_modules_of_the_same_names_in_the_current_folder_and_what_a_library_prints_change_nothing(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("server", "numpy", "figment", "json"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "__init__.py").write_text("raise SystemExit('the wrong module')")
    (tmp_path / "sitecustomize.py").write_text("print('junk'); print('{\"ready\": 1}', end='')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path / "work")
    with capture_logs() as lines, running_server(one, gateways=2, engines="shared") as several:
        assert healthz(several) == (200, "serving\n")
    junk = {line["line"] for line in lines if line["event"] == "process said what is no word"}
    assert junk == {"junk", '{"ready": 1}'}


def test_a_server_whose_processes_cannot_be_started_says_why(one: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("server.processes.supervisor.sys.executable", "/nowhere/python")
    with (
        pytest.raises(CannotStart, match=r"gateway-0: cannot be started: .*/nowhere/python"),
        running_server(one, gateways=2),
    ):
        pass
