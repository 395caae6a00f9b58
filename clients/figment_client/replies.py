"""Reply messages to arrays over the reply's own bytes.

    figment.v1 reply -> checked -> array, Images or Encoding

Knows NumPy and the messages, no channel; so every client, synchronous or not, reads through it.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from figment.v1 import image_service_pb2, images_pb2
from figment_client.errors import Internal
from figment_client.images import Images

FloatArray: TypeAlias = npt.NDArray[np.float32]


class Encoding(NamedTuple):
    """q(z|x) of each image: mean and log_variance, both (N, Z) float32."""

    mean: FloatArray
    log_variance: FloatArray


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
    """The reply's images, with what they were drawn from."""
    pixels = read_images(reply.images)
    return Images(pixels, seed=reply.seed, first_index=reply.first_index, labels=list(reply.labels))


def next_piece(reply: image_service_pb2.GenerateResponse, first_index: int, left: int) -> Images:
    """The next images of a stream, of which `left` are still to come from index `first_index` on.

    Raises: Internal, if it holds others.
    """
    piece = read_generated(reply)
    if piece.first_index != first_index or len(piece) > left:
        got = f"{len(piece)} images from index {piece.first_index} on"
        raise Internal(f"the server's stream is out of order: got {got}, expected at most {left} from {first_index} on")
    return piece


def joined(pieces: Iterable[Images], count: int) -> Images:
    """The pieces of one stream of `count` images, copied as they come into one array."""
    images: Images | None = None
    filled, labels = 0, list[int]()
    for piece in pieces:
        if images is None:
            array = np.empty((count, *piece.shape[1:]), np.uint8)
            images = Images(array, seed=piece.seed, first_index=piece.first_index)
        images[filled : filled + len(piece)] = piece
        filled += len(piece)
        labels += piece.labels
    if images is None:
        raise Internal("the server's stream holds no images")
    images.labels = labels
    return images
