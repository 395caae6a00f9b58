"""Run folder -> bundle: verified, optimised ONNX that the server reads."""

import os

# onnxruntime tells its makers names and hashes of graphs by default, since 1.29.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
