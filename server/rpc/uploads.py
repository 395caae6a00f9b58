"""Uploads: the pictures of a request as a model takes them.

    ImageBatch -> check_batch -> how many -> (admission) -> decode: some pictures at a time, in threads -> (N, H, W, C) uint8

Uploads are hostile until shown otherwise: nothing is decoded before a place is reserved, of a file a decoder sees only what
its picture needs, and no pixel before the size in its header is the model's. Between two pictures a caller may be gone, and
others have their turn. Knows Pillow and the messages.
"""

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image

from figment.imaging import ValueRange, flatten, turned
from figment.v1.images_pb2 import ImageBatch, ImageFormat
from figment.v1.manifest_pb2 import Manifest
from server.errors import InvalidArgument, Rejected
from server.rpc.image_files import UnreadableFile, essentials

Images = npt.NDArray[np.uint8]

RAW = ImageFormat.IMAGE_FORMAT_RAW
FORMATS = frozenset(ImageFormat.values()) - {ImageFormat.IMAGE_FORMAT_UNSPECIFIED}

TURN = 2**18
"""Pixels, bytes of files and PICTURE for each picture that are decoded in one go: some ten milliseconds, of hostile files some
twenty."""

PICTURE = 2**11
"""What a picture of no pixels costs, in those."""

PIXEL_BYTES = 16
"""Bytes of a slim file for each pixel at most: 8 of RGBA with 16 bits, doubled."""

SLACK_BYTES = 64 * 1024
"""The same whatever the number of pixels: palettes, tables, headers."""

ROOM_S = 1.0
"""Seconds after which a call that found no room may come again."""

_ON_ITS_SIDE = (5, 6, 7, 8)


def check_batch(batch: ImageBatch, manifest: Manifest, limit: int) -> int:
    """How many images, at most `limit`, an upload for a model has; what can be known of it without decoding is checked.

    Raises: InvalidArgument.
    """
    if batch.format not in FORMATS:
        raise InvalidArgument("images.format", f"got {batch.format}, allowed are RAW, PNG, JPEG and WEBP")
    for name in ("height", "width", "channels"):
        got, expected = getattr(batch, name), getattr(manifest, name)
        if got not in (0, expected) and not (name == "channels" and batch.format != RAW):
            raise InvalidArgument(f"images.{name}", f"got {got}, the model's is {expected}")
    if batch.format != RAW:
        if batch.count not in (0, len(batch.data)):
            raise InvalidArgument("images.count", f"got {batch.count} for {len(batch.data)} files")
        return _checked_count("images.data", len(batch.data), limit)
    count = _checked_count("images.count", batch.count, limit)
    if len(batch.data) != 1:
        raise InvalidArgument("images.data", f"got {len(batch.data)} entries, RAW has exactly one")
    height, width, channels = manifest.height, manifest.width, manifest.channels
    expected = count * height * width * channels
    if len(batch.data[0]) != expected:
        raise InvalidArgument(
            "images.data",
            f"got {len(batch.data[0])} bytes, {count} images of {height}x{width}x{channels} are {expected}",
        )
    return count


async def decode(batch: ImageBatch, manifest: Manifest) -> Images:
    """The images of a batch that was checked: (N, H, W, C) uint8.

    Raises: InvalidArgument, naming the picture.
    """
    shape = manifest.height, manifest.width, manifest.channels
    if batch.format == RAW:
        return np.frombuffer(batch.data[0], np.uint8).reshape(batch.count, *shape)
    images = np.empty((len(batch.data), *shape), np.uint8)
    for numbers in _fair_queue(batch, shape[0] * shape[1]):
        # Whoever is cancelled ends here, and with a turn of each caller's at a time in the threads nobody waits long.
        await asyncio.to_thread(_decode_some, batch, numbers, manifest, images)
    return images


def decoded_bytes(batch: ImageBatch, manifest: Manifest) -> int:
    """Bytes that `decode` adds to those of a batch that was checked; none where its message holds the pixels."""
    return 0 if batch.format == RAW else len(batch.data) * manifest.height * manifest.width * manifest.channels


class Room:
    """Room for the decoded pictures of all calls together, `total_bytes`: a kilobyte of file may hold a megabyte of them."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._held_bytes = 0

    @contextmanager
    def hold(self, held_bytes: int) -> Iterator[None]:
        """Count the pictures of one call, which fit where no others are. Raises: Rejected, if they do not fit."""
        if self._held_bytes and self._held_bytes + held_bytes > self._total_bytes:
            raise Rejected(
                f"the uploads of others have {self._held_bytes} of {self._total_bytes} bytes of decoded pictures, "
                f"{held_bytes} more do not fit",
                retry_after_s=ROOM_S,
            )
        self._held_bytes += held_bytes
        try:
            yield
        finally:
            self._held_bytes -= held_bytes


def _fair_queue(batch: ImageBatch, pixels: int) -> Iterator[range]:
    """The numbers of all pictures, in order, as many in one range as a turn takes, at least one."""
    start, cost = 0, 0
    for number, file in enumerate(batch.data):
        more = PICTURE + pixels + len(file)
        if cost and cost + more > TURN:
            yield range(start, number)
            start, cost = number, 0
        cost += more
    yield range(start, len(batch.data))


def _checked_count(field: str, count: int, limit: int) -> int:
    if not 1 <= count <= limit:
        raise InvalidArgument(field, f"got {count} images, allowed are 1 to {limit}")
    return count


def _decode_some(batch: ImageBatch, numbers: range, manifest: Manifest, images: Images) -> None:
    for number in numbers:
        images[number] = _decode_one(f"images.data[{number}]", batch.data[number], manifest)


def _decode_one(field: str, file: bytes, manifest: Manifest) -> Images:
    height, width, channels = manifest.height, manifest.width, manifest.channels
    try:
        slim = essentials(file)
        if slim is None:
            raise InvalidArgument(field, f"got {len(file)} bytes that are no PNG, JPEG or WebP file")
        with Image.open(io.BytesIO(slim.content), formats=("PNG", "JPEG", "WEBP")) as picture:
            size = picture.size if slim.orientation not in _ON_ITS_SIDE else picture.size[::-1]
            if size != (width, height):
                raise InvalidArgument(
                    field, f"got an image of {size[0]}x{size[1]} pixels, the model's are {width}x{height}"
                )
            if len(slim.content) > (most := PIXEL_BYTES * width * height + SLACK_BYTES):
                raise InvalidArgument(
                    field, f"got {len(slim.content)} bytes for {width}x{height} pixels, allowed are {most}"
                )
            flat = flatten(picture, _value_range(manifest))
    except (InvalidArgument, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise InvalidArgument(field, f"got an image of far too many pixels, the model's are {width}x{height}") from None
    except UnreadableFile as error:
        raise InvalidArgument(field, f"got a damaged file: {error}") from None
    except Exception as error:  # Pillow's decoders raise whatever a malformed file makes of them
        raise InvalidArgument(field, f"got a damaged file: {str(error)[:100] or type(error).__name__}") from None
    flat = turned(flat, slim.orientation).convert("L" if channels == 1 else "RGB")
    return np.asarray(flat).reshape(height, width, channels)


def _value_range(manifest: Manifest) -> ValueRange | None:
    if not manifest.HasField("value_range"):
        return None
    return ValueRange(manifest.value_range.low, manifest.value_range.high)
