"""Pictures of more than 8 bits in a set: their range, what is told of dark ones, and that the client reads the same."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from figment.images import Images
from figment.imaging import ValueRange
from training.errors import DataError
from training.settings import TrainSettings
from training.sources import load
from training.trainer import load_images

TWELVE_BITS = ValueRange(0, 4095)


def _scans(folder: Path, count: int = 6, bits: int = 12) -> Path:
    """16-bit PNGs that use `bits` of them."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        values = np.random.default_rng(number).integers(0, 2**bits, (16, 16))
        values[0, :2] = 0, 2**bits - 1
        Image.fromarray(values.astype(np.uint16)).save(folder / f"{number}.png")
    return folder


def test_a_set_of_deep_pictures_uses_all_levels_of_its_range(tmp_path: Path):
    images = load(str(_scans(tmp_path)), None, value_range=TWELVE_BITS).images
    assert (images.min(), images.max()) == (0, 255)


def test_a_set_that_is_nearly_one_grey_is_told_with_a_name_and_the_option(tmp_path: Path, caplog: Any):
    load(str(_scans(tmp_path)), None)
    assert "all 6 pictures together have levels from 0 to 15 of 255, such as" in caplog.text
    assert f"{tmp_path / '0.png'}" in caplog.text
    assert "--range 0..4095" in caplog.text


def test_fourteen_bits_are_told_too_where_no_picture_is_of_one_grey_by_itself(tmp_path: Path, caplog: Any):
    load(str(_scans(tmp_path, bits=14)), None)
    assert "levels from 0 to 63 of 255" in caplog.text


def test_a_set_that_fills_its_range_is_told_nothing(tmp_path: Path, caplog: Any):
    load(str(_scans(tmp_path)), None, value_range=TWELVE_BITS)
    assert caplog.text == ""


def test_single_pictures_of_nearly_one_grey_are_named_from_a_cache_too(tmp_path: Path, caplog: Any):
    data = _scans(tmp_path / "set", bits=16)
    Image.new("RGB", (16, 16), (200, 3, 90)).save(data / "plain.png")
    for _ in range(2):
        caplog.clear()
        load(str(data), None, cache=tmp_path / "cache")
        assert f"1 of 7 pictures are nearly one grey or colour: {data / 'plain.png'}" in caplog.text


def test_a_cache_tells_one_range_from_another(tmp_path: Path):
    data, cache = str(_scans(tmp_path / "set")), tmp_path / "cache"
    levels = [load(data, None, cache=cache, value_range=each).images.max() for each in (None, TWELVE_BITS, None)]
    assert levels == [15, 255, 15]


def test_values_of_no_known_range_are_broken_pictures_that_say_which_option_helps(tmp_path: Path):
    Image.fromarray(np.full((16, 16), -1024, np.int32)).save(tmp_path / "ct.tif")
    with pytest.raises(DataError, match=r"ct\.tif: .*-1024 to -1024.*--range LOW\.\.HIGH"):
        load(str(tmp_path), None)
    assert load(str(tmp_path), None, value_range=ValueRange(-1024, 400)).images.max() == 0


def test_pictures_of_extreme_shape_are_named_with_their_size(tmp_path: Path, caplog: Any):
    for name, size in (("strip", (400, 2)), ("dot", (3, 2)), ("tall", (16, 100)), ("photo", (64, 16))):
        Image.effect_noise(size, 90).save(tmp_path / f"{name}.png")
    load(str(tmp_path), 16)
    assert "3 of 4 pictures are of extreme shape" in caplog.text
    for told in ("strip.png (400x2)", "dot.png (3x2)", "tall.png (16x100)"):
        assert told in caplog.text


def test_settings_keep_a_range_as_text_and_old_ones_have_none():
    settings = TrainSettings(data="a", family="vae", out=Path("b"), range="0..4095.0")
    assert settings.range == "0..4095"
    assert TrainSettings.model_validate_json(settings.model_dump_json()).value_range == TWELVE_BITS
    record = settings.model_dump(mode="json", exclude={"range", "split"})
    assert TrainSettings.model_validate(record).value_range is None
    with pytest.raises(ValidationError, match=r"range: got '5', allowed is LOW\.\.HIGH"):
        TrainSettings(data="a", family="vae", out=Path("b"), range="5")


def test_a_training_reads_by_its_settings_range(tmp_path: Path):
    settings = TrainSettings(data=str(_scans(tmp_path / "set")), family="vae", out=tmp_path, range="0..4095")
    seen, held_out = load_images(settings)
    assert max(seen.images.max(), held_out.images.max()) == 255


def _files() -> dict[str, Any]:
    """Files of every kind, by name: pictures of 16 by 16 with what is to be saved with them."""
    noise = np.random.default_rng(0).integers(0, 2**16, (16, 16))
    colours = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 4), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "grey16.png": (Image.fromarray(noise.astype(np.uint16)), {}),
        "grey16.tif": (Image.fromarray(noise.astype(">u2")), {"exif": exif}),
        "float.tif": (Image.fromarray((noise / 2**16).astype(np.float32)), {}),
        "grey.pgm": (colours.convert("L"), {}),
        "alpha.png": (colours, {}),
        "turned.jpg": (colours.convert("RGB"), {"exif": exif}),
        "turned.webp": (colours, {"exif": exif}),
        "ink.tif": (colours.convert("CMYK"), {}),
        "palette.gif": (colours.convert("P"), {"transparency": 3}),
        "bits.bmp": (colours.convert("1"), {}),
        "j2k.jp2": (colours.convert("RGB"), {}),
        "wide.avif": (colours.convert("RGB"), {}),
        "grey_alpha.png": (colours.convert("LA"), {}),
    }
    encoded = {}
    for name, (picture, options) in files.items():
        file = io.BytesIO()
        kinds = {"tif": "TIFF", "jpg": "JPEG", "pgm": "PPM", "jp2": "JPEG2000"}
        picture.save(file, kinds.get(name[-3:], name.rpartition(".")[2].upper()), **options)
        encoded[name] = file.getvalue()
    return encoded


@pytest.mark.parametrize("name", sorted(_files()))
@pytest.mark.parametrize("value_range", [None, ValueRange(0, 0.5), ValueRange(1000, 40000)])
def test_the_client_reads_a_file_to_the_bytes_that_training_reads(
    tmp_path: Path, name: str, value_range: ValueRange | None
):
    (tmp_path / name).write_bytes(_files()[name])
    trained = load(str(tmp_path), None, value_range=value_range).images
    opened = Images.open([tmp_path / name], trained.shape[3], value_range)
    np.testing.assert_array_equal(trained, opened)


def test_the_client_names_the_file_that_it_cannot_read(tmp_path: Path):
    Image.fromarray(np.full((4, 4), 7.0, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif: floating-point values from 7 to 7"):
        Images.open([tmp_path / "a.tif"], 1)
