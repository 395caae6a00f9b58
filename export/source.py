"""What a bundle is made of: facts, exact graphs, the networks that they must agree with, and real images.

    run folder -> Model -> [role -> torch.onnx -> optimise] ... -> Source

Knows runs and graphs; what is done with them is the business of `publish`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import onnx
import torch

from evaluation.reference import RealImages
from export.errors import ExportError
from export.graphs import Role, compose, roles, to_onnx, to_proto
from export.optimise import optimise
from export.sessions import Arrays
from figment.v1.manifest_pb2 import Manifest, Provenance
from training.architecture import MapArchitecture
from training.code_prior import CodePrior
from training.data import ImageSet
from training.errors import DataError
from training.model import Model
from training.outcome import Outcome, read_run
from training.record import Record
from training.settings import TrainSettings
from training.trainer import load_images

HELD_OUT = 0.2
"""Part of real images that are of no training which is held out: reconstructions are measured on it, distances on the others."""

NO_DATA = "quality is measured against real images; --data tells where they are"

EXAMPLE_ROWS = 2
"""Rows of the inputs that torch traces with: with one, it would take the batch axis for a constant."""


@dataclass(frozen=True)
class Data:
    """Real images of the kind that the model draws: those it has seen, and those kept back."""

    seen: ImageSet
    held_out: ImageSet


def real_images(images: ImageSet) -> RealImages:
    """A set of images as the evaluation takes it."""
    return RealImages(images.images, images.labels, images.label_names)


@dataclass(frozen=True)
class Source:
    """Everything that a bundle is made of.

    facts      a manifest with neither name nor version nor graphs
    graphs     exact graphs by role; each one's inputs are known from the outputs of those before it
    networks   what the graph of a role must give: images as unrounded grey levels (N, H, W, C) float32
    data       loads real images. Raises: ExportError, if there are none
    note       what a person should know of how it was read; "" where there is nothing to tell
    in_float64 what the networks give, in float64; None where only a graph is there
    """

    facts: Manifest
    graphs: dict[str, onnx.ModelProto]
    networks: Callable[[str, Arrays], Arrays]
    data: Callable[[], Data]
    note: str = ""
    in_float64: Callable[[str, Arrays], Arrays] | None = None


def from_run(run: Path, data: str | None = None) -> Source:
    """The model of `run`, of an unfinished one that of its last checkpoint.

    data: real images to judge by, in place of what it was trained on.

    Raises: ExportError, RunFolderError.
    """
    outcome = read_run(run)
    model = outcome.model
    by_name = {role.name: role for role in roles(model)}
    graphs: dict[str, onnx.ModelProto] = {}
    for name in ("prior", "decoder", "generator", "encoder"):
        if name == "generator" and "prior" in graphs:
            graphs[name] = compose(graphs["prior"], graphs["decoder"])
        elif name in by_name:
            graphs[name] = _exact(by_name[name], model)
    return Source(
        facts=_facts(outcome),
        graphs=graphs,
        networks=lambda name, inputs: by_name[name](inputs),
        in_float64=lambda name, inputs: by_name[name].in_float64(inputs),
        data=lambda: _data(outcome.record.settings, data),
        note=outcome.note,
    )


def _exact(role: Role, model: Model) -> onnx.ModelProto:
    shape = model.architecture
    example = {
        "noise": torch.zeros(EXAMPLE_ROWS, model.noise_dim),
        "latent": torch.zeros(EXAMPLE_ROWS, model.latent_dim),
        "images": torch.zeros(EXAMPLE_ROWS, shape.size, shape.size, shape.channels, dtype=torch.uint8),
        "label": torch.zeros(EXAMPLE_ROWS, dtype=torch.int64),
    }
    graph = to_onnx(role, {name: example[name] for name in role.inputs})
    optimise(graph)
    return to_proto(graph)


def _data(settings: TrainSettings, data: str | None) -> Data:
    try:
        return Data(*load_images(settings.model_copy(update={"data": data} if data else {})))
    except DataError as error:
        raise ExportError(f"{NO_DATA}: {error}") from error


def _facts(outcome: Outcome) -> Manifest:
    model, record = outcome.model, outcome.record
    facts = Manifest(
        family=model.family,
        height=model.architecture.size,
        width=model.architecture.size,
        channels=model.architecture.channels,
        noise_dim=model.noise_dim,
        latent_dim=model.latent_dim,
        labels=model.label_names,
    )
    if isinstance(model.prior, CodePrior) and isinstance(model.architecture, MapArchitecture):
        facts.latent_shape.extend(model.architecture.map_shape)
        facts.truncated_dim = model.code_dim
    settings = record.settings
    if settings.value_range is not None:
        facts.value_range.low, facts.value_range.high = settings.value_range
    facts.provenance.CopyFrom(_provenance(outcome.folder.resolve().name, outcome.images, record))
    facts.provenance.versions.update({package: version(package) for package in ("onnx", "onnxscript")})
    if model.inverse_psnr_db is not None and record.finished:
        facts.inversion.psnr_db = model.inverse_psnr_db
        finished = record.finished
        facts.inversion.generator.CopyFrom(_provenance(finished.run, finished.images, finished.record))
    return facts


def _provenance(run: str, images: int, record: Record) -> Provenance:
    return Provenance(
        run=run,
        data=record.settings.data,
        data_sha256=record.data.sha256,
        seed=record.settings.seed,
        images=images,
        versions=record.versions,
        settings=record.settings.model_dump_json(),
        notices=record.notices,
    )
