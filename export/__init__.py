"""Run folder -> bundle: verified, optimised ONNX that the server reads."""
