"""Arguments to request messages.

    arrays, numbers, files -> checked -> figment.v1 request

Refuses with InvalidArgument what the client can know to be wrong. Knows NumPy and the messages, no channel; so every
client, synchronous or not, asks through it.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt

from figment.v1 import image_service_pb2, images_pb2
from figment_client.connection import ADDRESSES, is_address
from figment_client.errors import InvalidArgument

Mapping = TypeVar(
    "Mapping", image_service_pb2.EncodeRequest, image_service_pb2.DecodeRequest, image_service_pb2.ReconstructRequest
)

ImageSource: TypeAlias = npt.NDArray[np.uint8] | str | Path | Sequence[str | Path]
"""Images to send: (N, H, W, 1 or 3) uint8, or PNG, JPEG and WebP files, which may be mixed."""

End: TypeAlias = int | tuple[int, int] | Sequence[float] | npt.NDArray[np.floating[Any]]
"""End of an interpolation: a seed (its image 0), a tuple (seed, index), or a latent of shape (Z,)."""

QUOTED_CHARACTERS = 100
LONGEST_S = 1e9
_METHODS = {"lerp": image_service_pb2.INTERPOLATION_METHOD_LERP, "slerp": image_service_pb2.INTERPOLATION_METHOD_SLERP}


def generate_request(
    model: str, version: str, count: int, seed: int | None, first_index: int, label: int | None, truncation: float
) -> image_service_pb2.GenerateRequest:
    """Ask for images first_index to first_index + count - 1 of a seed.

    Raises: InvalidArgument, naming the field.
    """
    count = whole("count", count, 1, 2**32 - 1)
    if not 0 < truncation <= 1:
        raise _invalid("truncation", truncation, "a number above 0, at most 1")
    return image_service_pb2.GenerateRequest(
        model=model_name(model),
        version=version_name(version),
        count=count,
        seed=None if seed is None else whole("seed", seed, 0, 2**64 - 1),
        first_index=whole("first_index", first_index, 0, 2**64 - count),
        label=None if label is None else whole("label", label, 0, 2**32 - 1),
        truncation=truncation,
        format=images_pb2.IMAGE_FORMAT_RAW,
    )


def interpolate_request(
    model: str, version: str, start: End, end: End, steps: int, method: str, label: int | None
) -> image_service_pb2.InterpolateRequest:
    """Ask for `steps` images from one end to the other.

    Raises: InvalidArgument, naming the field.
    """
    if method not in _METHODS:
        raise _invalid("method", method, " or ".join(_METHODS))
    return image_service_pb2.InterpolateRequest(
        model=model_name(model),
        version=version_name(version),
        start=_endpoint("start", start),
        end=_endpoint("end", end),
        steps=whole("steps", steps, 2, 2**32 - 1),
        method=_METHODS[method],
        label=None if label is None else whole("label", label, 0, 2**32 - 1),
        format=images_pb2.IMAGE_FORMAT_RAW,
    )


def mapping_request(
    kind: Callable[..., Mapping],
    model: str,
    version: str,
    labels: Iterable[int],
    **batch: images_pb2.ImageBatch | images_pb2.LatentBatch,
) -> Mapping:
    """Ask for a batch, in its field of a `kind` of request, to be mapped: encoded, decoded or reconstructed.

    Raises: InvalidArgument, naming the field.
    """
    (contents,) = batch.values()
    request = kind(
        model=model_name(model), version=version_name(version), labels=label_list(labels, contents.count), **batch
    )
    if not isinstance(request, image_service_pb2.EncodeRequest):
        request.format = images_pb2.IMAGE_FORMAT_RAW
    return request


def image_batch(images: ImageSource) -> images_pb2.ImageBatch:
    """Images to upload: arrays as raw pixels, files as they are, for the server to decode.

    Raises: InvalidArgument, if the array is not (N, H, W, 1 or 3) uint8 or a file is not a PNG, JPEG or WebP.
        OSError, if a file cannot be read.
    """
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
            got = f"{images.dtype} of shape {images.shape}"
            raise InvalidArgument(f"images: got {got}, allowed is uint8 of shape (N, H, W, 1 or 3)", field="images")
        count, height, width, channels = images.shape
        return images_pb2.ImageBatch(
            format=images_pb2.IMAGE_FORMAT_RAW,
            count=count,
            height=height,
            width=width,
            channels=channels,
            data=[images.tobytes()],
        )
    paths = [images] if isinstance(images, str | Path) else list(images)
    if not paths:
        raise _invalid("images", paths, "at least one image")
    files = []
    for path in paths:
        if not isinstance(path, str | Path):
            raise _invalid("images", path, "an array, a path or several paths")
        files.append(Path(path).read_bytes())
    formats = [_file_format(path, file) for path, file in zip(paths, files, strict=True)]
    return images_pb2.ImageBatch(format=formats[0], count=len(files), data=files)


def latent_batch(latents: npt.ArrayLike, field: str = "latents") -> images_pb2.LatentBatch:
    """latents: (N, Z) floating point, finite; sent as float32.

    Raises: InvalidArgument, if they are anything else.
    """
    array = np.asarray(latents)
    if array.dtype.kind != "f" or array.ndim != 2 or 0 in array.shape:
        got = f"{array.dtype} of shape {array.shape}"
        raise InvalidArgument(f"{field}: got {got}, allowed is floating point of shape (N, Z)", field=field)
    with np.errstate(over="ignore"):  # What overflows is infinite, and refused below.
        values = array.astype("<f4")
    if not np.isfinite(values).all():
        raise InvalidArgument(f"{field}: got numbers that are not finite in float32", field=field)
    return images_pb2.LatentBatch(count=array.shape[0], dim=array.shape[1], values=values.tobytes())


def label_list(labels: Iterable[int], count: int) -> list[int]:
    """The class of each of `count` images, one for all repeated; empty if there is none.

    Raises: InvalidArgument, if there are not 0, 1 or `count`, or one is no class number.
    """
    checked = [whole("labels", label, 0, 2**32 - 1) for label in labels]
    if len(checked) not in (0, 1, count):
        raise _invalid("labels", f"{len(checked)} labels", f"none, 1 or {count}, one an image")
    return checked * count if len(checked) == 1 else checked


def seconds(field: str, value: float) -> float:
    """The number as it came.

    Raises: InvalidArgument, if no call can take so long.
    """
    if not 0 < value <= LONGEST_S:
        raise _invalid(field, value, f"a number of seconds above 0, at most {LONGEST_S:g}")
    return value


def server_address(field: str, address: str) -> str:
    """The address as it came.

    Raises: InvalidArgument, if it is neither host:port nor a name in one of gRPC's own schemes.
    """
    if not is_address(address):
        raise _invalid(field, address, ADDRESSES)
    return address


def model_name(name: str) -> str:
    """The name as it came.

    Raises: InvalidArgument, if it is empty or no text.
    """
    if not _is_text(name) or not name:
        raise _invalid("model", name, "the name of a model")
    return name


def version_name(version: str) -> str:
    """The version as it came, "" = the default.

    Raises: InvalidArgument, if it is no text.
    """
    if not _is_text(version):
        raise _invalid("version", version, "a version's name, a string")
    return version


def whole(field: str, number: int, lowest: int, highest: int) -> int:
    """The number as a Python int, from any integer type.

    Raises: InvalidArgument, if it is no whole number from lowest to highest.
    """
    try:
        checked = operator.index(number)
    except TypeError:
        checked = lowest - 1
    if isinstance(number, bool) or not lowest <= checked <= highest:
        raise _invalid(field, number, f"a whole number from {lowest} to {highest}")
    return checked


def _endpoint(field: str, end: End) -> image_service_pb2.Endpoint:
    numbers = end if isinstance(end, tuple) else (end,)
    if len(numbers) <= 2 and all(isinstance(number, int | np.integer) for number in numbers):
        seed, index = (whole(field, cast(int, number), 0, 2**64 - 1) for number in (*numbers, 0)[:2])
        return image_service_pb2.Endpoint(seeded=image_service_pb2.SeededImage(seed=seed, index=index))
    return image_service_pb2.Endpoint(latent=latent_batch(np.asarray(end)[np.newaxis], field))


def _file_format(path: str | Path, file: bytes) -> images_pb2.ImageFormat.ValueType:
    if file.startswith(b"\x89PNG\r\n\x1a\n"):
        return images_pb2.IMAGE_FORMAT_PNG
    if file.startswith(b"\xff\xd8\xff"):
        return images_pb2.IMAGE_FORMAT_JPEG
    if file.startswith(b"RIFF") and file[8:12] == b"WEBP":
        return images_pb2.IMAGE_FORMAT_WEBP
    raise _invalid("images", str(path), "PNG, JPEG and WebP files")


def _is_text(name: object) -> bool:
    """Whether a message can hold it: a command line's bytes that are no UTF-8 are strings in Python, but no text."""
    return isinstance(name, str) and name.isprintable()


def _invalid(field: str, got: object, allowed: str) -> InvalidArgument:
    quoted = repr(got)
    quoted = quoted if len(quoted) <= QUOTED_CHARACTERS else quoted[:QUOTED_CHARACTERS] + "..."
    return InvalidArgument(f"{field}: got {quoted}, allowed is {allowed}", field=field)
