"""What the evaluator says of models that are known by heart: real images themselves, blurred ones, one class only."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

from evaluation.features import RandomFeatures
from evaluation.outputs import STEPS
from evaluation.reference import RealImages
from evaluation.scorecard import SAMPLES_SHOWN, Evaluator, Scorecard

pytestmark = pytest.mark.slow

IMAGES = 400
SEEN = 1_200


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> tuple[RealImages, RealImages]:
    """Images (N, 16, 16, 1): those to be seen, and the others."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    grey = (images.reshape(-1, 8, 8, 1) * (255 / 16)).round().astype(np.uint8)
    grey = grey.repeat(2, axis=1).repeat(2, axis=2)[order]
    names = [str(name) for name in range(10)]
    labels = labels[order].astype(np.int64)
    return RealImages(grey[:SEEN], labels[:SEEN], names), RealImages(grey[SEEN:], labels[SEEN:], names)


@pytest.fixture(scope="module")
def evaluator(digits: tuple[RealImages, RealImages]) -> Evaluator:
    return Evaluator(*digits, images=IMAGES)


class Copier:
    """A model whose latents are the 256 pixels; it draws images of `bank`, and rebuilds what it is given."""

    family = "vae"
    noise_dim = 1
    name = "copier"
    has_encoder = True

    def __init__(self, bank: np.ndarray, blur: float = 0.0) -> None:
        self.label_names: list[str] = []
        self.bank = bank
        self.blur = blur

    def latent(self, noise, labels):
        rows = (np.abs(noise[:, 0]) * 1e4).astype(np.int64) % len(self.bank)
        return self.bank[rows].reshape(len(noise), -1).astype(np.float32)

    def decode(self, latents, labels):
        images = latents.reshape(len(latents), 16, 16, 1).round().clip(0, 255)
        return gaussian_filter(images, (0, self.blur, self.blur, 0)).astype(np.uint8)

    def encode(self, images, labels):
        flat = images.reshape(len(images), -1).astype(np.float32)
        return flat, np.full_like(flat, -20)

    def bound(self, images, labels, draws, seed):
        return np.full(len(images), float(draws))


@pytest.fixture(scope="module")
def perfect(evaluator: Evaluator, digits: tuple[RealImages, RealImages]) -> Scorecard:
    return evaluator.score(Copier(digits[1].images), draws=7)


@pytest.fixture(scope="module")
def blurred(evaluator: Evaluator, digits: tuple[RealImages, RealImages]) -> Scorecard:
    return evaluator.score(Copier(digits[1].images, blur=1.0))


def test_an_autoencoder_gets_every_figure(perfect: Scorecard):
    assert set(perfect.figures) == {
        "frechet_random", "fid_clf", "precision", "recall", "density", "coverage", "classes_missing", "class_kl_nats",
        "detail", "reconstruction_psnr_db", "reconstruction_ssim", "active_units", "probe_accuracy", "iwae_nats",
        "interpolation_detour", "interpolation_jump",
    }  # fmt: skip


def test_real_images_are_as_good_as_real_ones(perfect: Scorecard):
    figures = perfect.figures
    assert figures["classes_missing"] == 0
    assert figures["class_kl_nats"] < 0.05
    assert figures["detail"] == pytest.approx(1, abs=0.05)
    assert figures["coverage"] > 0.8
    assert figures["reconstruction_psnr_db"] == np.inf
    assert figures["reconstruction_ssim"] == pytest.approx(1)
    assert figures["probe_accuracy"] > 0.9
    assert figures["iwae_nats"] == 7


def test_of_images_of_one_grey_no_detail_is_told():
    black = RealImages(np.zeros((40, 16, 16, 1), np.uint8), None, [])
    card = Evaluator(black, black, images=80).score(Copier(black.images), draws=7)
    assert "detail" not in card.figures
    assert card.figures["frechet_random"] == pytest.approx(0, abs=1e-3)
    assert card.figures["reconstruction_psnr_db"] == np.inf


def test_blur_costs_detail_fidelity_and_reconstruction(perfect: Scorecard, blurred: Scorecard):
    assert blurred.figures["detail"] < 0.5
    assert blurred.figures["fid_clf"] > 2 * perfect.figures["fid_clf"]
    assert blurred.figures["reconstruction_psnr_db"] < 30


def test_what_knows_one_class_misses_nine(evaluator: Evaluator, digits: tuple[RealImages, RealImages]):
    seen = digits[0]
    assert seen.labels is not None
    card = evaluator.score(Copier(seen.images[seen.labels == 3]))
    assert card.figures["classes_missing"] >= 8
    assert card.figures["class_kl_nats"] > 1.5
    assert card.pictures.class_counts is not None
    assert card.pictures.class_counts[3] > 0.9 * IMAGES


def test_the_bound_is_left_out_unless_draws_are_asked_for(blurred: Scorecard):
    assert "iwae_nats" not in blurred.figures


def test_a_model_without_an_encoder_has_no_figures_of_one(evaluator: Evaluator, digits: tuple[RealImages, RealImages]):
    model = Copier(digits[1].images)
    model.has_encoder = False
    card = evaluator.score(model)
    assert not {"reconstruction_psnr_db", "probe_accuracy", "active_units"} & set(card.figures)
    assert card.pictures.originals is card.pictures.reconstructions is None


def _of_one_class(part: RealImages) -> RealImages:
    chosen = part.labels == 4
    return RealImages(part.images[chosen], np.full(chosen.sum(), 4), part.label_names)


@pytest.mark.parametrize("left", [lambda part: RealImages(part.images), _of_one_class], ids=["none", "one class"])
def test_without_labels_to_tell_apart_distances_are_by_the_random_features_alone(
    left: Callable[[RealImages], RealImages], digits: tuple[RealImages, RealImages]
):
    seen, held_out = (left(part) for part in digits)
    evaluator = Evaluator(seen, held_out, images=IMAGES)
    card = evaluator.score(Copier(held_out.images))
    assert evaluator.judged_by == f"random {RandomFeatures(1).hash}, {IMAGES} images"
    assert not {"fid_clf", "class_kl_nats", "probe_accuracy"} & set(card.figures)
    assert {"frechet_random", "coverage"} <= set(card.figures)


def test_an_extractor_that_is_given_takes_the_classifiers_place(digits: tuple[RealImages, RealImages]):
    given = RandomFeatures(1)
    given.name = "inception"
    evaluator = Evaluator(*digits, features_override=given, images=IMAGES)
    figures = evaluator.score(Copier(digits[1].images)).figures
    assert figures["fid"] == pytest.approx(figures["frechet_random"])
    assert "fid_clf" not in figures
    assert figures["classes_missing"] == 0  # the classifier still names classes


def test_the_same_model_gets_the_same_figures(
    evaluator: Evaluator, digits: tuple[RealImages, RealImages], blurred: Scorecard
):
    assert evaluator.score(Copier(digits[1].images, blur=1.0)).figures == blurred.figures


def test_distances_of_a_set_do_not_depend_on_how_it_comes(evaluator: Evaluator, digits: tuple[RealImages, RealImages]):
    images = digits[1].images
    whole, parts = evaluator.distances([images]), evaluator.distances([images[:100], images[100:]])
    assert whole == pytest.approx(parts, rel=1e-4)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r"the images are of no classes"),
        (tuple("9876543210"), r"draws 0, 1, .* \(10 classes\), the images are of 9, 8"),
    ],
)
def test_a_conditional_model_wants_images_of_its_classes(
    names: tuple[str, ...], message: str, digits: tuple[RealImages, RealImages]
):
    model = Copier(digits[1].images)
    model.label_names = list("0123456789")
    seen, held_out = (RealImages(part.images, part.labels if names else None, names) for part in digits)
    with pytest.raises(ValueError, match=message):
        Evaluator(seen, held_out, images=IMAGES).score(model)


def test_a_class_without_images_is_not_missed(digits: tuple[RealImages, RealImages]):
    seen, held_out = (
        RealImages(part.images[part.labels != 4], part.labels[part.labels != 4], part.label_names) for part in digits
    )
    assert Evaluator(seen, held_out, images=IMAGES).score_samples(Copier(held_out.images))["classes_missing"] == 0


class Asked(Copier):
    """A conditional GAN that draws digits of the class asked for, or of what `of_class` makes of it."""

    has_encoder = False

    def __init__(self, seen: RealImages, of_class: Callable[[int], int] = int) -> None:
        super().__init__(seen.images)
        self.label_names = list(seen.label_names)
        self.rows = [np.flatnonzero(seen.labels == of_class(label)) for label in range(10)]

    def latent(self, noise, labels):
        place = (np.abs(noise[:, 0]) * 1e4).astype(np.int64)
        rows = [self.rows[label][at % len(self.rows[label])] for at, label in zip(place, labels, strict=True)]
        return self.bank[rows].reshape(len(noise), -1).astype(np.float32)


CLASS_KEYS = ("label_accuracy", "label_accuracy_held_out", "cas", "cas_real")


def _of_classes(evaluator: Evaluator, model: Copier) -> list[float]:
    figures = evaluator.score_samples(model)
    return [figures[key] for key in CLASS_KEYS]


def test_a_model_that_draws_the_class_asked_for_is_told_from_one_that_does_not(
    evaluator: Evaluator, digits: tuple[RealImages, RealImages]
):
    asked, held_out, score, score_of_real = _of_classes(evaluator, Asked(digits[0]))
    assert min(asked, held_out) > 0.9
    assert score == pytest.approx(score_of_real, abs=0.15)
    assert score_of_real > 0.5
    mixed_up, *same, mixed_score, _ = _of_classes(evaluator, Asked(digits[0], lambda label: (label + 1) % 10))
    assert max(mixed_up, mixed_score) < 0.1
    assert same == [held_out]


def test_one_picture_of_each_class_teaches_a_classifier_less_than_many(
    evaluator: Evaluator, digits: tuple[RealImages, RealImages]
):
    model = Asked(digits[0])
    model.rows = [rows[:1] for rows in model.rows]
    asked, _, score, score_of_real = _of_classes(evaluator, model)
    assert asked > 0.9
    assert score < score_of_real - 0.1


def test_where_a_sample_is_all_images_seen_their_classifier_is_the_one_of_the_score(
    digits: tuple[RealImages, RealImages],
):
    evaluator = Evaluator(digits[0].sample(200, 0), digits[1], images=300)
    _, held_out, _, score_of_real = _of_classes(evaluator, Asked(digits[0]))
    assert score_of_real == held_out


def test_without_labels_of_held_out_images_nothing_is_said_of_classes_by_them(digits: tuple[RealImages, RealImages]):
    evaluator = Evaluator(digits[0].sample(200, 0), RealImages(digits[1].images), images=100)
    assert set(evaluator.score_samples(Asked(digits[0]))) & set(CLASS_KEYS) == {"label_accuracy"}


def test_pictures_are_samples_pairs_and_ways(perfect: Scorecard):
    assert len(perfect.pictures.samples) == SAMPLES_SHOWN
    assert perfect.pictures.originals is not None
    np.testing.assert_array_equal(perfect.pictures.originals, perfect.pictures.reconstructions)
    assert len(perfect.pictures.paths) % STEPS == 0
