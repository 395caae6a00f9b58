"""The generator in a bundle: its ONNX files by variant.

Manifest -> {"fp32": "generator.onnx", "int8": "generator.int8.onnx"}
"""

from figment.v1.manifest_pb2 import Manifest


def variants(manifest: Manifest) -> dict[str, str]:
    """Files of the generator by variant, fp32 first."""
    found = {graph.variant: file for file, graph in manifest.graphs.items() if graph.role == "generator"}
    return dict(sorted(found.items(), key=lambda pair: (pair[0] != "fp32", pair)))
