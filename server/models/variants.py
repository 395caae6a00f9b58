"""Which variant of a version is served, and which of its files are that variant's graphs.

    manifest, variant asked for, provider -> resolve() -> files_of() -> {role: file}

Reads manifests only: knows neither the files nor onnxruntime.
"""

from math import inf

from figment.bundles import FP32
from figment.v1.manifest_pb2 import Manifest
from server.errors import BundleRefused
from server.settings import Choice


def resolve(manifest: Manifest, choice: Choice, provider: str) -> str:
    """The variant to serve; with "auto" by what was measured on `provider`, an execution provider of onnxruntime.

    Raises: BundleRefused, if there is no generator of the variant or the decoder is of another one.
    """
    variant = _fastest(manifest, provider) if choice == "auto" else choice
    available = sorted(graph.variant for graph in manifest.graphs.values() if graph.role == "generator")
    if variant not in available:
        others = f"there are {', '.join(available)}" if available else "there are none"
        raise BundleRefused(f"manifest.json: there is no generator of variant {variant}; {others}")
    decoder = files_of(manifest, variant).get("decoder")
    if decoder and manifest.graphs[decoder].variant != variant:
        # An interpolation, which is decoded, begins and ends with the images that the generator draws.
        raise BundleRefused(
            f"manifest.json: the generator is of variant {variant}, so the decoder must be; there is only {decoder}"
        )
    return variant


def files_of(manifest: Manifest, variant: str) -> dict[str, str]:
    """The file of each role when `variant` is served: that variant's graph, or the fp32 one where there is none."""
    graphs = sorted(manifest.graphs.items())
    exact = {graph.role: file for file, graph in graphs if graph.variant == FP32}
    return exact | {graph.role: file for file, graph in graphs if graph.variant == variant}


def _fastest(manifest: Manifest, provider: str) -> str:
    """The variant whose generator gains most over fp32 where both were measured, by the setting that it gains least in."""
    settings: dict[tuple[str, int], dict[str, float]] = {}
    for measured in manifest.measured:
        graph = manifest.graphs.get(measured.graph)
        if graph and graph.role == "generator" and measured.provider == provider and 0 < measured.images_per_s < inf:
            rates = settings.setdefault((measured.machine, measured.threads), {})
            rates[graph.variant] = max(rates.get(graph.variant, 0), measured.images_per_s)
    gains = {FP32: 1.0}
    for rates in settings.values():
        for variant in rates if FP32 in rates else ():
            gain = rates[variant] / rates[FP32]
            gains[variant] = min(gains.get(variant, inf), gain)
    return max(gains, key=gains.__getitem__)
