"""Prometheus's own judgement of its configuration, the rules, their tests and the metrics page.

Asks promtool on the PATH, or in the image that docker-compose.yml runs Prometheus from.
"""

import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from server.app import App

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"

IMAGE = "prom/prometheus:v3.5.0"

pytestmark = pytest.mark.deploy


@pytest.fixture(scope="module")
def promtool() -> list[str]:
    """The command that runs promtool in deploy/prometheus."""
    if found := shutil.which("promtool"):
        return [found]
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "image", "inspect", IMAGE], capture_output=True).returncode:
        pytest.fail(f"there is neither promtool on the PATH nor a Docker engine with the image {IMAGE}")
    mounts = ["--volume", f"{PROMETHEUS}:/etc/prometheus:ro", "--workdir", "/etc/prometheus"]
    return [docker, "run", "--rm", "--interactive", *mounts, "--entrypoint", "promtool", IMAGE]


def judged(promtool: list[str], *arguments: str, page: str = "") -> None:
    """Run promtool; the test fails with what it says unless it is content."""
    done = subprocess.run([*promtool, *arguments], cwd=PROMETHEUS, input=page, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_accepted(promtool: list[str]):
    judged(promtool, "check", "config", "prometheus.yml")


def test_the_rules_are_accepted(promtool: list[str]):
    judged(promtool, "check", "rules", *(f"rules/{path.name}" for path in sorted((PROMETHEUS / "rules").glob("*.yml"))))


@pytest.mark.parametrize("name", sorted(path.name for path in (PROMETHEUS / "tests").glob("*.yml")))
def test_the_rules_do_what_their_tests_expect(promtool: list[str], name: str):
    judged(promtool, "test", "rules", f"tests/{name}")


def test_the_page_of_a_started_server_is_accepted(promtool: list[str], server: App):
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics") as response:
        judged(promtool, "check", "metrics", page=response.read().decode())
