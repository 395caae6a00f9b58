"""What a request asks for, checked: from messages to plain records that later stages can trust.

Every problem is an InvalidArgument or FailedPrecondition that names the field, what came and what is allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from figment.v1.image_service_pb2 import Endpoint, GenerateRequest, InterpolateRequest, InterpolationMethod
from figment.v1.images_pb2 import ImageFormat, LatentBatch
from server.errors import FailedPrecondition, InvalidArgument
from server.models.registry import LoadedModel
from server.rpc.noise import draw_seed

Latents = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

INDEX_LIMIT = 2**64

FORMATS = frozenset(ImageFormat.values())


@dataclass(frozen=True)
class GenerateParams:
    """Images first_index to first_index + count - 1 of a seed, to be drawn by a model."""

    model: LoadedModel
    seed: int
    first_index: int
    count: int
    label: int | None
    truncation: float
    image_format: int


def generate_params(request: GenerateRequest, model: LoadedModel, limit: int, beyond: str) -> GenerateParams:
    """Check a GenerateRequest; `beyond` is the advice to those who ask for more than `limit` images."""
    if not 1 <= request.count <= limit:
        raise InvalidArgument(
            "count", f"got {request.count}, allowed are 1 to {limit}{beyond if request.count else ''}"
        )
    if request.first_index + request.count > INDEX_LIMIT:
        raise InvalidArgument(
            "first_index", f"got {request.first_index} with count {request.count}: together at most 2^64 are allowed"
        )
    truncation = request.truncation if request.HasField("truncation") else 1.0
    # Written so that NaN, which compares false with everything, is refused.
    if not 0 < truncation <= 1:
        raise InvalidArgument("truncation", f"got {truncation:g}, allowed are numbers above 0 up to 1")
    label = request.label if request.HasField("label") else None
    if label is not None:
        _check_labels("label", [label], model)
    seed = request.seed if request.HasField("seed") else draw_seed()
    image_format = check_format(request.format)
    return GenerateParams(model, seed, request.first_index, request.count, label, truncation, image_format)


def check_format(image_format: int) -> int:
    """The format of a reply; UNSPECIFIED becomes RAW."""
    if image_format not in FORMATS:
        raise InvalidArgument("format", f"got {image_format}, allowed are {', '.join(ImageFormat.keys())}")
    return image_format or ImageFormat.IMAGE_FORMAT_RAW


def images_of(message: Any) -> int:
    """How many images a unary request is about, checked or not."""
    for field in ("count", "steps"):
        if hasattr(message, field):
            return int(getattr(message, field))
    batch = getattr(message, "images", None) or getattr(message, "latents", None)
    return 0 if batch is None else batch.count or len(getattr(batch, "data", ()))


def labels_of(field: str, labels: Sequence[int], count: int, model: LoadedModel) -> Labels | None:
    """The class of each of `count` images, from a repeated field of one for all or one each; None if unconditional."""
    if not model.manifest.labels:
        if labels:
            raise InvalidArgument(field, f"got {list(labels[:5])}, but {model.name} is not conditional: it takes none")
        return None
    if len(labels) not in (1, count):
        allowed = "1" if count == 1 else f"1 or {count}"
        raise InvalidArgument(field, f"got {len(labels)} labels, {model.name} is conditional: it needs {allowed}")
    _check_labels(field, labels, model)
    return np.resize(np.array(labels, np.int64), count)


def latents_of(field: str, batch: LatentBatch, model: LoadedModel, limit: int) -> Latents:
    """The latents of a message: (N, latent_dim) float32, all finite."""
    dim = model.manifest.latent_dim
    if not 1 <= batch.count <= limit:
        raise InvalidArgument(f"{field}.count", f"got {batch.count}, allowed are 1 to {limit}")
    if batch.dim != dim:
        raise InvalidArgument(f"{field}.dim", f"got {batch.dim}, latents of {model.name} have {dim} entries")
    if len(batch.values) != 4 * batch.count * dim:
        expected = 4 * batch.count * dim
        raise InvalidArgument(f"{field}.values", f"got {len(batch.values)} bytes, {batch.count} latents are {expected}")
    latents = np.frombuffer(batch.values, "<f4").reshape(batch.count, dim).astype(np.float32, copy=False)
    if not np.isfinite(latents).all():
        row, column = np.argwhere(~np.isfinite(latents))[0]
        raise InvalidArgument(
            f"{field}.values", f"got {latents[row, column]} at [{row}, {column}], allowed are finite numbers"
        )
    return latents


def check_steps(request: InterpolateRequest, limit: int) -> None:
    """Check the number of images and the method of an interpolation."""
    if not 2 <= request.steps <= limit:
        raise InvalidArgument("steps", f"got {request.steps}, allowed are 2 to {limit}")
    if request.method not in InterpolationMethod.values():
        raise InvalidArgument("method", f"got {request.method}, allowed are {', '.join(InterpolationMethod.keys())}")


def check_endpoint(field: str, endpoint: Endpoint, model: LoadedModel) -> Latents | None:
    """The latent of an end: (1, latent_dim), or None if it is to be drawn from seed and index."""
    kind = endpoint.WhichOneof("source")
    if kind is None:
        raise InvalidArgument(field, "is required: a seeded image or a latent")
    if kind == "seeded":
        return None
    return latents_of(f"{field}.latent", endpoint.latent, model, limit=1)


def check_encoder(model: LoadedModel) -> None:
    """Raise FailedPrecondition if the model cannot encode."""
    if "encoder" not in model.graphs:
        raise FailedPrecondition(
            f"model: {model.name} has no encoder, because it is of the family {model.manifest.family!r}: "
            "Encode and Reconstruct need a vae, a hybrid, or a gan for which one was learned (figment train --encoder-for)"
        )


def _check_labels(field: str, labels: Sequence[int], model: LoadedModel) -> None:
    number = len(model.manifest.labels)
    if not number:
        raise InvalidArgument(field, f"got {labels[0]}, but {model.name} is not conditional: it takes none")
    for label in labels:
        if label >= number:
            raise InvalidArgument(field, f"got {label}, allowed are 0 to {number - 1}")
