"""The core that all share: what it needs, what it leaves alone, and what its distribution names."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import figment

CORE = Path(figment.__file__).parents[1]

WITHOUT_GRPC = """
import sys
sys.modules["grpc"] = sys.modules["torch"] = sys.modules["google"] = None  # importing them fails
import numpy as np
from figment.images import Images
Images(np.zeros((5, 8, 8, 3), np.uint8)).save({path!r})
"""


@pytest.mark.parametrize("module", ["figment.images", "figment.cli.command", "figment.bundles", "figment.machine"])
def test_importing_what_is_no_message_leaves_grpc_out(module: str):
    code = f"import sys, {module}; sys.exit('grpc' in sys.modules or 'google.protobuf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(CORE)}, check=False).returncode == 0


def test_a_grid_is_made_where_neither_grpc_nor_torch_is_installed(tmp_path: Path):
    path = tmp_path / "grid.png"
    code = WITHOUT_GRPC.format(path=str(path))
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(CORE)}, check=True)
    assert path.exists()


def test_training_needs_neither_grpc_nor_the_client():
    project = tomllib.loads((CORE.parent / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    assert not [each for each in needed if each.startswith(("grpc", "figment-client", "onnx"))]


def test_the_distribution_names_packages_and_a_command_that_exist():
    project = tomllib.loads((CORE / "pyproject.toml").read_text())
    module, _, name = project["project"]["scripts"]["figment"].partition(":")
    assert callable(getattr(import_module(module), name))
    for package in project["tool"]["setuptools"]["packages"]:
        assert (CORE / package.replace(".", "/") / "__init__.py").exists() or package == "figment.v1"
