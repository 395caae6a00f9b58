"""Reply messages to arrays over the reply's own bytes.

    figment.v1 reply -> checked -> array, Images or Encoding

Knows NumPy and the messages, no channel; so every client, synchronous or not, reads through it.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from figment.images import Images, Timing
from figment.v1 import image_service_pb2, images_pb2
from figment_client.errors import Internal

FloatArray: TypeAlias = npt.NDArray[np.float32]


Mapped: TypeAlias = (
    image_service_pb2.DecodeResponse | image_service_pb2.ReconstructResponse | image_service_pb2.InterpolateResponse
)


class _Gaussians(NamedTuple):
    mean: FloatArray
    log_variance: FloatArray


class Encoding(_Gaussians):
    """q(z|x) of each image: a pair of mean and log_variance, both (N, Z) float32, that also knows what made it."""

    model: str = ""
    version: str = ""
    engine: str = ""
    timing: Timing | None = None

    def __new__(
        cls,
        mean: FloatArray,
        log_variance: FloatArray,
        *,
        model: str = "",
        version: str = "",
        engine: str = "",
        timing: Timing | None = None,
    ) -> Self:
        """A pair, as mean, log_variance = encoding takes it apart."""
        pair = super().__new__(cls, mean, log_variance)
        pair.model, pair.version, pair.engine, pair.timing = model, version, engine, timing
        return pair


def read_images(batch: images_pb2.ImageBatch) -> npt.NDArray[np.uint8]:
    """Returns (N, H, W, C) uint8 over the reply's own bytes, hence read-only.

    Raises: Internal, if the reply does not hold what it says.
    """
    shape = (batch.count, batch.height, batch.width, batch.channels)
    try:
        (pixels,) = batch.data
        return np.frombuffer(pixels, np.uint8).reshape(shape)
    except ValueError as error:
        sizes = [len(entry) for entry in batch.data]
        raise Internal(f"the server's reply says images of shape {shape} and holds entries of {sizes} bytes") from error


def read_latents(batch: images_pb2.LatentBatch) -> FloatArray:
    """Returns (N, Z) float32 over the reply's own bytes, hence read-only.

    Raises: Internal, if the reply does not hold what it says.
    """
    shape = (batch.count, batch.dim)
    try:
        return np.frombuffer(batch.values, "<f4").reshape(shape)
    except ValueError as error:
        got = len(batch.values)
        raise Internal(f"the server's reply says latents of shape {shape} and holds {got} bytes") from error


def read_generated(reply: image_service_pb2.GenerateResponse) -> Images:
    """The reply's images, with what they were drawn from and by.

    Raises: Internal, if the reply does not hold what it says.
    """
    return _known(reply, seed=reply.seed, first_index=reply.first_index, labels=list(reply.labels))


def read_mapped(reply: Mapped, labels: list[int]) -> Images:
    """The images of a reply that were drawn from no seed, with what drew them.

    Raises: Internal, if the reply does not hold what it says.
    """
    return _known(reply, labels=labels)


def read_encoding(reply: image_service_pb2.EncodeResponse) -> Encoding:
    """The reply's Gaussians, with what made them.

    Raises: Internal, if the reply does not hold what it says.
    """
    mean, log_variance = read_latents(reply.mean), read_latents(reply.log_variance)
    return Encoding(
        mean, log_variance, model=reply.model, version=reply.version, engine=reply.engine, timing=_timing(reply)
    )


def next_piece(reply: image_service_pb2.GenerateResponse, first_index: int, left: int, before: Images | None) -> Images:
    """The next images of a stream, of which `left` are still to come from index `first_index` on.

    before: the piece before it, None for the first.

    Raises: Internal, if it holds others, or was drawn by another than the pieces before.
    """
    piece = read_generated(reply)
    if piece.first_index != first_index or not 0 < len(piece) <= left:
        got = f"{len(piece)} images from index {piece.first_index} on"
        raise Internal(f"the server's stream is out of order: got {got}, expected at most {left} from {first_index} on")
    for name in ("seed", "model", "version", "engine", "shape") if before is not None else ():
        was, came = getattr(before, name), getattr(piece, name)
        was, came = (was[1:], came[1:]) if name == "shape" else (was, came)
        if was != came:
            raise Internal(
                f"the server's stream changed at index {first_index}: got {name} {came!r}, expected {was!r} as before; "
                "ask again for all images, so that one model draws them"
            )
    return piece


def joined(pieces: Iterable[Images], count: int) -> Images:
    """The pieces of one stream of `count` images, copied as they come into one array; their times added."""
    array: npt.NDArray[np.uint8] | None = None
    first: Images | None = None
    filled, labels = 0, list[int]()
    timing: Timing | None = None
    for piece in pieces:
        if array is None or first is None:
            first = piece
            array = np.empty((count, *piece.shape[1:]), np.uint8)
        array[filled : filled + len(piece)] = piece
        filled += len(piece)
        labels += piece.labels
        timing = timing + piece.timing if timing and piece.timing else timing or piece.timing
    if array is None or first is None:
        raise Internal("the server's stream holds no images")
    if len(labels) not in (0, count):
        raise Internal(f"the server's stream holds {len(labels)} labels for {count} images")
    return Images(
        array,
        seed=first.seed,
        first_index=first.first_index,
        labels=labels,
        model=first.model,
        version=first.version,
        engine=first.engine,
        timing=timing,
    )


def _known(reply: image_service_pb2.GenerateResponse | Mapped, labels: list[int], **facts: Any) -> Images:
    pixels = read_images(reply.images)
    if len(labels) not in (0, len(pixels)):
        raise Internal(f"the server's reply holds {len(labels)} labels for {len(pixels)} images")
    return Images(
        pixels,
        labels=labels,
        model=reply.model,
        version=reply.version,
        engine=reply.engine,
        timing=_timing(reply),
        **facts,
    )


def _timing(reply: image_service_pb2.GenerateResponse | image_service_pb2.EncodeResponse | Mapped) -> Timing | None:
    if not reply.HasField("timing"):
        return None
    timing = reply.timing
    return Timing(timing.queue_s, timing.compute_s, timing.encode_s, timing.batch_size)
