"""Pictures as they cross the wire: encoding replies, decoding uploads.

    images (N, H, W, C) uint8 -> encode -> parts of an ImageBatch       ImageBatch -> decode -> images (N, H, W, C) uint8

Uploads are hostile until shown otherwise: the size in a file's header is compared with the model's before a pixel is
decoded. Knows Pillow and the messages, nothing of models.
"""

import io
import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from figment.v1.images_pb2 import ImageBatch, ImageFormat
from server.errors import InvalidArgument
from server.wire import Parts, head, nested

Images = npt.NDArray[np.uint8]

RAW = ImageFormat.IMAGE_FORMAT_RAW
_FORMATS = frozenset(ImageFormat.values())
_ENCODERS: dict[int, tuple[str, dict[str, object]]] = {
    ImageFormat.IMAGE_FORMAT_PNG: ("PNG", {}),
    ImageFormat.IMAGE_FORMAT_JPEG: ("JPEG", {"quality": 95}),
    ImageFormat.IMAGE_FORMAT_WEBP: ("WEBP", {"lossless": True}),
}
_FILES = ("PNG", "JPEG", "WEBP")
_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)
_PNG_BIT_DEPTH = 24  # its place in the file: after signature, chunk header, width and height


def check_format(image_format: int) -> int:
    """The format of a reply; UNSPECIFIED becomes RAW.

    Raises: InvalidArgument.
    """
    if image_format not in _FORMATS:
        raise InvalidArgument("format", f"got {image_format}, allowed are {', '.join(ImageFormat.keys())}")
    return image_format or RAW


def encode(images: Images, image_format: int) -> Parts:
    """images: (N, H, W, C) uint8. Returns an ImageBatch of them in a checked `image_format`."""
    if image_format == RAW:
        return [_raw_head(images.shape), images.reshape(-1).data]
    files: list[Parts] = [[_encode_one(image, image_format)] for image in images]
    return nested(_described(images.shape, image_format), "data", *files)


def decode(batch: ImageBatch, shape: tuple[int, int, int], limit: int) -> Images:
    """The images of an upload for a model of images of `shape` (H, W, C), at most `limit`.

    Returns (N, H, W, C) uint8. Raises: InvalidArgument.
    """
    if batch.format == ImageFormat.IMAGE_FORMAT_UNSPECIFIED or batch.format not in _FORMATS:
        raise InvalidArgument("images.format", f"got {batch.format}, allowed are RAW, PNG, JPEG and WEBP")
    for name, got, wanted in zip(
        ("height", "width", "channels"), (batch.height, batch.width, batch.channels), shape, strict=True
    ):
        if got not in (0, wanted) and not (name == "channels" and batch.format != RAW):
            raise InvalidArgument(f"images.{name}", f"got {got}, the model's is {wanted}")
    if batch.format == RAW:
        return _decode_raw(batch, shape, limit)
    if batch.count not in (0, len(batch.data)):
        raise InvalidArgument("images.count", f"got {batch.count} for {len(batch.data)} files")
    _check_count("images.data", len(batch.data), limit)
    return np.stack([_decode_one(f"images.data[{number}]", file, shape) for number, file in enumerate(batch.data)])


def _decode_raw(batch: ImageBatch, shape: tuple[int, int, int], limit: int) -> Images:
    _check_count("images.count", batch.count, limit)
    if len(batch.data) != 1:
        raise InvalidArgument("images.data", f"got {len(batch.data)} entries, RAW has exactly one")
    height, width, channels = shape
    expected = batch.count * height * width * channels
    if len(batch.data[0]) != expected:
        raise InvalidArgument(
            "images.data",
            f"got {len(batch.data[0])} bytes, {batch.count} images of {height}x{width}x{channels} are {expected}",
        )
    return np.frombuffer(batch.data[0], np.uint8).reshape(batch.count, *shape)


def _check_count(field: str, count: int, limit: int) -> None:
    if not 1 <= count <= limit:
        raise InvalidArgument(field, f"got {count} images, allowed are 1 to {limit}")


def _decode_one(field: str, file: bytes, shape: tuple[int, int, int]) -> Images:
    height, width, channels = shape
    try:
        with Image.open(io.BytesIO(file), formats=_FILES) as picture:
            size = picture.size
            # Looking for EXIF may decode the pixels, so only a picture that has the right number of them gets there.
            if sorted(size) == sorted((width, height)) and picture.getexif().get(_ORIENTATION) in _ON_ITS_SIDE:
                size = size[::-1]
            if size != (width, height):
                raise InvalidArgument(
                    field, f"got an image of {size[0]}x{size[1]} pixels, the model's are {width}x{height}"
                )
            if picture.format == "PNG" and file[_PNG_BIT_DEPTH] == 16:
                raise InvalidArgument(field, "got 16 bits a channel, allowed are 8")
            turned = ImageOps.exif_transpose(picture)
            if turned.has_transparency_data:
                turned = turned.convert("RGBA")
                turned = Image.alpha_composite(Image.new("RGBA", turned.size, (0, 0, 0, 255)), turned)
            flat = np.asarray(turned.convert("L" if channels == 1 else "RGB"))
    except Image.DecompressionBombError:
        raise InvalidArgument(field, f"got an image of far too many pixels, the model's are {width}x{height}") from None
    except UnidentifiedImageError:
        raise InvalidArgument(field, f"got {len(file)} bytes that are no PNG, JPEG or WebP file") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise InvalidArgument(field, f"got a damaged file: {str(error)[:100]}") from None
    return flat.reshape(shape)


@lru_cache(maxsize=4096)
def _raw_head(shape: tuple[int, ...]) -> bytes:
    """Everything of a RAW ImageBatch before its pixels: the same for all images of a shape."""
    batch = _described(shape, RAW)
    return batch.SerializeToString() + head(batch, "data", math.prod(shape))


def _described(shape: tuple[int, ...], image_format: int) -> ImageBatch:
    count, height, width, channels = shape
    return ImageBatch(
        format=ImageFormat.ValueType(image_format), count=count, height=height, width=width, channels=channels
    )


def _encode_one(image: Images, image_format: int) -> bytes:
    name, options = _ENCODERS[image_format]
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, name, **options)
    return file.getvalue()
