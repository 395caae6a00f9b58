"""From a source to a published bundle.

    Source -> exact graphs, verified -> lossy variants, verified and compared -> speed -> manifest, samples -> one rename

Nothing is published unless every exact graph passes its check. A lossy variant that fails its own, draws images of another
quality or is no faster here is left out, and the reason told.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export import bundle
from export.errors import ParityError, VariantRefused
from export.golden import GOLDEN_SEED, golden_inputs
from export.graphs import compose
from export.measure import images_per_s, measure, require_device
from export.pixels import IMAGES
from export.quality_gate import QualityGate
from export.sessions import Arrays, run, session
from export.source import Source
from export.variants import LOSSY, Device
from export.verify import BATCH_SIZES, GREY_LEVELS, verify
from figment.bundles import FORMAT, LossyVariant
from figment.images import Images
from figment.v1.manifest_pb2 import Drift, Manifest

FP32 = "fp32"

GOLDEN_IMAGES = 16

LOSSY_GREY_LEVELS = 4.0
"""Tolerance of a lossy variant's golden images: where another processor rounds one activation the other way, the layers
after it make more of it."""

CALIBRATION_SEED = GOLDEN_SEED + 1
CALIBRATION_IMAGES = 512


@dataclass(frozen=True)
class Plan:
    """What is done beyond the exact graphs.

    variants   lossy variants to try; whether one is faster is measured on `device`
    measure    measure the speed of every graph on `device`
    evaluate   measure the quality of the exact graphs
    """

    variants: tuple[LossyVariant, ...] = ()
    measure: bool = False
    evaluate: bool = False
    device: Device = "cpu"


@dataclass(frozen=True)
class Published:
    """A version of a model that was published, and why variants that were tried are not in it."""

    folder: Path
    manifest: Manifest
    left_out: list[str] = field(default_factory=list)


EXACT = Plan()


def publish(source: Source, models: Path, name: str, plan: Plan = EXACT) -> Published:
    """Publish `source` as the next version of `name` in `models`.

    Raises: ExportError.
    """
    return make_and_publish(lambda: source, models, name, plan)


def make_and_publish(make: Callable[[], Source], models: Path, name: str, plan: Plan = EXACT) -> Published:
    """`publish` of what `make` gives, which is called when the model's folder is known to be free and writable.

    Raises: ExportError, and what `make` raises.
    """
    with bundle.model_folder(models, name) as folder:
        published = _next_version(make(), folder, plan)
        bundle.write_triton_config(published.manifest, folder)
    return published


def _next_version(source: Source, model: Path, plan: Plan) -> Published:
    left_out: list[str] = []
    with bundle.new_version(model) as (folder, version):
        manifest = Manifest(format=FORMAT)
        manifest.MergeFrom(source.facts)
        manifest.name, manifest.version = model.name, version
        gate = QualityGate(source)
        writer = _VersionWriter(source, folder, manifest)
        writer.add_exact()
        if plan.device != "cpu" and (plan.measure or plan.variants):
            require_device(plan.device, folder / "generator.onnx", len(manifest.labels))
        for variant in plan.variants:
            try:
                left_out += writer.add_variant(variant, gate)
            except (VariantRefused, ParityError) as reason:
                left_out.append(str(reason))
        if plan.measure or plan.variants:
            left_out += writer.measure(plan.device)
        if plan.evaluate:
            manifest.quality.update(gate.quality())
            manifest.judged_by = gate.judged_by
        writer.finish()
    return Published(model / version, manifest, left_out)


class _VersionWriter:
    """Writes one version: its graphs, and what is known of them by then."""

    def __init__(self, source: Source, folder: Path, manifest: Manifest) -> None:
        self._source = source
        self._folder = folder
        self._manifest = manifest
        self._labels = len(manifest.labels)
        self._tensors: Arrays = golden_inputs(max(BATCH_SIZES), manifest.noise_dim, self._labels)
        self._golden: dict[str, Any] = {"tolerance": np.float32(GREY_LEVELS)}

    def add_exact(self) -> None:
        """Verify and write every graph; each one's inputs are the outputs of those before it."""
        for role, graph in self._source.graphs.items():
            outputs = self._add(role, FP32, graph)
            if role == "generator" and not np.array_equal(outputs[IMAGES], self._tensors.get(IMAGES, outputs[IMAGES])):
                # Interpolate's ends would not be Generate's images.
                raise ParityError("generator.onnx: gives other bytes than decoder.onnx after prior.onnx")
            self._tensors |= outputs
        for name, array in self._tensors.items():
            if name in {"noise", "label", IMAGES}:
                self._golden["labels" if name == "label" else name] = array[:GOLDEN_IMAGES]

    def add_variant(self, variant: LossyVariant, gate: QualityGate) -> list[str]:
        """Convert the graphs, let them pass the gate, verify and write them; returns why there is no encoder, if there should be.

        Raises: VariantRefused, if it draws worse images than it may.
        """
        exact = self._source.graphs
        decoder = "decoder" if "decoder" in exact else "generator"
        inputs = golden_inputs(CALIBRATION_IMAGES, self._manifest.noise_dim, self._labels, CALIBRATION_SEED)
        if "prior" in exact:
            inputs |= run(session(exact["prior"]), {"noise": inputs["noise"]})
        graphs = {decoder: self._converted(variant, decoder, inputs)}
        if "prior" in exact:
            graphs["generator"] = compose(exact["prior"], graphs[decoder])
        drift = gate.drift_of_samples(f"generator.{variant}.onnx", graphs["generator"])
        for role, graph in graphs.items():
            outputs = self._add(role, variant, graph, drift)
        self._golden[f"images_{variant}"] = outputs[IMAGES][:GOLDEN_IMAGES]
        self._golden[f"tolerance_{variant}"] = np.float32(LOSSY_GREY_LEVELS)
        if "encoder" in exact:
            try:
                encoder = self._converted(variant, "encoder", gate.encoder_inputs(CALIBRATION_IMAGES))
                drift = gate.drift_of_reconstructions(f"encoder.{variant}.onnx", encoder, graphs[decoder])
                self._add("encoder", variant, encoder, drift)
            except (VariantRefused, ParityError) as reason:
                return [str(reason)]
        return []

    def measure(self, device: Device) -> list[str]:
        """Measure every graph, and take out variants that are no faster than the exact graph; says which."""
        kinds = {file: (graph.role, graph.variant) for file, graph in self._manifest.graphs.items()}
        measured = measure([self._folder / file for file in kinds], device, self._labels)
        slow: list[str] = []
        for file, (role, variant) in kinds.items():
            rate, exact = images_per_s(measured, file), images_per_s(measured, f"{role}.onnx")
            if variant != FP32 and role in {"generator", "encoder"} and rate <= exact:
                slow.append(
                    f"{file}: {rate:.0f} images/s on {device}, the fp32 graph makes {exact:.0f}: not worth its loss"
                )
                # A generator that is left out takes the whole variant with it.
                removed = (
                    {each for each, kind in kinds.items() if kind[1] == variant} if role == "generator" else {file}
                )
                for each in removed & set(self._manifest.graphs):
                    self._remove(each)
        self._manifest.measured.extend(each for each in measured if each.graph in self._manifest.graphs)
        return slow

    def finish(self) -> None:
        """Write golden.npz, samples.png and manifest.json."""
        np.savez(self._folder / "golden.npz", **self._golden)
        Images(self._tensors[IMAGES]).save(self._folder / "samples.png")
        bundle.write_manifest(self._manifest, self._folder)

    def _converted(self, variant: LossyVariant, role: str, inputs: Arrays) -> onnx.ModelProto:
        graph = self._source.graphs[role]
        names = {node.name for node in graph.graph.input}
        own = {name: array for name, array in inputs.items() if name in names}
        converted = LOSSY[variant].convert(graph, own)
        if converted is None:
            raise VariantRefused(f"{role}.{variant}.onnx: {role}.onnx has no layers that are worth it")
        return converted

    def _add(self, role: str, variant: str, graph: onnx.ModelProto, drift: dict[str, Drift] | None = None) -> Arrays:
        """Verify a graph and write it. Returns its outputs. Raises: ParityError."""
        file = f"{role}.onnx" if variant == FP32 else f"{role}.{variant}.onnx"
        inputs = {node.name: self._tensors[node.name] for node in graph.graph.input}
        networks, in_float64 = partial(self._source.networks, role), self._source.in_float64
        by_float64 = partial(in_float64, role) if in_float64 else None
        parity, outputs = verify(file, graph, inputs, networks, by_float64, is_exact=variant == FP32)
        for name, distances in (drift or {}).items():
            parity.drift[name].CopyFrom(distances)
        onnx.save(graph, self._folder / file)
        opset = next(each.version for each in graph.opset_import if not each.domain)
        self._manifest.graphs[file].CopyFrom(bundle.graph_entry(self._folder / file, role, variant, opset))
        self._manifest.parity[file].CopyFrom(parity)
        return outputs

    def _remove(self, file: str) -> None:
        graph = self._manifest.graphs[file]
        (self._folder / file).unlink()
        if graph.role == "generator":
            del self._golden[f"images_{graph.variant}"], self._golden[f"tolerance_{graph.variant}"]
        del self._manifest.graphs[file], self._manifest.parity[file]
