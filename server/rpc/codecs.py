"""Image formats of replies: images (N, H, W, C) uint8 -> parts of an ImageBatch.

Knows Pillow and the messages, nothing of models.
"""

import io
import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from figment.v1.images_pb2 import ImageBatch, ImageFormat
from server.rpc.protobuf_parts import Parts, header, nested

Images = npt.NDArray[np.uint8]

RAW = ImageFormat.IMAGE_FORMAT_RAW
_ENCODERS: dict[int, tuple[str, dict[str, object]]] = {
    ImageFormat.IMAGE_FORMAT_PNG: ("PNG", {}),
    ImageFormat.IMAGE_FORMAT_JPEG: ("JPEG", {"quality": 95}),
    ImageFormat.IMAGE_FORMAT_WEBP: ("WEBP", {"lossless": True}),
}


def encode(images: Images, image_format: int) -> Parts:
    """images: (N, H, W, C) uint8. Returns an ImageBatch of them as files of a checked `image_format`, not RAW."""
    files: list[Parts] = [[_encode_one(image, image_format)] for image in images]
    return nested(_image_batch(images.shape, image_format), "data", *files)


@lru_cache(maxsize=4096)
def raw_header(shape: tuple[int, ...]) -> bytes:
    """Everything of a RAW ImageBatch before its pixels: the same for all images of a shape."""
    batch = _image_batch(shape, RAW)
    return batch.SerializeToString() + header(batch.DESCRIPTOR, "data", math.prod(shape))


def _image_batch(shape: tuple[int, ...], image_format: int) -> ImageBatch:
    count, height, width, channels = shape
    return ImageBatch(
        format=ImageFormat.ValueType(image_format), count=count, height=height, width=width, channels=channels
    )


def _encode_one(image: Images, image_format: int) -> bytes:
    name, options = _ENCODERS[image_format]
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, name, **options)
    return file.getvalue()
