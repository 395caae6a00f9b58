"""Generate: image `index` of `seed` is the same bytes however it is asked for, alone and under load."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest

from export.golden import noise_of
from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.images_pb2 import ImageFormat
from server.app import App
from tests.fakes.messages import pixels

CLIENTS = 16


def by_hand(models: Path, model: str, seed: int, indices: range, noise_dim: int, labels: int = 0) -> np.ndarray:
    """The images that generator.onnx gives for the noise of the definition, one at a time."""
    session = onnxruntime.InferenceSession(models / model / "1" / "generator.onnx", providers=["CPUExecutionProvider"])
    images = []
    for index in indices:
        noise, label = noise_of(seed, index, noise_dim, labels)
        inputs = {"noise": noise[None], **({"label": np.array([label])} if labels else {})}
        images.append(session.run(None, inputs)[0])
    return np.concatenate(images)


@pytest.mark.parametrize("model", ["vae", "gan", "hybrid", "labelled-gan", "labelled-vae"])
def test_an_image_does_not_depend_on_how_the_request_is_split(images: ImageServiceStub, model: str):
    whole = pixels(images.Generate(pb.GenerateRequest(model=model, seed=7, count=70)))
    for index in (0, 1, 31, 63, 64, 69):
        one = images.Generate(pb.GenerateRequest(model=model, seed=7, count=1, first_index=index))
        assert np.array_equal(pixels(one)[0], whole[index])


@pytest.mark.parametrize(("model", "noise_dim"), [("vae", 17), ("gan", 16), ("hybrid", 17)])
def test_images_are_those_of_the_graph_run_by_hand(images: ImageServiceStub, models: Path, model: str, noise_dim: int):
    reply = images.Generate(pb.GenerateRequest(model=model, seed=2**63 + 11, first_index=5, count=6))
    assert np.array_equal(pixels(reply), by_hand(models, model, 2**63 + 11, range(5, 11), noise_dim))


def test_a_conditional_model_draws_labels_and_tells_them(images: ImageServiceStub, models: Path):
    reply = images.Generate(pb.GenerateRequest(model="labelled-gan", seed=3, count=20))
    assert list(reply.labels) == [noise_of(3, index, 16, 10)[1] for index in range(20)]
    assert np.array_equal(pixels(reply), by_hand(models, "labelled-gan", 3, range(20), 16, labels=10))


def test_a_label_asked_for_is_the_label_of_all_images(images: ImageServiceStub):
    reply = images.Generate(pb.GenerateRequest(model="labelled-gan", seed=3, count=5, label=4))
    other = images.Generate(pb.GenerateRequest(model="labelled-gan", seed=3, count=5, label=5))
    assert list(reply.labels) == [4] * 5
    assert not np.array_equal(pixels(reply), pixels(other))


def test_sixteen_clients_with_mixed_counts_get_the_bytes_that_they_would_get_alone(server: App, models: Path):
    expected = {
        ("vae", 17): by_hand(models, "vae", 5, range(200), 17),
        ("gan", 16): by_hand(models, "gan", 5, range(200), 16),
    }

    def one_client(number: int) -> int:
        draws = np.random.default_rng(number)
        compared = 0
        with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = ImageServiceStub(channel)
            for _ in range(12):
                (model, _), whole = list(expected.items())[draws.integers(2)]
                count = int(draws.choice([1, 2, 3, 16, 64, 100]))
                first = int(draws.integers(200 - count + 1))
                reply = stub.Generate(pb.GenerateRequest(model=model, seed=5, first_index=first, count=count))
                assert np.array_equal(pixels(reply), whole[first : first + count])
                compared += count
        return compared

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert sum(pool.map(one_client, range(CLIENTS))) > 1000
    batches = server.metrics.registry.get_sample_value("figment_batch_images_bucket", {"model": "gan", "le": "1.0"})
    runs = server.metrics.registry.get_sample_value("figment_batch_images_count", {"model": "gan"})
    assert batches is not None
    assert runs is not None
    assert batches < runs, "requests of several clients met in batches"


def test_a_request_without_seed_gets_one_that_repeats_it(images: ImageServiceStub):
    first = images.Generate(pb.GenerateRequest(model="gan", count=3))
    again = images.Generate(pb.GenerateRequest(model="gan", count=3, seed=first.seed))
    other = images.Generate(pb.GenerateRequest(model="gan", count=3))
    assert first.seed < 2**53
    assert pixels(first).tobytes() == pixels(again).tobytes()
    assert other.seed != first.seed


def test_truncation_makes_images_more_alike(images: ImageServiceStub):
    def spread(truncation: float) -> float:
        request = pb.GenerateRequest(model="gan", seed=1, count=64, truncation=truncation)
        return float(pixels(images.Generate(request)).astype(float).std(axis=0).mean())

    assert spread(0.1) < 0.5 * spread(1.0)


def test_truncation_one_is_the_default(images: ImageServiceStub):
    plain = images.Generate(pb.GenerateRequest(model="vae", seed=1, count=4))
    one = images.Generate(pb.GenerateRequest(model="vae", seed=1, count=4, truncation=1.0))
    assert pixels(plain).tobytes() == pixels(one).tobytes()


def test_the_last_images_of_a_seed_can_be_drawn(images: ImageServiceStub):
    reply = images.Generate(pb.GenerateRequest(model="gan", seed=2**64 - 1, first_index=2**64 - 2, count=2))
    assert reply.images.count == 2


@pytest.mark.parametrize(("name", "lossless"), [("PNG", True), ("WEBP", True), ("JPEG", False)])
def test_encoded_formats_hold_the_same_images(images: ImageServiceStub, name: str, lossless: bool):
    import io

    from PIL import Image

    raw = pixels(images.Generate(pb.GenerateRequest(model="vae", seed=1, count=3)))
    image_format = ImageFormat.Value(f"IMAGE_FORMAT_{name}")
    reply = images.Generate(pb.GenerateRequest(model="vae", seed=1, count=3, format=image_format))
    assert reply.images.format == image_format
    for file, expected in zip(reply.images.data, raw, strict=True):
        got = np.asarray(Image.open(io.BytesIO(file), formats=[name]).convert("L"))[..., None]
        error = np.abs(got.astype(int) - expected.astype(int)).max()
        assert error == 0 if lossless else error < 40


def test_replies_tell_what_drew_them_and_where_the_time_went(images: ImageServiceStub):
    reply = images.Generate(pb.GenerateRequest(model="vae", count=3))
    assert (reply.model, reply.version) == ("vae", "1")
    assert len(reply.engine) == 12
    assert reply.timing.compute_s > 0
    assert reply.timing.batch_size >= 3
