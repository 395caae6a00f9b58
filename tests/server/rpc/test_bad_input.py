"""Bad input: the status, the field, what came and what is allowed; and it costs nobody else anything."""

import io
import resource
import struct
import zlib
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from PIL import Image

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.images_pb2 import ImageBatch, ImageFormat
from tests.fakes.messages import latent_batch, seeded, upload

PNG = ImageFormat.IMAGE_FORMAT_PNG
GOOD = np.zeros((1, 32, 32, 1), np.uint8)


def png(size: tuple[int, int] = (32, 32), mode: str = "L", exif: bytes = b"") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG", exif=exif)
    return file.getvalue()


def broken() -> bytes:
    """The first half of a PNG of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)).save(file, "PNG")
    return file.getvalue()[: len(file.getvalue()) // 2]


def bomb() -> bytes:
    """A PNG of a few bytes that says that it is 60,000 x 60,000."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def generate(**fields: object) -> Message:
    return pb.GenerateRequest(**{"model": "vae", "count": 1, **fields})


def decode(values: np.ndarray, **fields: object) -> Message:
    return pb.DecodeRequest(model="vae", latents=latent_batch(values), **fields)


def encode(**fields: object) -> Message:
    return pb.EncodeRequest(model="vae", images=ImageBatch(**fields))


def interpolate(**fields: object) -> Message:
    return pb.InterpolateRequest(**{"model": "vae", "start": seeded(1), "end": seeded(2), "steps": 3, **fields})


NAN = np.full((2, 16), np.nan)

CASES: dict[str, tuple[str, Callable[[], Message], str, str]] = {
    "an empty request": ("Generate", pb.GenerateRequest, "model", "is required"),
    "count 0": ("Generate", lambda: generate(count=0), "count", "got 0, allowed are 1 to 1024"),
    "count over the limit": ("Generate", lambda: generate(count=1025), "count", "StreamGenerate gives more"),
    "a huge count": ("Generate", lambda: generate(count=2**32 - 1), "count", "allowed are 1 to 1024"),
    "truncation 0": ("Generate", lambda: generate(truncation=0), "truncation", "got 0, allowed"),
    "truncation above 1": ("Generate", lambda: generate(truncation=1.5), "truncation", "got 1.5"),
    "truncation NaN": ("Generate", lambda: generate(truncation=float("nan")), "truncation", "got nan"),
    "indices beyond 2^64": ("Generate", lambda: generate(first_index=2**64 - 1, count=2), "first_index", "2^64"),
    "a label without classes": ("Generate", lambda: generate(label=0), "label", "not conditional"),
    "a label out of range": (
        "Generate",
        lambda: generate(model="labelled-gan", label=10),
        "label",
        "got 10, allowed are 0 to 9",
    ),
    "an unknown format": ("Generate", lambda: generate(format=9), "format", "got 9"),
    "NaN latents": ("Decode", lambda: decode(NAN), "latents.values", "got nan at [0, 0]"),
    "latents of another size": ("Decode", lambda: decode(np.zeros((2, 5))), "latents.dim", "got 5"),
    "no latents": ("Decode", lambda: pb.DecodeRequest(model="vae"), "latents.count", "got 0"),
    "labels without classes": ("Decode", lambda: decode(np.zeros((1, 16)), labels=[1]), "labels", "not conditional"),
    "no images": ("Encode", lambda: pb.EncodeRequest(model="vae"), "images.format", "allowed are RAW, PNG"),
    "raw bytes of another size": (
        "Encode",
        lambda: encode(format=1, count=1, data=[bytes(100)]),
        "images.data",
        "got 100 bytes",
    ),
    "raw images of another height": (
        "Encode",
        lambda: encode(format=1, count=1, height=64, data=[bytes(1024)]),
        "images.height",
        "got 64, the model's is 32",
    ),
    "a file of another size": (
        "Encode",
        lambda: encode(format=PNG, data=[png((31, 32))]),
        "images.data[0]",
        "got an image of 31x32",
    ),
    "a broken file": ("Encode", lambda: encode(format=PNG, data=[png(), broken()]), "images.data[1]", "damaged file"),
    "no picture": ("Encode", lambda: encode(format=PNG, data=[b"<svg/>"]), "images.data[0]", "no PNG, JPEG or WebP"),
    "a decompression bomb": (
        "Encode",
        lambda: encode(format=PNG, data=[bomb()]),
        "images.data[0]",
        "far too many pixels",
    ),
    "one step": ("Interpolate", lambda: interpolate(steps=1), "steps", "got 1, allowed are 2 to"),
    "no end": ("Interpolate", lambda: interpolate(end=pb.Endpoint()), "end", "is required"),
    "an end of NaN": (
        "Interpolate",
        lambda: interpolate(end=pb.Endpoint(latent=latent_batch(NAN[:1]))),
        "end.latent.values",
        "got nan",
    ),
    "an end of two latents": (
        "Interpolate",
        lambda: interpolate(end=pb.Endpoint(latent=latent_batch(NAN))),
        "end.latent.count",
        "got 2",
    ),
    "an unknown method": ("Interpolate", lambda: interpolate(method=7), "method", "got 7"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named_with_field_value_and_limit(images: ImageServiceStub, case: str):
    method, request, field, text = CASES[case]
    with pytest.raises(grpc.RpcError) as refused:
        getattr(images, method)(request())
    error = refused.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert text in error.details()
    trailers = dict(error.trailing_metadata())
    status = Status.FromString(trailers["grpc-status-details-bin"])
    bad_request = BadRequest()
    assert status.details[0].Unpack(bad_request)
    assert bad_request.field_violations[0].field == field
    assert text in bad_request.field_violations[0].description
    assert trailers["x-request-id"]


@pytest.mark.parametrize("name", ["nope", "../vae", "vae/1", "VAE", "x" * 10_000, "vae\n"])
def test_an_unknown_model_is_answered_with_those_that_there_are(images: ImageServiceStub, name: str):
    with pytest.raises(grpc.RpcError) as refused:
        images.Generate(pb.GenerateRequest(model=name, count=1))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert "there are gan, hybrid, labelled-gan, labelled-vae, vae" in refused.value.details()
    assert len(refused.value.details()) < 300


def test_an_unknown_version_is_answered_with_those_that_there_are(images: ImageServiceStub):
    with pytest.raises(grpc.RpcError) as refused:
        images.Generate(pb.GenerateRequest(model="vae", version="2", count=1))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert "vae has no version '2'; there are 1" in refused.value.details()


def test_bytes_that_are_no_message_are_refused_like_all_bad_input(channel: grpc.Channel):
    generate_bytes = channel.unary_unary("/figment.v1.ImageService/Generate")
    with pytest.raises(grpc.RpcError) as refused:
        generate_bytes(b"\xff\xff\xff")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "message: got 3 bytes that are no message" in refused.value.details()
    assert dict(refused.value.trailing_metadata())["x-request-id"]


def test_an_orientation_that_is_no_number_is_no_orientation(images: ImageServiceStub):
    entry = struct.pack("<HHI4s", 0x0112, 2, 3, b"up\0\0")  # the tag Orientation, as text
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    batch = ImageBatch(format=PNG, data=[png(exif=exif)])
    reply = images.Encode(pb.EncodeRequest(model="vae", images=batch))
    assert reply.mean == images.Encode(pb.EncodeRequest(model="vae", images=upload(GOOD))).mean


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # Pillow's own word on it
def test_a_huge_picture_in_a_small_file_is_refused_by_its_header(images: ImageServiceStub):
    file = png((12_000, 12_000))
    assert len(file) < 200_000
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(grpc.RpcError, match="got an image of 12000x12000"):
        images.Encode(pb.EncodeRequest(model="vae", images=ImageBatch(format=PNG, data=[file])))
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started
    assert grown_kib < 12_000 * 12_000 / 1024 / 2


def test_a_request_id_is_kept_if_it_is_printable_and_made_if_not(images: ImageServiceStub):
    for sent, kept in (("abc-1", True), ("two words", False), ("x" * 500, False)):
        _, call = images.Generate.with_call(generate(), metadata=[("x-request-id", sent)])
        assert (dict(call.trailing_metadata())["x-request-id"] == sent) is kept


def test_good_requests_are_answered_while_bad_ones_are_refused(images: ImageServiceStub):
    good = [images.Generate.future(generate(seed=1)) for _ in range(20)]
    bad = [getattr(images, method).future(request()) for method, request, _, _ in CASES.values()]
    assert len({reply.result().images.data[0] for reply in good}) == 1
    assert all(reply.code() is grpc.StatusCode.INVALID_ARGUMENT for reply in bad)
    assert images.Encode(pb.EncodeRequest(model="vae", images=upload(GOOD))).mean.count == 1
