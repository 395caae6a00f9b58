"""The main job as a user does it: train a few steps, export, serve on a free port, generate; by the command's verbs."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from evaluation import features
from export import measure, quality_gate, starter
from export.bundle import read_manifest, write_manifest
from figment.cli.command import main
from training.sources import load

pytestmark = pytest.mark.slow

README = Path(__file__).parent.parent / "README.md"
FIGMENT = [str(Path(sys.executable).parent / "figment")]


def figment(*arguments: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [*FIGMENT, *arguments], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """A folder as the README assumes it: a user's photos, a generator from elsewhere, models trained for a few steps."""
    home = tmp_path_factory.mktemp("home")
    pictures = home / "photos"
    pictures.mkdir()
    draws = np.random.default_rng(0)
    for number in range(20):
        Image.fromarray(draws.integers(0, 256, (40, 48, 3), np.uint8)).save(pictures / f"{number}.jpg")
    (home / "digits").mkdir()
    for number, image in enumerate(load("digits", None).images[:3]):
        Image.fromarray(image[..., 0]).save(home / "digits" / f"{number}.png")
    foreign = nn.Sequential(nn.ConvTranspose2d(8, 16, 4), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 4), nn.Tanh()).eval()
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(foreign, (torch.zeros(1, 8, 1, 1),), home / "dcgan.onnx", dynamo=False, opset_version=17)
    for name in starter.STARTERS:
        version = shutil.copytree(models / name.removeprefix("digits-") / "1", home / "models" / name / "1")
        manifest = read_manifest(version)
        manifest.name = name
        write_manifest(manifest, version)
    for name in starter.ready_made():
        starter.copy_ready(home / "models", name)
    return home


@contextmanager
def serving(home: Path, *options: str) -> Iterator[str]:
    """`figment serve` on free ports, stopped at the end: its address."""
    ports = ["--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]
    process = subprocess.Popen([*FIGMENT, "serve", *options, *ports], cwd=home, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    match = re.match(
        r"serving .*digits-gan, digits-hybrid, digits-vae, .*openmoji-hybrid\b.* on (\S+),", process.stdout.readline()
    )
    assert match
    yield match[1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with serving(home, "--models", "models") as address:
        yield address


def test_what_was_trained_and_exported_is_served_and_drawn(home: Path, address: str):
    said = figment(
        "generate",
        "digits-gan",
        "--count",
        "16",
        "--seed",
        "7",
        "--out",
        "sheet.png",
        cwd=home,
        FIGMENT_ADDRESS=address,
    )
    assert "repeat with --seed 7" in said
    with Image.open(home / "sheet.png") as sheet:
        assert sheet.size[0] == sheet.size[1] >= 4 * 32
    options = ["--count", "16", "--seed", "7"]
    figment("generate", "digits-gan", *options, "--out", "a.npy", "--address", address, cwd=home)
    figment("generate", "digits-gan", *options, "--out", "b.npy", "--address", address, cwd=home)
    assert np.load(home / "a.npy").shape == (16, 32, 32, 1)
    assert (home / "a.npy").read_bytes() == (home / "b.npy").read_bytes()


def commands_of_the_readme() -> list[str]:
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("figment ")]


def test_the_readme_shows_every_verb():
    shown = {shlex.split(command)[1] for command in commands_of_the_readme()}
    assert {
        "train",
        "evaluate",
        "compare",
        "export",
        "import",
        "bench",
        "serve",
        "generate",
        "interpolate",
        "models",
    } <= shown


@pytest.mark.parametrize("command", commands_of_the_readme())
def test_every_command_of_the_readme_works(
    home: Path, address: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """In this process but for servers; trainings are short, and of small networks and images, and few are judged and measured."""
    words = shlex.split(command)[1:]
    if words[0] == "serve":
        with serving(home, *words[1:]):
            return
    words = [name for status in words for name in (_matches(home, status) if "*" in status else [status])]  # as a shell
    if words[0] == "train":
        words = [{"small": "tiny", "64": "16"}.get(status, status) for status in words] + ["--batch", "16"]
    if words[0] in {"train", "evaluate", "compare"}:
        words += ["--images", "64"]
    monkeypatch.setattr(features, "EPOCHS", 1)
    monkeypatch.setattr(quality_gate, "IMAGES_DRAWN", 256)
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "usable_cpus", lambda: 1)
    monkeypatch.setenv("FIGMENT_ADDRESS", address)
    monkeypatch.chdir(home)
    status = main(words)
    assert status == 0, capsys.readouterr().err


def _matches(home: Path, pattern: str) -> list[str]:
    return [str(path.relative_to(home)) for path in sorted(home.glob(pattern))]


def test_the_readmes_python_runs(home: Path, address: str):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    code = code.replace("Client()", f"Client({address!r})")
    subprocess.run([sys.executable, "-c", code], cwd=home, check=True)


def test_starters_are_made_only_where_nothing_else_is(tmp_path: Path):
    assert starter.missing_starters(tmp_path / "none") == ["openmoji-hybrid", *starter.STARTERS]
    _publish(tmp_path / "digits-vae")
    assert starter.missing_starters(tmp_path) == ["openmoji-hybrid", "digits-gan", "digits-hybrid"]
    _publish(tmp_path / "my-faces")
    assert starter.missing_starters(tmp_path) == []


def test_what_is_no_model_does_not_stand_for_one(tmp_path: Path):
    (tmp_path / "digits-vae" / ".1.writing").mkdir(parents=True)  # of an export that was cut off
    (tmp_path / "digits-gan" / "1").mkdir(parents=True)  # a version without a manifest
    (tmp_path / "lost+found").mkdir()
    _publish(tmp_path / ".ipynb_checkpoints")
    (tmp_path / "README").touch()
    assert starter.missing_starters(tmp_path) == ["openmoji-hybrid", *starter.STARTERS]


def _publish(model: Path) -> None:
    """What a model is known by."""
    (model / "1").mkdir(parents=True)
    (model / "1" / "manifest.json").touch()


def test_starters_are_copied_or_trained_and_left_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(starter, "STARTERS", {"digits-gan": {"family": "gan", "images": 256}})
    (ready,) = starter.ready_made()
    assert starter.copy_ready(tmp_path, ready) == tmp_path / "openmoji-hybrid" / "1"
    starter.make_starters(tmp_path, ["digits-gan"])
    assert (tmp_path / "digits-gan" / "1" / "manifest.json").exists()
    assert starter.missing_starters(tmp_path) == []
