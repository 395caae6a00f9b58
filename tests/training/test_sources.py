"""What pictures become a set, whatever their format, and what is said of those that cannot."""

import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from training.errors import DataError
from training.sources import load

SHARED = Path(__file__).parents[2] / "../shared/data"


def _picture(colour: Any, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def _png(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "png")
    return encoded.getvalue()


def _shard(
    path: Path, greys: list[int], labels: list[int], image: str = "image", names: list[str] | None = None
) -> None:
    table = pa.table({image: [_png(_picture(grey, mode="L")) for grey in greys], "label": labels})
    if names:
        features = {"info": {"features": {"label": {"names": names}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path)


def _first_pixel(folder: Path) -> list[int]:
    levels: list[int] = load(str(folder), None).images[0, 0, 0].tolist()
    return levels


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


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_of_sixteen_bits_of_grey_the_upper_eight_are_kept(tmp_path: Path, dtype: str) -> None:
    Image.fromarray(np.full((16, 16), 0x80FF, dtype)).save(tmp_path / "deep.tif")
    assert _first_pixel(tmp_path) == [0x80]


def test_sixteen_bits_of_a_png_are_cut_too(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 0x80FF, np.uint16)).save(tmp_path / "deep.png")
    assert _first_pixel(tmp_path) == [0x80]


def test_one_bit_is_black_or_white(tmp_path: Path) -> None:
    _picture(1, mode="1").save(tmp_path / "bit.png")
    assert _first_pixel(tmp_path) == [255]


def test_inks_become_colours(tmp_path: Path) -> None:
    _picture((255, 0, 0, 0), mode="CMYK").save(tmp_path / "ink.tif")
    assert _first_pixel(tmp_path) == [0, 255, 255]


def test_a_palettes_transparent_colour_becomes_black(tmp_path: Path) -> None:
    for name, index in (("clear", 1), ("opaque", 0)):
        picture = _picture(index, mode="P")
        picture.putpalette([9, 8, 7, 30, 20, 10])
        picture.save(tmp_path / f"{name}.png", transparency=1)
    assert load(str(tmp_path), None).images[:, 0, 0].tolist() == [[0, 0, 0], [9, 8, 7]]


def test_a_grey_that_stands_for_transparent_becomes_black(tmp_path: Path) -> None:
    _picture(200, mode="L").save(tmp_path / "key.png", transparency=200)
    assert _first_pixel(tmp_path) == [0]


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [_picture(colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert _first_pixel(tmp_path) == [255, 0, 0]


def test_small_pictures_are_enlarged(tmp_path: Path) -> None:
    _picture(7, size=(8, 8), mode="L").save(tmp_path / "small.png")
    assert (load(str(tmp_path), 32).images == np.full((1, 32, 32, 1), 7)).all()


def test_fine_stripes_are_averaged_where_a_picture_is_reduced(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    np.testing.assert_allclose(load(str(tmp_path), 8).images[..., 1:-1, :], 127.5, atol=1)


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


def test_of_many_broken_pictures_twenty_are_named(tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / f"{number:02}.png").touch()
    with pytest.raises(DataError, match=r"(?s)25 pictures .*19\.png: not an image: 0 bytes\n  \.\.\.$") as raised:
        load(str(tmp_path), None)
    assert "20.png" not in str(raised.value)


def test_pictures_that_are_left_out_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _picture(1).save(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        caplog.clear()
        load(str(tmp_path), None, skip_broken=True, cache=cache)
        assert caplog.record_tuples[0][:2] == ("figment.training", logging.WARNING)
        assert "left out 1 pictures" in caplog.text
        assert "empty.png: not an image" in caplog.text


@pytest.mark.parametrize("limit", [200, 100])
def test_a_decompression_bomb_is_a_broken_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    _picture(1).save(tmp_path / "bomb.png")  # 256 pixels: Pillow warns beyond the limit, and refuses beyond twice of it
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=r"bomb\.png: .*decompression bomb"):
        load(str(tmp_path), None)


def test_a_set_without_a_readable_picture_is_an_error_even_if_broken_ones_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match="no picture could be read"):
        load(str(tmp_path), None, skip_broken=True)


def test_an_empty_folder_is_an_error_that_lists_the_suffixes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image in .*\.jpeg"):
        load(str(tmp_path), None)


def test_unknown_data_is_an_error_that_says_what_is_allowed() -> None:
    with pytest.raises(
        DataError, match=r"'nowhere' is neither 'digits' nor 'openmoji' nor a folder nor a \.parquet file"
    ):
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


def test_a_missing_label_of_a_parquet_file_is_an_error_where_labels_are_taught(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [_png(_picture(1))] * 2, "label": [1, None]}), tmp_path / "set.parquet")
    with pytest.raises(DataError, match=r"row 1: .*label None"):
        load(str(tmp_path / "set.parquet"), None, needs_labels=True)


def test_a_parquet_file_without_images_is_an_error_that_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "set.parquet")
    with pytest.raises(DataError, match="no column 'image' or 'img'; its columns are text, n"):
        load(str(tmp_path / "set.parquet"), None)


def test_a_file_that_is_not_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set.parquet").write_text("not parquet")
    with pytest.raises(DataError, match="is not a parquet file"):
        load(str(tmp_path / "set.parquet"), None)


def test_a_column_of_another_type_is_an_error_that_names_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.png"]}), tmp_path / "set.parquet")
    with pytest.raises(DataError, match=r"column 'image' of .* is string; allowed are binary"):
        load(str(tmp_path / "set.parquet"), None)


def test_the_columns_may_be_called_img_and_labels(tmp_path: Path) -> None:
    pq.write_table(pa.table({"img": [_png(_picture(1))], "labels": [0]}), tmp_path / "set.parquet")
    assert load(str(tmp_path / "set.parquet"), None).label_names == ["0"]


def test_labels_that_are_not_integers_are_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [_png(_picture(1))], "label": ["cat"]}), tmp_path / "set.parquet")
    assert load(str(tmp_path / "set.parquet"), None).labels is None


@pytest.mark.parametrize("pattern", ["", "part-*.parquet"])
def test_shards_are_read_in_the_order_of_their_names(tmp_path: Path, pattern: str) -> None:
    _shard(tmp_path / "part-2.parquet", [5, 6], [0, 3])
    _shard(tmp_path / "part-1.parquet", [7], [1])
    images = load(str(tmp_path / pattern), None)
    assert images.images[:, 0, 0, 0].tolist() == [7, 5, 6]
    assert images.labels is not None
    assert images.labels.tolist() == [1, 0, 3]
    assert images.label_names == ["0", "1", "2", "3"]


@pytest.mark.parametrize("other", [{"image": "img"}, {"names": ["cat", "dog"]}])
def test_shards_that_differ_are_an_error_that_names_both(tmp_path: Path, other: dict[str, Any]) -> None:
    _shard(tmp_path / "a.parquet", [1], [1])
    _shard(tmp_path / "b.parquet", [1], [1], **other)
    with pytest.raises(DataError, match=r"differ: .*a\.parquet has image binary, .*b\.parquet has .*(img|cat, dog)"):
        load(str(tmp_path), None)


def test_a_damaged_shard_is_an_error_that_names_it(tmp_path: Path) -> None:
    _shard(tmp_path / "a.parquet", [1], [0], names=["cat"])
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4:60] = bytes(56)
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet cannot be read beyond row 0"):
        load(str(tmp_path), None)


def test_a_folder_of_both_kinds_is_an_error_that_says_so(tmp_path: Path) -> None:
    _shard(tmp_path / "a.parquet", [1], [0])
    _picture(1).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"mixes parquet files and images, such as .*a\.parquet and .*b\.png"):
        load(str(tmp_path), None)


@pytest.mark.parametrize(("pattern", "found"), [("*.parquet", "nothing"), ("*.txt", "note.txt")])
def test_a_pattern_that_matches_no_parquet_file_is_an_error(tmp_path: Path, pattern: str, found: str) -> None:
    (tmp_path / "note.txt").touch()
    with pytest.raises(DataError, match=f"the pattern .* matches .*{found}; allowed are .parquet files"):
        load(str(tmp_path / pattern), None)


def test_a_set_is_decoded_once_for_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _shard(tmp_path / "set" / "a.parquet", [1, 2], [1, 0])
    in_memory = load(str(tmp_path / "set"), None)
    load(str(tmp_path / "set"), None, cache=tmp_path / "cache")
    monkeypatch.delattr("PIL.Image.open")
    mapped = load(str(tmp_path / "set"), None, cache=tmp_path / "cache")
    assert isinstance(mapped.store, np.memmap)
    assert mapped.digest() == in_memory.digest()
    assert mapped.label_names == in_memory.label_names


def test_what_has_changed_is_decoded_anew(tmp_path: Path) -> None:
    data, cache = tmp_path / "set", tmp_path / "cache"
    data.mkdir()
    _picture(1, mode="L").save(data / "a.png")
    assert len(load(str(data), None, cache=cache)) == 1
    _picture(2, mode="L").save(data / "b.png")
    assert load(str(data), None, cache=cache).images[:, 0, 0, 0].tolist() == [1, 2]
    assert load(str(data), 8, cache=cache).shape == (8, 8, 1)
    _picture(3, mode="L").save(data / "b.png")
    os.utime(data / "b.png", ns=(0, 0))
    assert load(str(data), None, cache=cache).images[:, 0, 0, 0].tolist() == [1, 3]


def test_a_folder_and_its_only_subfolder_are_two_sets(tmp_path: Path) -> None:
    (tmp_path / "set" / "cat").mkdir(parents=True)
    _picture(1).save(tmp_path / "set" / "cat" / "a.png")
    names = [load(str(tmp_path / path), None, cache=tmp_path / "cache").label_names for path in ("set", "set/cat")]
    assert names == [["cat"], []]


@pytest.mark.parametrize(("name", "shape"), [("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))])
def test_shared_data_sets_can_be_read(name: str, shape: tuple[int, int, int], tmp_path: Path) -> None:
    path = SHARED / name / "train.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with pq.ParquetFile(path) as file:
        first = next(file.iter_batches(batch_size=50))
    pq.write_table(pa.Table.from_batches([first]), tmp_path / "first.parquet")
    assert load(str(tmp_path / "first.parquet"), None).images.shape == (50, *shape)
