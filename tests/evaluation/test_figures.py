"""The table of quality figures is the only place that names them: a row more is scored, reported, compared and documented."""

from pathlib import Path

import numpy as np
import pytest

from docs import figures as documented
from evaluation.figures import FIGURES, Figure
from evaluation.reference import RealImages
from evaluation.report import Column, write_report
from evaluation.scorecard import Evaluator
from export.evaluate_command import _print

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)


class Noise:
    """A GAN whose images are its noise."""

    name, family, noise_dim, has_encoder = "noise", "gan", 64, False
    label_names: list[str] = []  # noqa: RUF012

    def latent(self, noise, labels):
        return noise

    def decode(self, latents, labels):
        return (latents.reshape(-1, 8, 8, 1) * 50 + 128).clip(0, 255).astype(np.uint8)


def test_keys_and_titles_are_of_one_figure_each():
    rows = [figure for figures in FIGURES.values() for figure in figures]
    assert len({figure.key for figure in rows}) == len({figure.title for figure in rows}) == len(rows)
    assert all(figure.meaning for figure in rows)


def test_a_row_is_all_that_a_new_figure_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    brightness = Figure("brightness", "mean grey", "", 1, lambda of: float(of.drawn.mean()), "how bright images are")
    monkeypatch.setitem(FIGURES, "blur", (*FIGURES["blur"], brightness))
    evaluator = Evaluator(RealImages(IMAGES), RealImages(IMAGES[:20]), images=40)
    card = evaluator.score(Noise())
    assert card.figures["brightness"] == pytest.approx(128, abs=5)
    assert evaluator.score_samples(Noise())["brightness"] == card.figures["brightness"]
    assert (
        f"<td>mean grey</td><td></td><td>{card.figures['brightness']:.1f}</td>"
        in write_report(tmp_path, [Column(card, {})], evaluator).read_text()
    )
    _print([card], tmp_path / "report.html")
    assert f"{card.figures['brightness']:.1f}" in capsys.readouterr().out.partition("brightness")[2].splitlines()[0]
    assert ("`brightness`", "how bright images are", "") in documented.rows()
