"""What uploads may cost: parts that a decoder sees, turns, decoded bytes; and limits that no waiting helps against."""

import asyncio
import struct
from pathlib import Path

import grpc
import pytest

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.images_pb2 import ImageBatch
from server.errors import InvalidArgument, Rejected
from server.rpc import uploads
from server.rpc.image_files import KEPT
from server.rpc.limits import Limits
from server.rpc.uploads import PICTURE, TURN, Room
from server.settings import LimitSettings
from tests.fakes.image_files import FORMATS, MANIFEST, decoded, file_of, png_chunk, with_chunks
from tests.fakes.servers import running_server


def jpeg_with(segment: bytes) -> bytes:
    file = file_of("JPEG")
    return file[:2] + segment * 4000 + file[2:]


def webp_with(chunk: bytes) -> bytes:
    body = file_of("WEBP")[8:] + chunk * 4000
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    "file",
    [
        *[jpeg_with(bytes([0xFF, kind, 0, 2])) for kind in (0xC4, 0xDB, 0xDC, 0xE0, 0xEE)],
        *[with_chunks(png_chunk(name, b"\x08\x08\x08") * 4000) for name in (b"sBIT", b"tRNS", b"PLTE")],
        *[webp_with(name + bytes(4)) for name in (b"ALPH", b"ANIM", b"VP8X")],
    ],
)
def test_parts_that_a_decoder_sees_are_few(file: bytes):
    with pytest.raises(InvalidArgument, match=f"more than {KEPT} parts"):
        decoded(file)


def test_a_turn_ends_with_its_pixels_and_with_the_bytes_of_its_files(monkeypatch: pytest.MonkeyPatch):
    fair_queue: list[range] = []
    monkeypatch.setattr(uploads, "_decode_some", lambda _, numbers, *__: fair_queue.append(numbers))

    def turns_of(*files: bytes) -> list[range]:
        fair_queue.clear()
        asyncio.run(uploads.decode(ImageBatch(format=FORMATS["PNG"], data=files), MANIFEST))
        return list(fair_queue)

    small = TURN // (PICTURE + MANIFEST.width * MANIFEST.height)
    assert turns_of(*[b""] * (small + 1)) == [range(small), range(small, small + 1)]
    large = bytes(TURN // 2)
    assert turns_of(large, large, b"", bytes(2 * TURN), b"") == [range(1), range(1, 3), range(3, 4), range(4, 5)]


def test_files_are_no_more_pictures_than_a_message_of_pixels_has():
    limits = Limits(LimitSettings(receive_bytes=2**20), max_batch=64)
    assert limits.uploaded_images(512 * 512 * 3) == 1
    assert limits.uploaded_images(32 * 32) == 1024
    assert limits.uploaded_images(2**21) == 1


def test_decoded_pictures_of_all_calls_have_a_limit():
    room = Room(100)
    with room.hold(60):
        with room.hold(40), pytest.raises(Rejected, match="100 of 100 bytes of decoded pictures, 1 more do not fit"):
            room.hold(1).__enter__()
        with pytest.raises(RuntimeError), room.hold(40):
            raise RuntimeError
        with room.hold(0), room.hold(40):
            pass
    with room.hold(101):
        pass


def test_what_never_fits_is_not_told_to_come_again(only_vae: Path):
    limits = {"model_queue_images": 4, "receive_bytes": 8 * 1024}
    files = ImageBatch(format=FORMATS["PNG"], data=[b"no picture"] * 9)
    with running_server(only_vae, limits=limits) as app, grpc.insecure_channel(app.address) as channel:
        images = ImageServiceStub(channel)
        for call, request, problem in (
            (images.Generate, pb.GenerateRequest(model="vae", count=5), "count: got 5, allowed are 1 to 4"),
            (images.Encode, pb.EncodeRequest(model="vae", images=files), "got 9 images, allowed are 1 to 4"),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(request)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert problem in refused.value.details()
