"""How the rows of a model's inputs and outputs lie one after the other in shared memory.

    manifest, names, rows -> [(name, dtype, shape, offset)], bytes

Both sides of a link compute the same, so that no layout crosses it.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from figment.v1.manifest_pb2 import Manifest

INPUTS = ("noise", "label", "latent", "images")
"""Names of the inputs of graphs; their places are the bits of a mask."""

OUTPUTS = {"generator": ("images",), "prior": ("latent",), "decoder": ("images",), "encoder": ("mean", "log_variance")}
"""Names of the outputs of graphs by role."""


class Field(NamedTuple):
    """Where the rows of one input or output lie, from the start of their block."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int, ...]
    offset: int


def fields(manifest: Manifest, names: tuple[str, ...], rows: int, start: int = 0) -> tuple[list[Field], int]:
    """The fields of `rows` rows of the named arrays from offset `start` on, and the offset after the last."""
    kinds: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "noise": (np.float32, (manifest.noise_dim,)),
        "label": (np.int64, ()),
        "images": (np.uint8, (manifest.height, manifest.width, manifest.channels)),
    }
    latents: tuple[type[np.generic], tuple[int, ...]] = (np.float32, (manifest.latent_dim,))
    placed = []
    for name in names:
        dtype, shape = kinds.get(name, latents)
        start = -(-start // 8) * 8
        placed.append(Field(name, dtype, (rows, *shape), start))
        start += rows * prod(shape) * np.dtype(dtype).itemsize
    return placed, start
