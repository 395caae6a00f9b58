"""How a set is split, in which order it is shown, and that one on disk is as one in memory."""

import hashlib
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data import ImageSet, pixels_to_bytes
from training.errors import DataError


def _numbered(count: int) -> ImageSet:
    images = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return ImageSet(images, np.arange(count), [str(number) for number in range(count)])


def _mapped(images: ImageSet, folder: Path) -> ImageSet:
    images.images.tofile(folder / "pixels")
    store = np.memmap(folder / "pixels", np.uint8, "r", shape=images.images.shape)
    return ImageSet(store, images.labels, images.label_names)


def test_a_split_loses_and_shares_no_image() -> None:
    seen, held_out = _numbered(50).split(0.2, seed=0)
    assert (len(seen), len(held_out)) == (40, 10)
    both = np.concatenate([seen.images, held_out.images]).ravel().tolist()
    assert sorted(both) == list(range(50))


def test_a_split_keeps_each_label_with_its_image() -> None:
    for part in _numbered(50).split(0.2, seed=0):
        np.testing.assert_array_equal(part.images.ravel(), part.labels)


def test_a_split_is_decided_by_its_seed() -> None:
    first, again, other = (_numbered(50).split(0.2, seed)[1].images.ravel().tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (10, 0.01), (10, 0.99)])
def test_a_split_with_an_empty_part_is_an_error(count: int, share: float) -> None:
    with pytest.raises(DataError, match=f"{count} images cannot be split"):
        _numbered(count).split(share, seed=0)


def test_each_epoch_shows_each_image_once_in_another_order() -> None:
    batches = _numbered(10).batches(4, seed=0)
    rows = np.concatenate([next(batches) for _ in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()


def test_a_set_smaller_than_a_batch_fills_it_with_repeats() -> None:
    assert np.bincount(next(_numbered(3).batches(9, seed=0))).tolist() == [3, 3, 3]


@pytest.mark.parametrize("start", [0, 4, 8, 20, 36, 40])
def test_a_training_that_is_continued_is_shown_what_it_would_have_been(start: int) -> None:
    images = _numbered(10)
    whole = islice(images.batches(4, seed=3), start // 4, start // 4 + 6)
    np.testing.assert_array_equal(list(islice(images.batches(4, seed=3, start=start), 6)), list(whole))


def test_a_training_is_continued_at_once_however_long_it_ran() -> None:
    start = 10 * 10**12 + 4
    rows = np.concatenate(list(islice(_numbered(10).batches(2, seed=0, start=start), 5)))
    epochs = [np.random.default_rng([0, epoch]).permutation(10) for epoch in (10**12, 10**12 + 1)]
    np.testing.assert_array_equal(rows, [*epochs[0][4:], *epochs[1][:4]])


def test_a_set_on_disk_is_as_one_in_memory(tmp_path: Path) -> None:
    in_memory = _numbered(50)
    mapped = _mapped(in_memory, tmp_path)
    assert mapped.digest() == in_memory.digest()
    parts = zip(mapped.split(0.2, seed=0), in_memory.split(0.2, seed=0), strict=True)
    for one, other in [(mapped, in_memory), *parts, *((one.take([3, 1]), other.take([3, 1])) for one, other in parts)]:
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        for rows in (np.array([1, 0]), slice(1, 2)):
            torch.testing.assert_close(one.pixels(rows), other.pixels(rows), rtol=0, atol=0)
            torch.testing.assert_close(one.classes(rows), other.classes(rows))


def test_parts_of_a_set_on_disk_are_not_copied(tmp_path: Path) -> None:
    mapped = _mapped(_numbered(50), tmp_path)
    for part in mapped.split(0.2, seed=0):
        assert part.take(np.arange(3)).store is mapped.store


def test_a_digest_is_that_of_pixels_and_labels() -> None:
    images = np.random.default_rng(0).integers(256, size=(600, 4, 4, 3), dtype=np.uint8)
    labels = np.arange(600)
    assert ImageSet(images, None, []).digest() == hashlib.sha256(images.tobytes()).hexdigest()
    both = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert ImageSet(images, labels, []).digest() == both


def test_a_set_knows_the_shape_of_its_images() -> None:
    assert ImageSet(np.zeros((7, 4, 5, 3), np.uint8), None, []).shape == (4, 5, 3)


def test_a_pixel_is_made_white_with_its_grey_as_probability() -> None:
    images = ImageSet(np.repeat(np.array([0, 51, 255], np.uint8), 40_000).reshape(300, 20, 20, 1), None, [])
    black_and_white = images.binarised(seed=0)
    assert set(np.unique(black_and_white.images)) == {0, 255}
    shares = (black_and_white.images == 255).reshape(3, -1).mean(1)
    assert shares[[0, 2]].tolist() == [0, 1]
    assert abs(shares[1] - 0.2) < 5 * (0.2 * 0.8 / 40_000) ** 0.5
    assert black_and_white.digest() == images.binarised(seed=0).digest() != images.binarised(seed=1).digest()


def test_every_grey_level_survives_the_way_to_pixels_and_back() -> None:
    levels = _numbered(256)
    assert levels.pixels().amin() == -1
    assert levels.pixels().amax() == 1
    np.testing.assert_array_equal(pixels_to_bytes(levels.pixels()), levels.images)


def test_pixels_beyond_the_range_become_black_and_white() -> None:
    assert pixels_to_bytes(torch.tensor([-1.5, 1.5]).view(2, 1, 1, 1)).ravel().tolist() == [0, 255]
