"""The compose files and the Dockerfile say what they should; that they work is tested by test_deploy_compose.py."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from server.settings import ServerSettings
from server.telemetry.metrics_http import MetricsPage

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "docker-compose.yml", ROOT / "deploy" / "compose.gpu.yml"]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILES[0].read_text())["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()

ONE_SHOT = {"trainer"}
BUILT = {"figment-server", "figment-trainer"}

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_files_are_valid_by_the_compose_specification(file: Path):
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_ends_or_has_a_health_check(name: str):
    checked_by_its_image = name == "server"
    assert (name in ONE_SHOT) == (SERVICES[name]["restart"] == "no")
    if name not in ONE_SHOT:
        assert "healthcheck" in SERVICES[name] or (checked_by_its_image and "\nHEALTHCHECK" in DOCKERFILE)


def test_no_health_check_asks_a_proxy():
    checks = [" ".join(service["healthcheck"]["test"]) for service in SERVICES.values() if "healthcheck" in service]
    checks += re.findall(r"^HEALTHCHECK.*\\\n(.*)$", DOCKERFILE, re.MULTILINE)
    assert len(checks) >= len(SERVICES) - len(ONE_SHOT)
    for check in checks:
        assert "urllib" not in check
        assert "wget" not in check or "-Y off" in check


def test_the_health_check_of_the_image_says_what_the_page_says(tmp_path: Path):
    (written,) = re.findall(r"^HEALTHCHECK.*\\\n +CMD (.*)$", DOCKERFILE, re.MULTILINE)
    _, _, program = json.loads(written)
    is_healthy = True
    page = MetricsPage(CollectorRegistry(), lambda: "" if is_healthy else "no model")
    address = page.listen("127.0.0.1:0")
    program = program.replace("9464", address.rpartition(":")[2])
    proxied = {**os.environ, "http_proxy": "http://127.0.0.1:1", "no_proxy": "", "NO_PROXY": ""}
    for is_healthy in (True, False):
        done = subprocess.run([sys.executable, "-c", program], env=proxied, capture_output=True, check=False)
        assert (done.returncode == 0) == is_healthy
    page.stop()


@each_service
def test_a_service_is_confined(service: dict[str, Any]):
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


@each_service
def test_an_image_is_one_of_ours_or_has_a_tag_that_stays(service: dict[str, Any]):
    assert service["image"] in BUILT or re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", service["image"])


@each_service
def test_what_is_mounted_is_there(service: dict[str, Any]):
    for mount in service.get("volumes", []):
        path = re.sub(r"^\${\w+:-(.+?)}", r"\1", mount).split(":")[0]
        assert (ROOT / path).exists() or path in yaml.safe_load(FILES[0].read_text())["volumes"]
        assert mount.endswith(":ro") or service["image"] == "figment-trainer" or not path.startswith("./")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_target_is_one_of_the_dockerfile(file: Path):
    stages = re.findall(r"^FROM .+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    asked = re.findall(r"target: (\S+)", file.read_text())
    assert asked
    assert set(asked) <= set(stages)
    assert stages[-1] == "server", "the default target"


def test_variables_of_the_server_are_settings():
    given = {*SERVICES["server"]["environment"], *re.findall(r"FIGMENT_\w+(?==)", DOCKERFILE)}
    assert given
    for name in given:
        first, *rest = name.removeprefix("FIGMENT_").lower().split("__")
        field = ServerSettings.model_fields[first]
        if rest:
            assert rest[0] in field.annotation.model_fields


def test_the_variables_of_the_composition_are_documented():
    used = {name for file in FILES for name in re.findall(r"\${(\w+)", file.read_text())}
    in_operations = (ROOT / "docs" / "operations.md").read_text()
    assert not [name for name in used if f"`{name}`" not in in_operations]
    assert not [name for name in used if not re.search(rf"^#.*\b{name}\b", FILES[0].read_text(), re.MULTILINE)]


def test_a_server_may_take_longer_to_stop_than_its_requests():
    grace_s = float(SERVICES["server"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > ServerSettings().drain_s


def test_the_image_has_nothing_but_what_it_installs():
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")
    assert all((ROOT / name).exists() for name in kept)
