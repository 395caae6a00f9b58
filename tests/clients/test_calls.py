"""Client: what is sent, what comes back, what is refused before it is sent."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from figment.v1 import image_service_pb2, images_pb2, model_service_pb2
from figment_client import Client, Images, Internal, InvalidArgument, Model, Unavailable, Version
from tests.fakes.image_service import PIECE_IMAGES, UNARY_IMAGES, FakeServer, drawn


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=10) as client:
        yield client


def test_generate_sends_what_was_asked_for_and_returns_the_images(server: FakeServer, client: Client) -> None:
    images = client.generate("digits", 3, seed=2**64 - 1, first_index=5, label=1, truncation=0.5, version="2")
    assert server.services.requests[-1] == image_service_pb2.GenerateRequest(
        model="digits", version="2", count=3, seed=2**64 - 1, first_index=5, label=1, truncation=0.5,
        format=images_pb2.IMAGE_FORMAT_RAW,
    )  # fmt: skip
    np.testing.assert_array_equal(images, drawn(2**64 - 1, 5, 3))
    assert (type(images), images.seed, images.first_index, images.labels) == (Images, 2**64 - 1, 5, [1, 1, 1])


def test_a_seed_left_to_the_server_is_not_sent_and_is_told(server: FakeServer, client: Client) -> None:
    assert client.generate("digits").seed == 1000
    assert not server.services.requests[-1].HasField("seed")


def test_the_arrays_are_the_replys_own_bytes(client: Client) -> None:
    images = client.generate("digits")
    root: Any = images
    while isinstance(root, np.ndarray):
        root = root.base
    assert isinstance(root, bytes)


def test_the_unary_limit_is_asked_for_once_for_each_version(server: FakeServer, client: Client) -> None:
    for version in ("", "", "1", "1"):
        client.generate("digits", version=version)
    asked = [r.version for r in server.services.requests if isinstance(r, model_service_pb2.GetModelRequest)]
    assert asked == ["", "1"]


def test_more_images_than_a_unary_call_may_ask_for_come_by_stream(server: FakeServer, client: Client) -> None:
    images = client.generate("digits", UNARY_IMAGES + 4, seed=3, first_index=2, label=1)
    message = server.services.requests[-1]
    assert isinstance(message, image_service_pb2.StreamGenerateRequest)
    assert message.request.count == UNARY_IMAGES + 4
    np.testing.assert_array_equal(images, drawn(3, 2, UNARY_IMAGES + 4))
    assert (images.seed, images.first_index, images.labels) == (3, 2, [1] * (UNARY_IMAGES + 4))


def test_a_stream_hands_over_pieces_that_know_their_index(client: Client) -> None:
    pieces = list(client.stream("digits", PIECE_IMAGES + 1, seed=1, first_index=10))
    assert [(piece.first_index, len(piece)) for piece in pieces] == [(10, PIECE_IMAGES), (10 + PIECE_IMAGES, 1)]
    np.testing.assert_array_equal(np.concatenate(pieces), drawn(1, 10, PIECE_IMAGES + 1))


def test_leaving_a_stream_early_cancels_the_rest(server: FakeServer, client: Client) -> None:
    server.services.endless = True
    pieces = client.stream("digits", 1000)
    next(pieces)
    del pieces
    assert server.services.stream_cancelled.wait(5)


def test_a_stream_that_ends_early_is_told_as_a_draining_server(server: FakeServer, client: Client) -> None:
    server.services.stream_answers = []
    with pytest.raises(Unavailable, match="before the last image"):
        list(client.stream("digits", 2))


@pytest.mark.parametrize(("first_index", "count"), [(1, 1), (0, 3)])
def test_a_stream_out_of_order_is_an_error(server: FakeServer, client: Client, first_index: int, count: int) -> None:
    request = image_service_pb2.GenerateRequest(seed=1)
    response = server.services._response(request, first_index, count)
    server.services.stream_answers = [image_service_pb2.StreamGenerateResponse(response=response, last=True)]
    with pytest.raises(Internal, match="out of order"):
        list(client.stream("digits", 2))


def test_a_stream_with_too_few_images_is_an_error(server: FakeServer, client: Client) -> None:
    response = server.services._response(image_service_pb2.GenerateRequest(seed=1), 0, 1)
    server.services.stream_answers = [image_service_pb2.StreamGenerateResponse(response=response, last=True)]
    with pytest.raises(Internal, match="1 images missing"):
        list(client.stream("digits", 2))


def test_encode_sends_raw_pixels_and_returns_float32(server: FakeServer, client: Client) -> None:
    encoding = client.encode("digits", drawn(1, 0, 2), labels=[4])
    request = server.services.requests[-1]
    assert request.images.format == images_pb2.IMAGE_FORMAT_RAW
    assert (request.images.count, request.images.height, request.images.width, request.images.channels) == (2, 8, 6, 1)
    assert list(request.images.data) == [drawn(1, 0, 2).tobytes()]
    assert list(request.labels) == [4, 4]
    assert encoding.mean.shape == (2, 3)
    assert encoding.mean.dtype == np.float32
    np.testing.assert_array_equal(encoding.log_variance, -encoding.mean)


def test_arrays_with_gaps_in_memory_are_sent_as_they_look(server: FakeServer, client: Client) -> None:
    client.encode("digits", drawn(1, 0, 4)[::2])
    assert server.services.requests[-1].images.data[0] == drawn(1, 0, 4)[::2].tobytes()


def test_files_are_sent_as_they_are(server: FakeServer, client: Client, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "c.webp")]
    for path in paths:
        Image.new("L", (6, 8)).save(path)
    assert client.reconstruct("digits", [paths[0], str(paths[1]), paths[2]]).shape == (3, 8, 6, 1)
    sent = server.services.requests[-1].images
    assert (sent.format, sent.count) == (images_pb2.IMAGE_FORMAT_PNG, 3)
    assert list(sent.data) == [path.read_bytes() for path in paths]
    client.reconstruct("digits", paths[2])
    assert server.services.requests[-1].images.format == images_pb2.IMAGE_FORMAT_WEBP


def test_decode_sends_latents_as_float32(server: FakeServer, client: Client) -> None:
    images = client.decode("digits", [[0.5, 1.0, -1.0]], labels=[2])
    sent = server.services.requests[-1].latents
    assert (sent.count, sent.dim) == (1, 3)
    np.testing.assert_array_equal(np.frombuffer(sent.values, "<f4"), [0.5, 1.0, -1.0])
    assert (images.shape, images.labels) == ((1, 8, 6, 1), [2])


def test_an_interpolation_runs_between_seeds_pairs_and_latents(server: FakeServer, client: Client) -> None:
    images = client.interpolate("digits", 5, (6, 7), 3, method="slerp", label=1)
    request = server.services.requests[-1]
    assert (request.start.seeded.seed, request.start.seeded.index) == (5, 0)
    assert (request.end.seeded.seed, request.end.seeded.index) == (6, 7)
    assert (request.steps, request.label) == (3, 1)
    assert request.method == image_service_pb2.INTERPOLATION_METHOD_SLERP
    assert (len(images), images.labels) == (3, [1, 1, 1])
    client.interpolate("digits", np.zeros(2), [0.5, 1.0])
    request = server.services.requests[-1]
    assert (request.start.latent.count, request.start.latent.dim) == (1, 2)
    np.testing.assert_array_equal(np.frombuffer(request.end.latent.values, "<f4"), [0.5, 1.0])


def test_models_are_plain_records(client: Client) -> None:
    failed = Version("2", "failed", "generator.onnx: [sha256] differs")
    assert client.models() == [
        Model("digits", "vae", "1", (failed, Version("1", "ready"))),
        Model("broken", "", "", (failed,)),
    ]


def test_a_model_is_the_servers_message(client: Client) -> None:
    reply = client.model("digits")
    assert list(reply.manifest.labels) == ["zero", "one"]


def test_threads_share_a_client(client: Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        drawings = list(threads.map(lambda seed: client.generate("digits", 2, seed=seed), range(40)))
    for seed, images in enumerate(drawings):
        np.testing.assert_array_equal(images, drawn(seed, 0, 2))


LATENT = np.zeros((1, 3), np.float32)
PIXELS = np.zeros((2, 8, 6, 1), np.uint8)


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("model", lambda client: client.generate("")),
        ("model", lambda client: client.generate("\udcff")),
        ("version", lambda client: client.generate("m", version="\udcff")),
        ("version", lambda client: client.model("m", 3)),
        ("version", lambda client: client.decode("m", LATENT, version=3)),
        ("count", lambda client: client.generate("m", 0)),
        ("count", lambda client: client.generate("m", 1.5)),
        ("count", lambda client: client.generate("m", True)),
        ("seed", lambda client: client.generate("m", seed=-1)),
        ("seed", lambda client: client.stream("m", 1, seed=2**64)),
        ("first_index", lambda client: client.generate("m", 2, first_index=2**64 - 1)),
        ("label", lambda client: client.generate("m", label=-1)),
        ("truncation", lambda client: client.generate("m", truncation=0.0)),
        ("truncation", lambda client: client.generate("m", truncation=float("nan"))),
        ("images", lambda client: client.encode("m", PIXELS.astype(np.float32))),
        ("images", lambda client: client.encode("m", PIXELS[0])),
        ("images", lambda client: client.reconstruct("m", [])),
        ("images", lambda client: client.reconstruct("m", [__file__])),
        ("labels", lambda client: client.encode("m", PIXELS, labels=[0, 1, 2])),
        ("labels", lambda client: client.decode("m", LATENT, labels=["one"])),
        ("latents", lambda client: client.decode("m", LATENT[0])),
        ("latents", lambda client: client.decode("m", LATENT.astype(int))),
        ("latents", lambda client: client.decode("m", np.full((1, 3), 1e300))),
        ("steps", lambda client: client.interpolate("m", 0, 1, 1)),
        ("method", lambda client: client.interpolate("m", 0, 1, method="spline")),
        ("start", lambda client: client.interpolate("m", (0, -1), 1)),
        ("end", lambda client: client.interpolate("m", 0, np.full(3, np.nan))),
        ("end", lambda client: client.interpolate("m", 0, "1")),
    ],
)
def test_what_the_client_knows_to_be_wrong_is_never_sent(
    server: FakeServer, client: Client, field: str, call: Callable[[Client], Any]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        call(client)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: got ")
    assert server.services.requests == []
