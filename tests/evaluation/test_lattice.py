"""Lattices and borders that are put into pictures by hand."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from evaluation.lattice import PERIOD, border, lattice, neighbour_energy

SMOOTH = gaussian_filter(np.random.default_rng(0).normal(128, 400, (80, 32, 32, 3)), (0, 3, 3, 0)).clip(0, 255)
REAL, OTHERS = (part.astype(np.uint8) for part in (SMOOTH[:40], SMOOTH[40:]))


def _ratios(drawn: np.ndarray) -> tuple[float, float]:
    found = lattice(neighbour_energy(drawn), neighbour_energy(REAL))
    assert found is not None
    return found


def test_the_data_themselves_give_one():
    assert _ratios(REAL) == (1, 1)
    assert border(neighbour_energy(REAL), neighbour_energy(REAL)) == 1


def test_others_of_the_kind_are_near_one():
    low, high = _ratios(OTHERS)
    assert 0.75 < low < 1 < high < 1.25


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_lattice_is_caught(period: int):
    tile = (np.indices((32, 32)) // (period // 2)).sum(0) % 2
    drawn = (OTHERS.astype(int) + 8 * tile[None, :, :, None]).clip(0, 255).astype(np.uint8)
    assert _ratios(drawn)[1] > 1.5


def test_lines_at_one_phase_stand_out_from_the_others():
    drawn = OTHERS.copy()
    drawn[:, :, ::PERIOD] //= 2
    energies = neighbour_energy(drawn).phases / neighbour_energy(OTHERS).phases
    columns = energies[PERIOD:]
    assert set(columns.argsort()[-2:]) == {0, PERIOD - 1}
    assert columns[1:-1].max() < 1.2 < columns[[0, -1]].min()


def test_energies_are_means_of_squared_differences_by_phase():
    image = np.random.default_rng(1).integers(0, 256, (2, 11, 19, 3), np.uint8)
    found, levels = neighbour_energy(image), image.astype(float)
    rows = [np.square(levels[:, y + 1] - levels[:, y]).mean() for y in range(10)]
    columns = [np.square(levels[:, :, x + 1] - levels[:, :, x]).mean() for x in range(18)]
    expected = [np.mean(line[phase::PERIOD]) for line in (rows, columns) for phase in range(PERIOD)]
    np.testing.assert_allclose(found.phases, expected, rtol=1e-5)


def test_a_frame_is_caught_at_the_border_alone():
    drawn = OTHERS.copy()
    drawn[:, 0] //= 4
    assert border(neighbour_energy(drawn), neighbour_energy(REAL)) > 3
    drawn = OTHERS.copy()
    drawn[:, 16, 2:-2] = 0
    assert border(neighbour_energy(drawn), neighbour_energy(OTHERS)) == 1


def test_pictures_of_one_grey_have_no_lattice_to_compare_with():
    flat = neighbour_energy(np.full((3, 16, 16, 3), 9, np.uint8))
    assert lattice(neighbour_energy(REAL), flat) is None
    assert border(neighbour_energy(REAL), flat) == np.inf
    assert border(flat, flat) == 1


def test_small_pictures_have_fewer_phases():
    assert len(neighbour_energy(REAL[:, :5, :6]).phases) == 4 + 5


@pytest.mark.parametrize("images", [REAL[:0], REAL[:, :1], REAL.astype(np.float32), REAL[0]])
def test_what_is_no_set_of_images_is_refused(images: np.ndarray):
    with pytest.raises(ValueError, match=r"expected uint8 \(N, H, W, C\)"):
        neighbour_energy(images)
