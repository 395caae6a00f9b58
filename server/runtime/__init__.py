"""onnxruntime: devices, sessions, the engine, and loading with its self-test."""
