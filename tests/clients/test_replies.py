"""What replies tell of their images reaches the user: model, version, engine, time, seeds, indices, labels."""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from figment.v1 import image_service_pb2
from figment_client import Client, Encoding, Images, Internal, Timing
from tests.fakes.image_service import PIECE_IMAGES, UNARY_IMAGES, FakeServer, drawn

PIXELS = np.zeros((2, 8, 6, 1), np.uint8)
TIMING = Timing(0.5, 0.25, 0.125, 64)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=10) as client:
        yield client


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.generate("digits", 2, version="3"),
        lambda client: next(client.stream("digits", 2, version="3")),
        lambda client: client.encode("digits", PIXELS, version="3"),
        lambda client: client.decode("digits", [[0.0]], version="3"),
        lambda client: client.reconstruct("digits", PIXELS, version="3"),
        lambda client: client.interpolate("digits", 1, 2, version="3"),
    ],
)
def test_every_reply_tells_what_made_it(client: Client, call: Callable[[Client], Any]) -> None:
    reply = call(client)
    assert (reply.model, reply.version, reply.engine, reply.timing) == ("digits", "3", "ab12", TIMING)


def test_an_encoding_is_a_pair_that_is_copied_whole(client: Client) -> None:
    encoding = client.encode("digits", PIXELS)
    mean, log_variance = encoding
    assert (mean is encoding.mean, log_variance is encoding.log_variance) == (True, True)
    again = pickle.loads(pickle.dumps(encoding))
    assert (type(again), again.engine, again.timing) == (Encoding, "ab12", TIMING)
    np.testing.assert_array_equal(again.mean, mean)


def test_a_reply_that_tells_no_time_has_none(server: FakeServer, client: Client) -> None:
    response = server.services._response(image_service_pb2.GenerateRequest(seed=1, model="digits"), 0, 2)
    response.ClearField("timing")
    server.services.stream_answers = [image_service_pb2.StreamGenerateResponse(response=response, last=True)]
    assert next(client.stream("digits", 2)).timing is None


def test_generated_images_know_their_indices_however_they_came(client: Client) -> None:
    for count in (UNARY_IMAGES, UNARY_IMAGES + 4):
        images = client.generate("digits", count, seed=3, first_index=7, label=1)
        assert images.indices == list(range(7, 7 + count))
        part = images[-2:]
        assert (part.seed, part.indices, part.labels) == (3, [5 + count, 6 + count], [1, 1])
        np.testing.assert_array_equal(part, drawn(3, 5 + count, 2))


def test_the_times_of_a_streams_pieces_add_up(client: Client) -> None:
    images = client.generate("digits", UNARY_IMAGES + 4)
    pieces = -(-(UNARY_IMAGES + 4) // PIECE_IMAGES)
    assert images.timing == Timing(0.5 * pieces, 0.25 * pieces, 0.125 * pieces, 64)
    assert (images.model, images.version, images.engine) == ("digits", "1", "ab12")


def test_images_that_were_not_drawn_from_a_seed_are_numbered_by_place(client: Client) -> None:
    images = client.decode("digits", np.zeros((4, 3)), labels=[5])
    assert (images.seed, images.indices, images[2:].indices, images[2:].labels) == (None, [0, 1, 2, 3], [2, 3], [5, 5])


@pytest.mark.parametrize(
    ("name", "value"), [("seed", 2), ("model", "other"), ("version", "2"), ("engine", "cd34"), ("images", None)]
)
def test_pieces_that_another_model_drew_are_not_joined(
    server: FakeServer, client: Client, name: str, value: Any
) -> None:
    request = image_service_pb2.GenerateRequest(seed=1, model="digits")
    first, second = (server.services._response(request, index, 1) for index in (0, 1))
    if name == "images":
        second.images.height, second.images.width = second.images.width, second.images.height
    else:
        setattr(second, name, value)
    server.services.stream_answers = [
        image_service_pb2.StreamGenerateResponse(response=first),
        image_service_pb2.StreamGenerateResponse(response=second, last=True),
    ]
    with pytest.raises(Internal, match="the server's stream changed at index 1: got"):
        list(client.stream("digits", 2))


def test_labels_for_some_images_only_are_an_error(server: FakeServer, client: Client) -> None:
    response = server.services._response(image_service_pb2.GenerateRequest(seed=1, label=3), 0, 2)
    del response.labels[1:]
    server.services.stream_answers = [image_service_pb2.StreamGenerateResponse(response=response, last=True)]
    with pytest.raises(Internal, match="holds 1 labels for 2 images"):
        list(client.stream("digits", 2))


def test_an_empty_piece_is_an_error_and_no_endless_stream(server: FakeServer, client: Client) -> None:
    response = server.services._response(image_service_pb2.GenerateRequest(seed=1), 0, 0)
    server.services.stream_answers = [image_service_pb2.StreamGenerateResponse(response=response)]
    with pytest.raises(Internal, match="out of order: got 0 images"):
        list(client.stream("digits", 2))


def test_images_of_a_reply_travel_between_processes(client: Client) -> None:
    images = pickle.loads(pickle.dumps(client.generate("digits", 3, seed=2**64 - 1)))
    assert (type(images), images.seed, images.indices) == (Images, 2**64 - 1, [0, 1, 2])
