"""Images: sheets and files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from figment.images import Images
from figment.images.grid import GAP, GAP_GREY


def pictures(count: int = 5, height: int = 4, width: int = 3, channels: int = 1) -> Images:
    pixels = np.arange(count * height * width * channels) % 251
    return Images(pixels.astype(np.uint8).reshape(count, height, width, channels), seed=7, first_index=10)


def test_pixels_that_are_not_bytes_are_refused_instead_of_cut() -> None:
    with pytest.raises(ValueError, match="float64"):
        Images(np.full((1, 2, 2, 1), 0.9))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_every_picture_in_its_place_with_a_gap_between(channels: int) -> None:
    images = pictures(5, 20, 150, channels)
    sheet = images.grid(columns=3)
    assert sheet.size == (3 * 150 + 4 * GAP, 2 * 20 + 3 * GAP)
    pixels = np.asarray(sheet).reshape(sheet.height, sheet.width, channels)
    np.testing.assert_array_equal(pixels[GAP : GAP + 20, GAP : GAP + 150], images[0])
    top, left = GAP + 20 + GAP, GAP + 150 + GAP
    np.testing.assert_array_equal(pixels[top : top + 20, left : left + 150], images[4])
    assert (pixels[:GAP] == GAP_GREY).all()
    assert (pixels[top:, left + 150 :] == GAP_GREY).all()  # the place of a sixth picture


def test_a_small_sheet_is_enlarged_by_a_whole_factor() -> None:
    sheet = pictures(4).grid()
    assert sheet.width % (2 * 3 + 3 * GAP) == 0
    assert 256 < sheet.width <= 512


def test_a_sheet_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="N >= 1"):
        pictures()[:0].grid()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_ending_saves_a_sheet(tmp_path: Path, ending: str) -> None:
    path = pictures().save(tmp_path / "new" / f"sheet.{ending}")
    with Image.open(path) as sheet:
        assert sheet.size == pictures().grid().size


def test_npy_saves_the_array(tmp_path: Path) -> None:
    np.testing.assert_array_equal(np.load(pictures().save(tmp_path / "a.npy")), pictures())


def test_gif_saves_one_picture_after_the_other(tmp_path: Path) -> None:
    with Image.open(pictures(5).save(tmp_path / "a.gif")) as animation:
        assert len(list(ImageSequence.Iterator(animation))) == 5


def test_an_animation_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="N >= 1"):
        pictures()[:0].save(tmp_path / "a.gif")


def test_no_ending_saves_a_folder_of_pictures_named_by_seed_and_index(tmp_path: Path) -> None:
    folder = pictures(2).save(tmp_path / "folder")
    assert sorted(file.name for file in folder.iterdir()) == ["7-000010.png", "7-000011.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "7-000011.png")), pictures(2)[1, ..., 0])


def test_an_ending_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="xyz"):
        pictures().save(tmp_path / "a.xyz")


def test_saved_pictures_are_read_back(tmp_path: Path) -> None:
    folder = pictures(3, channels=3).save(tmp_path / "folder")
    np.testing.assert_array_equal(Images.open(sorted(folder.iterdir()), channels=3), pictures(3, channels=3))


def test_alpha_is_read_over_black_and_colour_as_grey(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (2, 2), (255, 255, 255)).save(tmp_path / "white.png")
    read = Images.open([tmp_path / "clear.png", tmp_path / "white.png"], channels=1)
    assert read.shape == (2, 2, 2, 1)
    assert [int(picture.max()) for picture in read] == [0, 255]


def test_a_picture_is_turned_by_its_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (4, 2)).save(tmp_path / "turned.jpg", exif=exif)
    assert Images.open([tmp_path / "turned.jpg"], channels=1).shape == (1, 4, 2, 1)


def test_files_of_two_sizes_are_an_error_that_names_both(tmp_path: Path) -> None:
    for width in (2, 3):
        Image.new("L", (width, 2)).save(tmp_path / f"{width}.png")
    with pytest.raises(ValueError, match="2x2, 3x2"):
        Images.open(sorted(tmp_path.iterdir()), channels=1)
