"""Uploads: what a decoder gets to see of a stranger's file, what damaged files are told, and who is decoded for."""

import asyncio
import gc
import io
import struct
import time
import zlib

import grpc
import numpy as np
import pytest
from PIL import Image, ImageOps

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.images_pb2 import ImageBatch
from figment.v1.manifest_pb2 import Manifest, ValueRange
from server.errors import InvalidArgument, Rejected
from server.rpc import uploads
from server.rpc.image_files import SCANS, essentials
from server.scheduling.admission import Admission
from tests.fakes.image_files import FORMATS, MANIFEST, PICTURE, RANDOM, decoded, file_of, png_chunk, turned, with_chunks


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_by_its_exif(kind: str, orientation: int):
    on_its_side = orientation > 4
    lying = PICTURE if not on_its_side else PICTURE.resize((16, 32), Image.Resampling.NEAREST)
    file = file_of(kind, lying, exif=turned(orientation))
    with Image.open(io.BytesIO(file)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert np.array_equal(decoded(file), expected)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "number"), [(1, "B3x"), (3, "H2x"), (4, "I")])
def test_an_orientation_may_be_written_as_any_whole_number(order: str, kind: int, number: str):
    begin = b"II*\0" if order == "<" else b"MM\0*"
    exif = begin + struct.pack(f"{order}IHHHI{number}", 8, 1, 0x0112, kind, 1, 3) + bytes(4)
    upside_down = np.asarray(PICTURE)[::-1, ::-1]
    assert np.array_equal(decoded(with_chunks(png_chunk(b"eXIf", exif))), upside_down)


@pytest.mark.parametrize("kind", FORMATS)
def test_of_a_file_only_what_its_picture_needs_is_left(kind: str):
    bulky = file_of(kind, exif=b"Exif\0\0" + bytes(60_000), icc_profile=RANDOM.bytes(100_000))
    slim = essentials(bulky)
    assert slim is not None
    assert len(slim.content) < len(file_of(kind)) + 100
    assert np.array_equal(decoded(bulky), decoded(file_of(kind)))


def test_text_that_inflates_and_empty_chunks_are_not_seen_by_a_decoder():
    text = png_chunk(b"zTXt", b"name\0\0" + zlib.compress(bytes(2**20)))
    slim = essentials(with_chunks(*[text] * 60))
    assert slim is not None
    assert len(slim.content) < 2000
    for name in (b"IDAT", b"tEXt", b"prVt"):
        with pytest.raises(
            InvalidArgument, match=r"images\.data\[0\]: got a damaged file: it has more than 4096 chunks"
        ):
            decoded(with_chunks(*[png_chunk(name, b"")] * 5000))


def test_animations_are_their_first_frame():
    frames = [Image.fromarray(RANDOM.integers(0, 256, (16, 32, 3), np.uint8)) for _ in range(50)]
    for kind in ("PNG", "WEBP"):
        file = file_of(kind, frames[0], save_all=True, append_images=frames[1:])
        slim = essentials(file)
        assert slim is not None
        assert len(slim.content) < len(file) / 20
        assert np.array_equal(decoded(file), np.asarray(frames[0]))


def test_scans_of_a_jpeg_are_counted():
    file = file_of("JPEG", progressive=True)
    scan = file.index(b"\xff\xda")
    many = file[:-2] + file[scan : file.index(b"\xff", scan + 20)] * (SCANS + 1) + file[-2:]
    with pytest.raises(InvalidArgument, match="more than 100 scans"):
        decoded(many)


def test_pixels_that_no_picture_of_the_size_needs_are_refused():
    with pytest.raises(InvalidArgument, match=r"bytes for 32x16 pixels, allowed are 73728"):
        decoded(with_chunks(png_chunk(b"IDAT", bytes(100_000))))


@pytest.mark.parametrize("kind", FORMATS)
def test_whatever_a_damaged_file_makes_of_a_decoder_names_the_picture(kind: str):
    """Seeded: bytes changed, cut out, doubled, and files cut short."""
    files = [file_of(kind, exif=turned(6)), file_of(kind, PICTURE.convert("L")), file_of(kind)]
    random = np.random.default_rng(1)
    refused = drawn = 0
    for number in range(600):
        file = bytearray(files[number % 3])
        place, length = int(random.integers(2, len(file))), int(random.integers(1, 40))
        match number % 4:
            case 0:
                file[place : place + length] = random.bytes(length)
            case 1:
                del file[place:]
            case 2:
                del file[place : place + length]
            case _:
                file[place:place] = file[place : place + length]
        try:
            decoded(bytes(file))
        except InvalidArgument as error:
            refused += error.field == "images.data[0]"
        else:
            drawn += 1
    assert drawn + refused == 600
    assert refused > 200


@pytest.mark.parametrize(
    "error", [struct.error("x"), TypeError(), IndexError(), KeyError("x"), OverflowError(), RecursionError()]
)
def test_every_exception_of_a_decoder_is_the_pictures_fault(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(uploads, "flatten", fail)
    with pytest.raises(
        InvalidArgument, match=rf"images\.data\[0\]: got a damaged file: {str(error) or type(error).__name__}"
    ):
        decoded(file_of("PNG"))


def test_exif_of_thousands_of_entries_is_read_no_further_than_its_first():
    entries = b"".join(struct.pack("<HHIH2x", 0x9000 + number, 3, 1, 1) for number in range(5000))
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entries
    assert np.array_equal(decoded(with_chunks(png_chunk(b"eXIf", exif))), np.asarray(PICTURE))


def test_deep_pictures_are_read_as_training_reads_them():
    values = np.linspace(0, 4095, 16 * 32).astype(np.uint16).reshape(16, 32)
    grey = Manifest(height=16, width=32, channels=1)
    file = file_of("PNG", Image.fromarray(values))
    assert decoded(file, grey).max() == 15
    grey.value_range.CopyFrom(ValueRange(low=0, high=4095))
    assert np.array_equal(decoded(file, grey)[..., 0], values >> 4)


async def test_nobody_decodes_for_a_caller_that_is_gone(monkeypatch: pytest.MonkeyPatch):
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    fair_queue = []

    def decode_some(batch: ImageBatch, numbers: range, *_: object) -> None:
        fair_queue.append(numbers)
        loop.call_soon_threadsafe(begun.set)
        time.sleep(0.05)

    monkeypatch.setattr(uploads, "_decode_some", decode_some)
    batch = ImageBatch(format=FORMATS["PNG"], data=[b""] * 10 * (uploads.TURN // 512))
    decoding = asyncio.create_task(uploads.decode(batch, MANIFEST))
    await begun.wait()
    decoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await decoding
    assert len(fair_queue) == 1


def test_nothing_is_decoded_for_whom_there_is_no_room(images: ImageServiceStub, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise Rejected("the queue is full", retry_after_s=1)

    monkeypatch.setattr(Admission, "reserve", refuse)
    batch = ImageBatch(format=FORMATS["PNG"], data=[b"damaged"])
    with pytest.raises(grpc.RpcError) as refused:
        images.Encode(pb.EncodeRequest(model="vae", images=batch))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_message_that_fails_is_gone_with_its_call(channel: grpc.Channel):
    """Not only when Python happens to look for circles: messages are large, and few other objects are made."""
    message = pb.EncodeRequest(model="vae", images=ImageBatch(format=FORMATS["PNG"], data=[bytes(1000)]))
    encode = channel.unary_unary("/figment.v1.ImageService/Encode", pb.EncodeRequest.SerializeToString)
    sent = channel.unary_unary("/figment.v1.ImageService/Encode")
    with pytest.raises(grpc.RpcError, match="no PNG, JPEG or WebP"):
        encode(message)
    content = message.SerializeToString()
    del message, encode
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            with pytest.raises(grpc.RpcError, match="no PNG, JPEG or WebP"):
                sent(content)
        assert len([each for each in gc.get_objects() if type(each) is pb.EncodeRequest]) <= 1  # of a call that ends
    finally:
        gc.enable()
