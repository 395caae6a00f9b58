"""From a run folder to a published bundle.

    run folder -> model -> [role -> graph -> verify] ... -> golden images, sheet, manifest -> one rename

Nothing is published unless every graph passes its check.
"""

from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export import bundle
from export.errors import ParityError
from export.golden import golden_inputs
from export.graphs import OPSET, Role, roles, write_graph
from export.verify import BATCH_SIZES, GREY_LEVELS, Arrays, verify
from figment.v1.manifest_pb2 import Manifest
from figment_client.images import Images
from training.model import Model
from training.run import read_provenance

VARIANT = "fp32"
GOLDEN_IMAGES = 16


def export(run: Path, models: Path, name: str) -> Path:
    """Publish the model of the finished run `run` as the next version of `name` in `models`; return its folder.

    Raises: ExportError, RunFolderError.
    """
    model = Model.load(run)
    provenance = read_provenance(run)
    with bundle.new_version(models, name) as (folder, version):
        manifest = _manifest(model, name, version, run, provenance)
        known: Arrays = dict(golden_inputs(max(BATCH_SIZES), model.noise_dim, len(model.label_names)))
        # In the order of `roles` each graph's inputs are known: the generator's images feed the encoder.
        for role in roles(model):
            path = folder / f"{role.name}.onnx"
            inputs = {name: known[name] for name in role.inputs}
            write_graph(role, {name: torch.from_numpy(array[:2]) for name, array in inputs.items()}, path)
            parity, outputs = verify(role, path, inputs)
            manifest.graphs[path.name].CopyFrom(bundle.graph_entry(path, role.name, VARIANT, OPSET))
            manifest.parity[path.name].CopyFrom(parity)
            _check_same_images(role, known, outputs)
            known |= outputs
        _write_golden(folder, known)
        Images(known["images"]).save(folder / "samples.png")
        bundle.write_manifest(manifest, folder)
    bundle.write_triton_config(manifest, models / name)
    return models / name / version


def _manifest(model: Model, name: str, version: str, run: Path, provenance: dict[str, Any]) -> Manifest:
    manifest = Manifest(
        format=bundle.FORMAT,
        name=name,
        version=version,
        family=model.family,
        height=model.architecture.size,
        width=model.architecture.size,
        channels=model.architecture.channels,
        noise_dim=model.noise_dim,
        latent_dim=model.architecture.latent_dim,
        labels=model.label_names,
    )
    settings = provenance["settings"]
    manifest.provenance.run = run.resolve().name
    manifest.provenance.data = settings["data"]
    manifest.provenance.data_sha256 = provenance["data"]["sha256"]
    manifest.provenance.seed = settings["seed"]
    manifest.provenance.images = settings["images"]
    manifest.provenance.versions.update(provenance["versions"])
    manifest.provenance.versions.update({package: package_version(package) for package in ("onnx", "onnxscript")})
    return manifest


def _check_same_images(role: Role, known: Arrays, outputs: Arrays) -> None:
    """The decoder after the prior must give the generator's bytes, or Interpolate's ends would not be Generate's."""
    if role.name == "decoder" and not np.array_equal(known["images"], outputs["images"]):
        differing = float((known["images"] != outputs["images"]).mean())
        raise ParityError(f"decoder.onnx: {differing:.2%} of the values after prior.onnx are not generator.onnx's")


def _write_golden(folder: Path, known: Arrays) -> None:
    """golden.npz: inputs of the generator, the images that they must give, and the tolerance in grey levels."""
    named = {"noise": "noise", "label": "labels", "images": "images"}
    arrays: dict[str, Any] = {new: known[old][:GOLDEN_IMAGES] for old, new in named.items() if old in known}
    np.savez(folder / "golden.npz", tolerance=np.float32(GREY_LEVELS), **arrays)
