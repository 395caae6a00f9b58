"""Where images come from, how they are split and in which order they are shown."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from training.data import ImageSet, pixels_to_bytes
from training.errors import DataError
from training.sources import load

SHARED = Path(__file__).parents[1] / "../shared/data"


def _picture(colour: Any, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def _png(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "png")
    return encoded.getvalue()


def _numbered(count: int) -> ImageSet:
    images = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return ImageSet(images, np.arange(count), [str(number) for number in range(count)])


def test_digits_are_1797_labelled_grey_images_of_32_pixels() -> None:
    digits = load("digits", None)
    assert digits.images.shape == (1797, 32, 32, 1)
    assert digits.images.min() == 0
    assert digits.images.max() == 255
    assert digits.label_names == [str(digit) for digit in range(10)]


def test_digits_come_at_the_size_that_is_asked_for() -> None:
    assert load("digits", 28).images.shape[1:] == (28, 28, 1)


def test_a_picture_is_turned_by_its_exif_orientation(tmp_path: Path) -> None:
    upright = np.zeros((16, 16), np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 8  # stored turned right by 90 degrees: to be shown turned left
    Image.fromarray(np.rot90(upright, -1)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(load(str(tmp_path), None).images[0, ..., 0], upright)


def test_alpha_is_put_over_black(tmp_path: Path) -> None:
    _picture((255, 100, 0, 128), mode="RGBA").save(tmp_path / "half.png")
    np.testing.assert_allclose(load(str(tmp_path), None).images[0, 0, 0], [128, 50, 0], atol=1)


def test_grey_with_alpha_stays_grey(tmp_path: Path) -> None:
    _picture((200, 0), mode="LA").save(tmp_path / "clear.png")
    images = load(str(tmp_path), None).images
    assert images.shape == (1, 16, 16, 1)
    assert images.max() == 0


def test_sixteen_bits_of_grey_are_scaled_to_eight(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 0x80FF, np.uint16)).save(tmp_path / "deep.png")
    assert load(str(tmp_path), None).images[0, 0, 0, 0] == 0x80


def test_a_set_is_grey_only_if_every_picture_is(tmp_path: Path) -> None:
    _picture(10, mode="L").save(tmp_path / "a.png")
    assert load(str(tmp_path), None).images.shape == (1, 16, 16, 1)
    _picture((1, 2, 3)).save(tmp_path / "b.png")
    assert load(str(tmp_path), None).images[:, 0, 0].tolist() == [[10, 10, 10], [1, 2, 3]]


def test_subfolders_are_labels(tmp_path: Path) -> None:
    for name, grey in (("cat", 1), ("dog", 2)):
        (tmp_path / name / "deeper").mkdir(parents=True)
        _picture(grey, mode="L").save(tmp_path / name / "deeper" / "1.png")
    images = load(str(tmp_path), None)
    assert images.label_names == ["cat", "dog"]
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1]
    assert images.images[:, 0, 0, 0].tolist() == [1, 2]


def test_a_picture_outside_the_subfolders_leaves_the_set_without_labels(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    _picture(1, mode="L").save(tmp_path / "cat" / "1.png")
    _picture(2, mode="L").save(tmp_path / "2.png")
    images = load(str(tmp_path), None)
    assert images.labels is None
    assert images.label_names == []


def test_the_centre_square_is_kept(tmp_path: Path) -> None:
    wide = np.zeros((16, 48), np.uint8)
    wide[:, 16:32] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (load(str(tmp_path), 16).images == 255).all()


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    _picture(1).save(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes(_png(Image.effect_noise((32, 32), 50))[:300])
    with pytest.raises(DataError, match=r"(?s)2 pictures cannot be read \(--skip-broken .*cut\.png: .*empty\.png: "):
        load(str(tmp_path), None)
    assert len(load(str(tmp_path), None, skip_broken=True)) == 1


def test_a_set_without_a_readable_picture_is_an_error_even_if_broken_ones_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match="no picture could be read"):
        load(str(tmp_path), None, skip_broken=True)


def test_an_empty_folder_is_an_error_that_lists_the_suffixes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image in .*\.jpeg"):
        load(str(tmp_path), None)


def test_unknown_data_is_an_error_that_says_what_is_allowed() -> None:
    with pytest.raises(DataError, match=r"'nowhere' is neither 'digits' nor a folder nor a \.parquet file"):
        load("nowhere", None)


def test_pictures_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    _picture(1).save(tmp_path / "a.png")
    _picture(1, size=(32, 16)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"got pictures of 16x16, 32x16; .* choose it"):
        load(str(tmp_path), None)
    assert load(str(tmp_path), 16).images.shape == (2, 16, 16, 3)


@pytest.mark.parametrize("shape", [(32, 16), (30, 30)])
def test_pictures_that_networks_cannot_take_need_a_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    _picture(1, size=shape).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=f"{shape[0]}x{shape[1]}; .*choose it"):
        load(str(tmp_path), None)


def test_a_size_that_networks_cannot_take_is_refused_before_any_reading() -> None:
    with pytest.raises(DataError, match="size: 30 is not 4, 5, 6 or 7 times a power of two"):
        load("nowhere", 30)


@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_a_parquet_file_holds_images_as_structs_or_bytes(tmp_path: Path, kind: str) -> None:
    encoded = [_png(_picture(grey, mode="L")) for grey in (3, 4)]
    column = [{"bytes": one, "path": None} for one in encoded] if kind == "struct" else encoded
    pq.write_table(pa.table({"image": column, "label": [2, 0]}), tmp_path / "set.parquet")
    images = load(str(tmp_path / "set.parquet"), None)
    assert images.images[:, 0, 0, 0].tolist() == [3, 4]
    assert images.labels is not None
    assert images.labels.tolist() == [2, 0]
    assert images.label_names == ["0", "1", "2"]


def test_a_parquet_files_class_names_are_those_of_its_hugging_face_schema(tmp_path: Path) -> None:
    table = pa.table({"image": [_png(_picture(1))], "label": [1]})
    features = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "set.parquet")
    assert load(str(tmp_path / "set.parquet"), None).label_names == ["cat", "dog"]


def test_a_broken_row_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [_png(_picture(1)), b"", None]}), tmp_path / "set.parquet")
    with pytest.raises(DataError, match=r"(?s)2 pictures .*set\.parquet row 1: .*set\.parquet row 2: "):
        load(str(tmp_path / "set.parquet"), None)


def test_a_missing_label_of_a_parquet_file_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [_png(_picture(1))] * 2, "label": [1, None]}), tmp_path / "set.parquet")
    with pytest.raises(DataError, match=r"row 1: .*label None"):
        load(str(tmp_path / "set.parquet"), None)


def test_a_parquet_file_without_images_is_an_error_that_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "set.parquet")
    with pytest.raises(DataError, match="no column 'image'; its columns are text, n"):
        load(str(tmp_path / "set.parquet"), None)


def test_a_file_that_is_not_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set.parquet").write_text("not parquet")
    with pytest.raises(DataError, match="is not a parquet file"):
        load(str(tmp_path / "set.parquet"), None)


@pytest.mark.parametrize(("name", "shape"), [("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))])
def test_shared_data_sets_can_be_read(name: str, shape: tuple[int, int, int], tmp_path: Path) -> None:
    path = SHARED / name / "train.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with pq.ParquetFile(path) as file:
        first = next(file.iter_batches(batch_size=50))
    pq.write_table(pa.Table.from_batches([first]), tmp_path / "first.parquet")
    assert load(str(tmp_path / "first.parquet"), None).images.shape == (50, *shape)


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


def test_every_grey_level_survives_the_way_to_pixels_and_back() -> None:
    levels = _numbered(256)
    assert levels.pixels().amin() == -1
    assert levels.pixels().amax() == 1
    np.testing.assert_array_equal(pixels_to_bytes(levels.pixels()), levels.images)


def test_pixels_beyond_the_range_become_black_and_white() -> None:
    assert pixels_to_bytes(torch.tensor([-1.5, 1.5]).view(2, 1, 1, 1)).ravel().tolist() == [0, 255]
