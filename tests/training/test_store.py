"""Images that are decoded into a file, and what a cache does when something goes wrong."""

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pytest

from training.errors import DataError
from training.store import Contents, Stack, in_memory, on_disk

GREY = np.arange(16, dtype=np.uint8).reshape(4, 4)
RGB = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def _stacked(*images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    file = io.BytesIO()
    stack = Stack(file)
    for image in images:
        stack.add(image)
    return np.frombuffer(file.getvalue(), np.uint8).reshape(stack.shape)


def _as_rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return image if image.ndim == 3 else np.stack([image] * 3, axis=-1)


def _decode(file: BinaryIO) -> Contents:
    stack = Stack(file)
    stack.add(GREY)
    stack.add(RGB)
    return Contents(stack.shape, np.array([1, 0]), ["cat", "dog"], ["c.png: not an image"], ["a.png is odd"])


def _never(file: BinaryIO) -> Contents:
    raise AssertionError("decoded again")


def test_grey_images_are_stacked_as_they_are() -> None:
    np.testing.assert_array_equal(_stacked(GREY, GREY + 1), np.stack([GREY, GREY + 1])[..., None])


@pytest.mark.parametrize("order", [[RGB, GREY], [GREY, RGB], [GREY, GREY + 1, GREY + 2, RGB, GREY + 3, RGB]])
def test_one_image_in_colour_makes_all_rgb(order: list[npt.NDArray[np.uint8]]) -> None:
    np.testing.assert_array_equal(_stacked(*order), np.stack([_as_rgb(image) for image in order]))


def test_an_entry_of_a_cache_is_what_memory_would_hold(tmp_path: Path) -> None:
    in_ram, found = in_memory(_decode)
    for decode in (_decode, _never):
        mapped, stored = on_disk(tmp_path / "deep" / "cache", ["a"], decode)
        np.testing.assert_array_equal(mapped.images, in_ram.images)
        np.testing.assert_array_equal(mapped.labels, in_ram.labels)
        assert mapped.label_names == in_ram.label_names
        assert (stored.broken, stored.notes) == (found.broken, found.notes)


def test_a_mapped_set_cannot_be_written(tmp_path: Path) -> None:
    images, _ = on_disk(tmp_path, ["a"], _decode)
    with pytest.raises(ValueError, match="read-only"):
        images.images[0] = 0


def test_another_source_has_another_entry(tmp_path: Path) -> None:
    on_disk(tmp_path, ["a"], _decode)
    with pytest.raises(AssertionError, match="decoded again"):
        on_disk(tmp_path, ["b"], _never)


def test_a_decoding_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        on_disk(tmp_path, ["a"], _never)
    assert list(tmp_path.iterdir()) == []


def test_of_two_writers_of_an_entry_the_slower_takes_the_others(tmp_path: Path) -> None:
    def decode_while_another_does(file: BinaryIO) -> Contents:
        on_disk(tmp_path, ["a"], _decode)
        return _decode(file)

    slower, _ = on_disk(tmp_path, ["a"], decode_while_another_does)
    np.testing.assert_array_equal(slower.images[1], RGB)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cache: .*file cannot be written"):
        on_disk(tmp_path / "file", ["a"], _decode)


@pytest.mark.parametrize("damage", ["cut", "lost"])
def test_a_damaged_entry_is_an_error_that_says_to_remove_it(tmp_path: Path, damage: str) -> None:
    images, _ = on_disk(tmp_path, ["a"], _decode)
    del images
    (pixels,) = tmp_path.glob("*/pixels")
    if damage == "cut":
        pixels.write_bytes(bytes(10))
    else:
        pixels.unlink()
    with pytest.raises(DataError, match=rf"cache: {pixels.parent} cannot be read, remove it"):
        on_disk(tmp_path, ["a"], _never)
