"""What features see in scikit-learn's digits, and that nothing but images and seed decides them."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

from evaluation.features import BATCH_PIXELS, ClassifierFeatures, Features, RandomFeatures
from evaluation.frechet import Moments, frechet_distance

HALF = 898


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
