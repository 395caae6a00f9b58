"""The page and the figures for machines, of one model and of two beside each other."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.features import RandomFeatures
from evaluation.outputs import STEPS
from evaluation.reference import RealImages
from evaluation.report import Column, write_report
from evaluation.scorecard import Evaluator, Pictures, Scorecard
from evaluation.spectrum import power_spectrum

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
FACTS = {"training": "finite over 640 images", "held_out": "not in its training", "speed": "not measured"}


@pytest.fixture
def evaluator() -> Evaluator:
    return Evaluator(RealImages(IMAGES), RealImages(IMAGES[:20]), images=40)


def _column(name: str, figures: dict[str, float], *, has_encoder: bool = True) -> Column:
    pairs = (IMAGES[:16], IMAGES[:16]) if has_encoder else (None, None)
    pictures = Pictures(IMAGES, *pairs, IMAGES[: 2 * STEPS], power_spectrum(IMAGES), None)
    return Column(Scorecard(name, "vae", figures, pictures), FACTS)


def test_the_figures_are_kept_in_full(evaluator: Evaluator, tmp_path: Path):
    write_report(tmp_path / "new", [_column("one", {"fid_clf": 0.123456789})], evaluator, {"sha256": "abc"})
    record = json.loads((tmp_path / "new" / "quality.json").read_text())
    assert record["models"] == {"one": {"family": "vae", "fid_clf": 0.123456789}}
    assert record["judged_by"] == evaluator.judged_by
    assert record["real"] == {"seen": 40, "held_out": 20, "shape": [8, 8, 3], "sha256": "abc"}
    assert (record["images"], record["seed"]) == (40, 0)
    judges = {name: judge.features.hash for name, judge in evaluator.judges.items()}
    assert record["features"] == {"random": evaluator.random.hash} | judges
    assert "torch" in record["versions"]


def test_figures_that_are_not_finite_are_written_as_protobuf_writes_them(evaluator: Evaluator, tmp_path: Path):
    write_report(tmp_path, [_column("one", {"a": np.inf, "b": -np.inf, "c": np.nan})], evaluator)
    figures = json.loads((tmp_path / "quality.json").read_text())["models"]["one"]
    assert figures == {"family": "vae", "a": "Infinity", "b": "-Infinity", "c": "NaN"}


def test_the_page_stands_alone(evaluator: Evaluator, tmp_path: Path):
    page = write_report(tmp_path, [_column("one", {"fid_clf": 0.5})], evaluator).read_text()
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 5  # samples, pairs, ways, spectrum, real images
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page


def test_columns_stand_side_by_side_with_a_dash_where_a_figure_does_not_apply(evaluator: Evaluator, tmp_path: Path):
    one = _column("one", {"fid_clf": 0.5, "reconstruction_psnr_db": 20.0})
    page = write_report(tmp_path, [one, _column("two", {"fid_clf": 0.25}, has_encoder=False)], evaluator).read_text()
    assert re.search(r"Frechet distance, classifier</td><td>lower</td><td>0.500</td><td>0.250</td>", page)
    assert re.search(r"PSNR in dB</td><td>higher</td><td>20.00</td><td>-</td>", page)
    assert page.count("finite over 640 images") == 2
    assert "coverage" not in page  # nobody has it


def test_long_names_of_models_and_classes_leave_room_for_the_plots(tmp_path: Path):
    names = [f"a class with a long name {number} " * 5 for number in range(12)]
    evaluator = Evaluator(
        RealImages(IMAGES, np.arange(40) % 12, names), RealImages(IMAGES[:20]), RandomFeatures(3), images=40
    )
    column = _column("folder/" * 30, {"fid_clf": 0.5})
    pictures = replace(column.card.pictures, class_counts=np.arange(12))
    page = write_report(tmp_path, [Column(replace(column.card, pictures=pictures), FACTS)], evaluator)
    assert "Classes drawn" in page.read_text()


def test_names_are_text_and_not_markup(evaluator: Evaluator, tmp_path: Path):
    page = write_report(tmp_path, [_column("<b>bold</b>", {"fid_clf": 0.5})], evaluator).read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;bold" in page
