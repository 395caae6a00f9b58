"""Bundles -> images by gRPC: dynamic batching on onnxruntime, limits, metrics."""

import os

# gRPC's listener on its event engine wakes threads of its own for each call; without them a call costs a tenth less CPU.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")

# onnxruntime tells its makers names and hashes of graphs by default, since 1.29.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# gRPC's C library writes to standard error itself, in a form of its own; what it has to say comes as statuses and exceptions too.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
