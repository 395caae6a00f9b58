"""What features see in scikit-learn's digits, and that nothing but images and seed decides them."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from torch import Tensor, nn

from evaluation.features import (
    BATCH_PIXELS,
    INCEPTION_BATCH,
    ClassifierFeatures,
    Features,
    InceptionFeatures,
    RandomFeatures,
)
from evaluation.frechet import Moments, frechet_distance

pytestmark = pytest.mark.slow

HALF = 898


class _Means(nn.Module):
    """Called as the Inception network: levels (N, 3, H, W) uint8 -> features (N, 6) or logits (N, 2)."""

    def forward(self, levels: Tensor, return_features: bool = False) -> Tensor:
        assert levels.dtype == torch.uint8
        assert levels.shape[0] <= 32
        means = levels.float().mean((2, 3))
        return torch.cat([means, means / 2], 1) if return_features else means[:, :2]


class _Maps(nn.Module):
    def forward(self, levels: Tensor, return_features: bool = False) -> Tensor:
        return levels.float()


class _Other(nn.Module):
    def forward(self, levels: Tensor) -> Tensor:
        return levels.float()


class _Picky(nn.Module):
    def forward(self, levels: Tensor, return_features: bool = False) -> Tensor:
        return levels.float().flatten(1) @ torch.zeros(7, 2)


def _saved(network: nn.Module, file: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), file)
    return file


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 16, 16, 1) uint8 and labels (1797,), shuffled."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    grey = (images.reshape(-1, 8, 8, 1) * (255 / 16)).round().astype(np.uint8)
    return grey.repeat(2, axis=1).repeat(2, axis=2)[order], labels[order]


@pytest.fixture(scope="module")
def classifier(digits: tuple[np.ndarray, np.ndarray]) -> ClassifierFeatures:
    """Trained on the first half."""
    images, labels = digits
    return ClassifierFeatures.train(images[:HALF], labels[:HALF], 10, steps=60)


@pytest.fixture(params=["random", "classifier"])
def features(request: pytest.FixtureRequest) -> Features:
    return RandomFeatures(1) if request.param == "random" else request.getfixturevalue("classifier")


def _moments(features: Features, images: np.ndarray) -> Moments:
    moments = Moments(features.dim)
    moments.add(features(images))
    return moments


def _picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def _noise(images: np.ndarray, sd: float) -> np.ndarray:
    return np.random.default_rng(2).normal(0, sd, images.shape)


def test_features_are_rows_of_float32(features: Features):
    found = features(_picture(3, 16, 16, 1))
    assert found.shape == (3, features.dim)
    assert found.dtype == np.float32


@pytest.mark.parametrize("size", [8, 28, 64, 512])
@pytest.mark.parametrize("channels", [1, 3])
def test_random_features_take_images_of_any_size(size: int, channels: int):
    features = RandomFeatures(channels)
    found = features(_picture(2, size, size, channels))
    assert found.shape == (2, features.dim)
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_features_are_of_an_image_and_not_of_its_batch(features: Features):
    images = _picture(BATCH_PIXELS // 32**2 + 5, 32, 32, 1)  # more than one batch of the network's
    alone = np.concatenate([features(images[:1]), features(images[1:7]), features(images[7:])])
    np.testing.assert_allclose(features(images), alone, rtol=1e-4, atol=1e-5)


def test_random_features_are_the_same_whoever_draws_them_and_when():
    images = _picture(5, 32, 32, 3)
    first = RandomFeatures(3)(images)
    torch.manual_seed(1)
    np.testing.assert_array_equal(first, RandomFeatures(3)(images))


def test_random_features_are_those_that_published_figures_were_taken_by():
    found = RandomFeatures(3)(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(1, 16, 16, 3))[0]
    np.testing.assert_allclose(found[[0, 15, 60, 96]], [0.131901, 0.804971, 0.057495, 0.271646], rtol=1e-4)


def test_random_features_tell_their_weights_apart_by_a_hash():
    assert RandomFeatures(3).hash == RandomFeatures(3).hash != RandomFeatures(1).hash
    assert len(RandomFeatures(3).hash) == 12


def test_read_only_and_strided_images_are_welcome(features: Features):
    images = _picture(4, 16, 16, 1)
    strided = images[:, ::-1]
    images.flags.writeable = False
    np.testing.assert_array_equal(features(strided), features(np.ascontiguousarray(strided)))


@pytest.mark.parametrize(
    ("damage", "degrees"),
    [
        (lambda images, sigma: gaussian_filter(images, (0, sigma, sigma, 0)), [0.5, 0.8, 1.2]),
        (lambda images, sd: (images + _noise(images, sd)).clip(0, 255).astype(np.uint8), [16, 32, 64]),
        (lambda images, part: (images * (1 - part)).astype(np.uint8), [0.1, 0.2, 0.4]),
    ],
    ids=["blur", "noise", "contrast"],
)
def test_the_distance_grows_with_the_damage(
    features: Features,
    digits: tuple[np.ndarray, np.ndarray],
    damage: Callable[[np.ndarray, float], np.ndarray],
    degrees: list[float],
):
    real, others = _moments(features, digits[0][:HALF]), digits[0][HALF:]
    distances = [frechet_distance(real, _moments(features, others))]
    distances += [frechet_distance(real, _moments(features, damage(others, degree))) for degree in degrees]
    assert distances == sorted(distances)
    assert distances[-1] > 3 * distances[0]


def test_the_distance_grows_with_the_classes_that_are_missing(
    features: Features, digits: tuple[np.ndarray, np.ndarray]
):
    (images, labels), others = digits, slice(HALF, None)
    real = _moments(features, images[:HALF])
    kept = [images[others][labels[others] < classes] for classes in (10, 8, 5, 2)]
    distances = [frechet_distance(real, _moments(features, some)) for some in kept]
    assert distances == sorted(distances)
    assert distances[-1] > 10 * distances[0]


def test_a_classifier_learns_digits_in_seconds(classifier: ClassifierFeatures, digits: tuple[np.ndarray, np.ndarray]):
    images, labels = digits
    assert classifier.accuracy(images[HALF:], labels[HALF:]) > 0.95


def test_a_classifier_names_a_class_of_each_image(
    classifier: ClassifierFeatures, digits: tuple[np.ndarray, np.ndarray]
):
    images, labels = digits
    named = classifier.classes(images[HALF:])
    assert named.dtype == np.int64
    assert named.shape == labels[HALF:].shape
    assert classifier.accuracy(images[HALF:], labels[HALF:]) == (named == labels[HALF:]).mean()


def test_a_classifier_is_decided_by_its_seed_and_leaves_torch_as_it_was(digits: tuple[np.ndarray, np.ndarray]):
    torch.manual_seed(7)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again, other = (ClassifierFeatures.train(*digits, 10, seed=seed, steps=3) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert first.hash == again.hash != other.hash
    assert len(first.hash) == 12
    np.testing.assert_array_equal(first(digits[0][:9]), again(digits[0][:9]))


def test_a_classifier_sees_large_images_by_averages_over_areas():
    small, labels = _picture(20, 32, 32, 3), np.arange(20) % 2
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    by_small, by_large = (ClassifierFeatures.train(images, labels, 2, steps=2) for images in (small, large))
    assert by_small.hash == by_large.hash
    np.testing.assert_array_equal(by_small(small), by_small(large))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 16, 16, 1), np.float32), "float32"),
        (np.zeros((2, 16, 16, 3), np.uint8), r"\(2, 16, 16, 3\), expected uint8 \(N, H, W, 1\)"),
        (np.zeros((16, 16, 1), np.uint8), r"\(16, 16, 1\)"),
        (np.zeros((0, 16, 16, 1), np.uint8), "N > 0"),
    ],
)
def test_what_is_no_set_of_images_is_refused(features: Features, images: np.ndarray, words: str):
    with pytest.raises(ValueError, match=words):
        features(images)


@pytest.mark.parametrize("labels", [np.array([0, 2]), np.array([0, -1]), np.array([0])])
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray):
    with pytest.raises(ValueError, match="one of 0 to 1 for each of 2 images"):
        ClassifierFeatures.train(_picture(2, 8, 8, 1), labels, 2)


def test_a_network_from_a_file_turns_images_into_its_features(tmp_path: Path):
    file = _saved(_Means(), tmp_path / "means.pt")
    features = InceptionFeatures(file)
    images = _picture(INCEPTION_BATCH + 9, 8, 12, 3)
    found = features(images)
    assert (features.name, features.dim, found.dtype) == ("inception", 6, np.float32)
    assert features.hash == hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    means = images.mean((1, 2))
    np.testing.assert_allclose(found, np.concatenate([means, means / 2], 1), rtol=1e-5)


def test_a_network_from_a_file_sees_grey_images_as_three_equal_channels(tmp_path: Path):
    features = InceptionFeatures(_saved(_Means(), tmp_path / "means.pt"))
    grey = _picture(5, 8, 8, 1)
    np.testing.assert_array_equal(features(grey), features(grey.repeat(3, axis=3)))


@pytest.mark.parametrize("shape", [(2, 8, 8, 4), (8, 8, 3), (0, 8, 8, 3)])
def test_a_network_from_a_file_refuses_what_is_no_set_of_images(tmp_path: Path, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"expected uint8 \(N, H, W, 3\)"):
        InceptionFeatures(_saved(_Means(), tmp_path / "means.pt"))(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (_Maps(), r"gave float32 \(2, 3, 64, 64\) for 2 images, expected floats \(2, D\)"),
        (_Other(), "takes no images: .*at most 2 argument.* received 3"),
        (_Picky(), "takes no images: RuntimeError: .*shapes cannot be multiplied"),
    ],
)
def test_a_network_that_is_called_otherwise_is_refused_by_its_file(tmp_path: Path, network: nn.Module, words: str):
    file = _saved(network, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=f"inception: .*other.pt {words}"):
        InceptionFeatures(file)


def test_a_file_that_is_missing_or_no_network_is_named(tmp_path: Path):
    weights, text = tmp_path / "weights.pt", tmp_path / "text.pt"
    torch.save({"weight": torch.zeros(3)}, weights)
    text.write_text("no network")
    for file in (tmp_path / "missing.pt", tmp_path, weights, text):
        with pytest.raises(ValueError, match=f"cannot read {file} as TorchScript: "):
            InceptionFeatures(file)
