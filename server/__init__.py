"""Bundles -> images by gRPC: dynamic batching on onnxruntime, limits, metrics."""
