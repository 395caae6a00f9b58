"""Latent spaces made by hand: what is used of them, what they tell, and paths of known shape."""

import numpy as np
import pytest

from evaluation import latents
from evaluation.latents import active_units, path_smoothness, probe_accuracy


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def _clusters(seed: int, rows: int, classes: int = 4, apart: float = 8) -> tuple[np.ndarray, np.ndarray]:
    """Latents (rows, 6) around a place for each class, sorted by class."""
    labels = np.sort(np.arange(rows) % classes)
    return _normal(seed, rows, 6) + apart * np.eye(classes, 6)[labels], labels


def test_units_that_ignore_the_image_are_not_active():
    used = np.array([1.0, 1.0, 0.5, 0.0, 0.01])
    mean = _normal(0, 500, 5) * used
    log_variance = np.log(np.broadcast_to(1 - 0.99 * used**2, mean.shape)).astype(np.float32)
    assert active_units(mean.astype(np.float32), log_variance) == 3
    assert active_units(mean, log_variance, share=0.5) == 2


def test_activity_does_not_depend_on_the_scale_of_the_latents():
    mean, log_variance = _normal(0, 300, 8) * np.geomspace(0.01, 1, 8), np.zeros((300, 8))
    found = active_units(mean, log_variance)
    assert 0 < found < 8
    assert active_units(1000 * mean, log_variance + 2 * np.log(1000)) == found


def test_an_offset_of_all_images_is_no_activity():
    assert active_units(np.full((9, 3), 7.0), np.zeros((9, 3))) == 0


@pytest.mark.parametrize(("rows", "other"), [((5, 3), (5, 2)), ((5,), (5,)), ((1, 3), (1, 3))])
def test_posteriors_that_do_not_fit_are_refused(rows: tuple[int, ...], other: tuple[int, ...]):
    with pytest.raises(ValueError, match="latents: got"):
        active_units(np.zeros(rows), np.zeros(other))


def test_a_probe_names_classes_that_lie_apart_whatever_the_scale():
    (seen, labels), (held_out, held_out_labels) = _clusters(1, 400), _clusters(2, 200)
    scale = np.array([1e-3, 1, 1e3, 1, 0, 1])
    assert probe_accuracy(seen * scale, labels, held_out * scale, held_out_labels) > 0.98


def test_a_probe_of_noise_is_right_by_chance():
    labels = np.arange(1000) % 4
    assert probe_accuracy(_normal(1, 1000, 6), labels, _normal(2, 1000, 6), labels) == pytest.approx(0.25, abs=0.06)


def test_a_probe_learns_from_some_rows_of_all_classes_and_the_same_ones_every_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latents, "PROBE_ROWS", 80)
    (seen, labels), held_out = _clusters(1, 4000, apart=3), _clusters(2, 500, apart=3)
    first = probe_accuracy(seen, labels, *held_out)
    assert 0.7 < first < 1
    assert probe_accuracy(seen, labels, *held_out) == first


def test_a_probe_that_is_not_done_in_time_says_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latents, "PROBE_STEPS", 1)
    assert 0 <= probe_accuracy(*_clusters(1, 200), *_clusters(2, 200)) <= 1


@pytest.mark.parametrize(
    ("seen", "labels", "held_out", "held_out_labels", "words"),
    [
        ((4, 2), [0, 1, 0, 1], (3, 3), [0, 1, 0], r"\(4, 2\) and \(3, 3\)"),
        ((4, 2), [0, 1, 0], (3, 2), [0, 1, 0], r"\(3,\) and \(3,\), expected \(4,\)"),
        ((4, 2), [0, 0, 0, 0], (3, 2), [0, 1, 0], "two classes"),
        ((4, 2), [0, 1, 0, 1], (0, 2), [], "latents: got"),
    ],
)
def test_what_a_probe_cannot_learn_from_is_refused(
    seen: tuple[int, ...], labels: list[int], held_out: tuple[int, ...], held_out_labels: list[int], words: str
):
    with pytest.raises(ValueError, match=words):
        probe_accuracy(np.zeros(seen), np.array(labels), np.zeros(held_out), np.array(held_out_labels))


def test_even_steps_in_a_line_are_straight_and_even():
    frames = np.linspace(0, 1, 9)[None, :, None] * _normal(0, 5, 1, 12)
    found = path_smoothness(frames.astype(np.float32))
    assert found.arc_chord_ratio == pytest.approx(1, abs=1e-5)
    assert found.largest_step_ratio == pytest.approx(1, abs=1e-5)


def test_half_a_circle_is_a_detour_of_half_pi():
    angles = np.linspace(0, np.pi, 200)
    found = path_smoothness(np.stack([np.cos(angles), np.sin(angles)], 1)[None])
    assert found.arc_chord_ratio == pytest.approx(np.pi / 2, abs=1e-4)
    assert found.largest_step_ratio == pytest.approx(1)


def test_a_path_that_does_all_in_one_of_four_steps_jumps_by_four():
    found = path_smoothness(np.array([[[0.0], [0], [3], [3], [3]]]))
    assert (found.arc_chord_ratio, found.largest_step_ratio) == (1, 4)


def test_one_wild_path_of_three_does_not_decide():
    line = np.linspace(0, 1, 5)[:, None] * np.ones(2)
    wild = np.array([[0.0, 0], [9, 9], [-9, 9], [9, -9], [1, 1]])
    assert path_smoothness(np.stack([line, wild, 2 * line])).arc_chord_ratio == pytest.approx(1)


def test_a_path_that_stands_is_even_and_one_that_returns_has_no_end():
    assert (
        path_smoothness(np.ones((1, 4, 3))).arc_chord_ratio
        == path_smoothness(np.ones((1, 4, 3))).largest_step_ratio
        == 1
    )
    assert path_smoothness(np.array([[[0.0], [1], [0]]])).arc_chord_ratio == np.inf


@pytest.mark.parametrize("shape", [(2, 2, 5), (0, 5, 5), (5, 5)])
def test_paths_without_steps_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="frames: got"):
        path_smoothness(np.zeros(shape))
