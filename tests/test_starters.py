"""The starter models as `make serve` makes and serves them: ten digits each, readable, nothing missing; drawings like OpenMoji's.

Run by `make test-starters`, which trains them where they are missing; too slow for `make test`.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.svm import SVC

from evaluation import pretrained
from evaluation.kernel_distance import kernel_distance
from figment_client import Client
from training.data import ImageSet
from training.sources import load

pytestmark = pytest.mark.starters

HOME = Path(__file__).parent.parent
SAMPLES = 2_000
DRAWINGS = 300


@pytest.fixture(scope="module")
def welcome() -> Iterator[list[str]]:
    """What `make serve` prints when it is ready; on free ports."""
    free = {"FIGMENT_ADDRESS": "127.0.0.1:0", "FIGMENT_METRICS_ADDRESS": "127.0.0.1:0"}
    process = subprocess.Popen(
        ["make", "--silent", "serve"],
        cwd=HOME,
        env={**os.environ, **free},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    yield [process.stdout.readline().strip() for _ in range(4)]
    os.killpg(process.pid, signal.SIGTERM)
    process.stdout.close()
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def client(welcome: list[str]) -> Iterator[Client]:
    match = re.match(r"serving digits-gan, digits-hybrid, digits-vae, openmoji-hybrid on (\S+),", welcome[0])
    assert match, welcome
    with Client(match[1]) as client:
        yield client


@pytest.fixture(scope="module")
def drawings() -> tuple[ImageSet, ImageSet]:
    """OpenMoji's that the model has seen, and others."""
    return load("openmoji", None).split(0.2, 0)


def thumbnails(images: np.ndarray) -> np.ndarray:
    """(N, 32, 32, 1) uint8 to (N, 64): what scikit-learn's digits were before they were enlarged."""
    return images.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64) / 16


@pytest.fixture(scope="module")
def classifier() -> SVC:
    """Tells digits apart; wrong on less than 2% of those that it has not seen."""
    seen, held_out = load("digits", None).split(0.2, 0)
    classifier = SVC(gamma=0.001, C=10).fit(thumbnails(seen.images), seen.labels)
    assert classifier.score(thumbnails(held_out.images), held_out.labels) > 0.98
    return classifier


@pytest.mark.parametrize("name", ["digits-vae", "digits-gan", "digits-hybrid"])
def test_all_ten_digits_are_drawn_about_equally_often(client: Client, classifier: SVC, name: str):
    drawn = classifier.predict(thumbnails(np.asarray(client.generate(name, SAMPLES, seed=7))))
    share = np.bincount(drawn, minlength=10) / SAMPLES
    real = np.bincount(load("digits", None).labels) / len(load("digits", None))
    assert (share > 0).all(), "all ten classes"
    kl_nats = float((share * np.log(share / real)).sum())
    print(f"{name}: classes 10/10, label KL {kl_nats:.4f} nats")
    assert kl_nats < 0.05


@pytest.mark.parametrize("name", ["digits-vae", "digits-gan", "digits-hybrid"])
def test_drawn_digits_look_like_digits_and_not_like_each_other(client: Client, name: str):
    real = thumbnails(load("digits", None).images)
    drawn = thumbnails(np.asarray(client.generate(name, 500, seed=8)))
    noise = np.random.default_rng(0).permuted(real[:500], axis=1)

    def to_nearest_real(images: np.ndarray) -> float:
        squares = (images**2).sum(1)[:, None] + (real**2).sum(1) - 2 * images @ real.T
        return float(np.sqrt(np.maximum(squares, 0)).min(1).mean())

    assert to_nearest_real(drawn) < 0.6 * to_nearest_real(noise)
    assert drawn.std(axis=0).mean() > 0.8 * real.std(axis=0).mean()


@pytest.mark.parametrize("name", ["digits-vae", "digits-hybrid"])
def test_held_out_digits_are_reconstructed_readably(client: Client, classifier: SVC, name: str):
    _, held_out = load("digits", None).split(0.2, 0)
    again = np.asarray(client.reconstruct(name, held_out.images))
    psnr_db = 20 * np.log10(255) - 10 * np.log10(np.square(again.astype(float) - held_out.images).mean())
    print(f"{name}: held-out reconstructions {psnr_db:.2f} dB PSNR")
    assert psnr_db > 21
    assert classifier.score(thumbnails(again), held_out.labels) > 0.95


def test_drawings_look_like_openmojis_to_a_pretrained_network(client: Client, drawings: tuple[ImageSet, ImageSet]):
    (network,) = [each for each in pretrained.installed() if each.name == pretrained.EFFNET]
    drawn = np.asarray(client.generate("openmoji-hybrid", DRAWINGS, seed=7))
    distance = kernel_distance(network(drawn), network(drawings[0].images[:DRAWINGS]))
    print(f"openmoji-hybrid: kernel distance {distance:.3f}")
    assert distance < 0.12


def test_held_out_drawings_are_reconstructed(client: Client, drawings: tuple[ImageSet, ImageSet]):
    originals = drawings[1].images[:200]
    again = np.asarray(client.reconstruct("openmoji-hybrid", originals))
    psnr_db = 20 * np.log10(255) - 10 * np.log10(np.square(again.astype(float) - originals).mean())
    print(f"openmoji-hybrid: held-out reconstructions {psnr_db:.2f} dB PSNR")
    assert psnr_db > 17


def test_the_commands_that_make_serve_prints_work(welcome: list[str], tmp_path: Path):
    commands = [line for line in welcome if line.startswith("figment ")]
    assert len(commands) == 3
    for command in commands:
        figment = Path(sys.executable).parent / "figment"
        subprocess.run([figment, *shlex.split(command)[1:]], cwd=tmp_path, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"sheet.png", "morph.gif"}
