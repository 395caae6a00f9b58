"""Models whose latents are maps: exported as they draw, and served with labels, truncation and ways between images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export.publish import publish
from export.source import from_run
from figment.v1.manifest_pb2 import Manifest
from figment_client import Client
from tests.fakes.colours import colour_folder
from tests.fakes.servers import running_server
from training.inversion import taken_over
from training.settings import TrainSettings
from training.trainer import train

pytestmark = pytest.mark.slow

KINDS = {"gan": False, "hybrid": True, "vae": True, "inverse": False}
"""Models, of the families of these names but "inverse", which is "gan" with an encoder, and whether they know classes; the VAE
draws codes from N(0, I). A hybrid without classes is served in tests/test_end_to_end.py."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    data = colour_folder(folder / "pictures", size=16)
    for name, conditional in KINDS.items():
        own = {"data": str(data), "family": name, "conditional": conditional}
        own["prior"] = "normal" if name == "vae" else "mixture"
        chosen = taken_over(folder / "gan") | {"encoder_for": folder / "gan"} if name == "inverse" else own
        settings = {"out": folder / name, "images": 64, "batch": 16, "device": "cpu", "sheet_every": 1000}
        train(TrainSettings.model_validate(chosen | settings))
        publish(from_run(folder / name), folder / "models", name)
    return folder / "models"


@pytest.fixture(scope="module")
def client(models: Path) -> Iterator[Client]:
    with running_server(models) as app, Client(app.address) as client:
        yield client


def _manifest(client: Client, name: str) -> Manifest:
    return client.model(name).manifest


@pytest.mark.parametrize(("name", "noise", "latent", "shape"), [("hybrid", 33, 48, [3, 4, 4]), ("gan", 32, 32, [])])
def test_the_manifest_tells_the_map(client: Client, name: str, noise: int, latent: int, shape: list[int]) -> None:
    manifest = _manifest(client, name)
    assert (manifest.noise_dim, manifest.latent_dim, list(manifest.latent_shape)) == (noise, latent, shape)
    assert manifest.truncated_dim == (32 if shape else 0)


def test_the_manifest_tells_a_learned_inverse_and_the_generators_origin(client: Client) -> None:
    gan, inverse = _manifest(client, "gan"), _manifest(client, "inverse")
    assert (inverse.family, inverse.latent_dim) == ("gan", 32)
    assert inverse.inversion.psnr_db > 0
    for name in ("run", "images", "settings", "notices"):
        assert getattr(inverse.inversion.generator, name) == getattr(gan.provenance, name)
    assert inverse.graphs["generator.onnx"] == gan.graphs["generator.onnx"]
    assert not any(_manifest(client, name).HasField("inversion") for name in ("gan", "hybrid"))


@pytest.mark.parametrize("name", KINDS)
def test_a_seed_gives_its_pictures_however_many_are_asked_for(client: Client, name: str) -> None:
    label = 1 if KINDS[name] else None
    several = client.generate(name, count=5, seed=3, label=label)
    alone = client.generate(name, count=1, seed=3, first_index=4, label=label)
    assert several.shape == (5, 16, 16, 3)
    assert np.array_equal(several[4], alone[0])


def test_truncation_leaves_the_component_and_scales_the_code(client: Client) -> None:
    whole = client.generate("hybrid", count=64, seed=1).astype(int)
    half = client.generate("hybrid", count=64, seed=1, truncation=0.5).astype(int)
    assert not np.array_equal(whole, half)
    assert half.std(0).mean() <= whole.std(0).mean()


@pytest.mark.parametrize(("name", "latent"), [("hybrid", 48), ("inverse", 32)])
def test_pictures_are_encoded_decoded_and_reconstructed(client: Client, name: str, latent: int) -> None:
    label, labels = (0, [0]) if KINDS[name] else (None, [])
    pictures = client.generate(name, count=3, seed=1, label=label)
    posterior = client.encode(name, pictures, labels)
    assert posterior.mean.shape == (3, latent)
    decoded = client.decode(name, posterior.mean, labels)
    assert np.array_equal(decoded, client.reconstruct(name, pictures, labels))


@pytest.mark.parametrize("name", KINDS)
def test_a_way_between_two_images_begins_and_ends_with_them(client: Client, name: str) -> None:
    label = 1 if KINDS[name] else None
    ends = [client.generate(name, count=1, seed=seed, label=label)[0] for seed in (5, 6)]
    way = client.interpolate(name, (5, 0), (6, 0), steps=4, label=label)
    assert np.array_equal(way[0], ends[0])
    assert np.array_equal(way[-1], ends[1])
