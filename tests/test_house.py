"""The lines between the parts of the house hold at run time."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("server.command", "torch training export figment_client"),
        ("figment.imaging", "grpc google.protobuf torch training server figment_client"),
        ("figment.images", "grpc torch onnxruntime"),
        ("figment_client.client", "torch onnxruntime server training"),
        ("evaluation.features", "training export server grpc onnx onnxruntime figment_client"),
        ("training.command", "onnx onnxruntime grpc server"),
        ("export.command", "server grpc prometheus_client"),
    ],
)
def test_importing_a_part_leaves_the_others_alone(module: str, absent: str):
    code = f"import sys, {module}; print([name for name in {absent.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["server.command", "export.command"])
def test_nobody_is_told_what_runs_here(module: str):
    code = f"import os, {module}; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
