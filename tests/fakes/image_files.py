"""Small picture files of every kind, whole and with chunks of their own, and what the server decodes of them."""

import asyncio
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from figment.v1.images_pb2 import ImageBatch, ImageFormat
from figment.v1.manifest_pb2 import Manifest
from server.rpc import uploads

FORMATS = {
    "PNG": ImageFormat.IMAGE_FORMAT_PNG,
    "JPEG": ImageFormat.IMAGE_FORMAT_JPEG,
    "WEBP": ImageFormat.IMAGE_FORMAT_WEBP,
}
MANIFEST = Manifest(height=16, width=32, channels=3)
RANDOM = np.random.default_rng(0)
PICTURE = Image.fromarray(np.kron(RANDOM.integers(0, 256, (4, 8, 3), np.uint8), np.ones((4, 4, 1), np.uint8)))
OPTIONS: dict[str, dict[str, Any]] = {"PNG": {}, "JPEG": {"quality": 95}, "WEBP": {"lossless": True}}


def file_of(kind: str, picture: Image.Image = PICTURE, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **OPTIONS[kind], **options)
    return file.getvalue()


def decoded(file: bytes, manifest: Manifest = MANIFEST) -> np.ndarray:
    kind = {b"\x89P": "PNG", b"\xff\xd8": "JPEG"}.get(file[:2], "WEBP")
    batch = ImageBatch(format=FORMATS[kind], data=[file])
    assert uploads.check_batch(batch, manifest, 8) == 1
    return asyncio.run(uploads.decode(batch, manifest))[0]


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "a description that comes before"
    exif[0x0112] = orientation
    return exif


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunks(*chunks: bytes) -> bytes:
    """A PNG with chunks after its header."""
    file = file_of("PNG")
    return file[:33] + b"".join(chunks) + file[33:]
