"""How pictures of every depth become grey levels, by one rule."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from figment.imaging import UnreadablePicture, ValueRange, flatten, parse_range

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
TWELVE_BITS = (0, 4095)


def png16(values: Any, *chunks: tuple[bytes, bytes], interlaced: bool = False) -> bytes:
    """A PNG of 16 bits a channel of values (H, W, 1 to 4); Pillow writes those of one channel alone."""
    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, int(interlaced))
    passes = [values]
    if interlaced:
        grid = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        passes = [values[top::down, left::right] for top, left, down, right in grid]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for each in passes for row in each if each.size)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(values: Any, **tags: Any) -> bytes:
    """tags: by their names in TIFF, such as SMaxSampleValue."""
    file, more = io.BytesIO(), TiffImagePlugin.ImageFileDirectory_v2()
    numbers = {
        "MaxSampleValue": 281,
        "SMinSampleValue": 340,
        "SMaxSampleValue": 341,
        "Orientation": 274,
        "PhotometricInterpretation": 262,
    }
    for name, value in tags.items():
        more[numbers[name]] = value
    Image.fromarray(values).save(file, "TIFF", tiffinfo=more)
    return file.getvalue()


def flat(file: bytes, value_range: tuple[float, float] | None = None) -> list[Any]:
    with Image.open(io.BytesIO(file)) as picture:
        levels: list[Any] = np.asarray(flatten(picture, value_range)).tolist()
        return levels


def row(*values: float, dtype: Any = np.uint16) -> Any:
    return np.array([values], dtype)


def test_every_eight_bit_level_comes_back_from_sixteen_bits_however_it_was_widened():
    levels = np.arange(256)
    for widened in (levels * 256, levels * 257):
        assert flat(tiff(widened.astype(np.uint16)[None]))[0] == levels.tolist()


def test_every_eight_bit_level_comes_back_from_twelve_bits_and_from_floats():
    levels = np.arange(256)
    assert flat(tiff((levels * 16).astype(np.uint16)[None]), TWELVE_BITS)[0] == levels.tolist()
    for whole in (255, 256):
        assert flat(tiff((levels / whole).astype(np.float32)[None]))[0] == levels.tolist()


def test_a_range_says_what_is_black_and_white_and_cuts_what_lies_outside():
    hounsfield = row(-2000, -1000, -300, 400, 3000, dtype=np.int32)
    assert flat(tiff(hounsfield), (-1000, 400)) == [[0, 0, 128, 255, 255]]
    assert flat(tiff(row(-1.0, 0.0, 1.0, dtype=np.float32)), (-1, 1)) == [[0, 128, 255]]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (row(-1024, 3071, dtype=np.int32), "-1024 to 3071"),
        (row(-0.5, 0.5, dtype=np.float32), "-0.5 to 0.5"),
        (row(0, 255, dtype=np.float32), "0 to 255"),
    ],
)
def test_values_of_no_known_range_are_told_with_the_option_that_gives_one(values: Any, found: str):
    with pytest.raises(UnreadablePicture, match=rf"{found}.*--range LOW\.\.HIGH"):
        flat(tiff(values))


def test_what_is_no_number_has_no_grey():
    with pytest.raises(UnreadablePicture, match="1 of 2 values are no numbers"):
        flat(tiff(row(np.nan, 0.5, dtype=np.float32)), (0, 1))


def test_a_tiffs_own_range_is_taken_where_its_tags_say_one_and_an_asked_one_goes_first():
    assert flat(tiff(row(0, 2048, 4095), MaxSampleValue=4095)) == [[0, 128, 255]]
    scan = tiff(row(-1000, -300, 400, dtype=np.int32), SMinSampleValue=-1000, SMaxSampleValue=400)
    assert flat(scan) == [[0, 128, 255]]
    assert flat(scan, (-1000, -300)) == [[0, 255, 255]]


def test_tags_of_a_picture_of_one_grey_say_nothing():
    assert flat(tiff(row(0x8000, 0x8000), MaxSampleValue=0)) == [[0x80, 0x80]]


def test_grey_whose_zero_is_white_is_turned_over():
    assert flat(tiff(row(0, 0x4000, 0xFFFF), PhotometricInterpretation=0)) == [[255, 191, 0]]


@pytest.mark.parametrize(("maxval", "head"), [(4095, b"P5"), (65535, b"P5"), (4095, b"P6")])
def test_a_pgms_and_a_ppms_maximum_is_white(maxval: int, head: bytes):
    values = np.repeat([[0, maxval // 2 + 1, maxval]], 3 if head == b"P6" else 1).astype(">u2")
    levels = np.asarray(flat(b"%s 3 1 %d\n" % (head, maxval) + values.tobytes())).reshape(3, -1)[:, 0]
    assert levels.tolist() == [0, 128, 255]


def test_an_asked_range_is_in_the_files_own_numbers_where_pillow_has_scaled_them():
    file = b"P5 2 1 4095\n" + np.array([512, 1023], ">u2").tobytes()
    assert flat(file, (0, 1023)) == [[128, 255]]


def test_sixteen_bits_of_colour_are_cut_by_a_range_as_grey_is():
    values = np.array([[[0, 2048, 4095], [16, 4080, 32]]])
    wanted = [[[0, 128, 255], [1, 255, 2]]]
    assert flat(png16(values), TWELVE_BITS) == wanted
    assert flat(png16(values)) == [[[0, 8, 15], [0, 15, 0]]]


def test_all_ways_to_store_colours_of_sixteen_bits_give_the_same():
    values = np.random.default_rng(0).integers(0, 4096, (9, 11, 4))
    opaque = np.array(flat(png16(values[..., :3]), TWELVE_BITS))
    assert np.array_equal(opaque, values[..., :3] * 256 // 4095)
    assert np.array_equal(flat(png16(values[..., :3], interlaced=True), TWELVE_BITS), opaque)
    values[..., 3] = 0xFFFF
    assert np.array_equal(flat(png16(values), TWELVE_BITS), opaque)
    grey = np.array(flat(png16(values[..., :1]), TWELVE_BITS))
    assert np.array_equal(grey, opaque[..., 0])
    assert np.array_equal(flat(png16(values[..., [0, 3]]), TWELVE_BITS), grey)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiffs_colours_of_sixteen_bits_are_cut_by_a_range(order: str):
    values = np.array([[[0, 2048, 4095], [16, 4080, 32]]])
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entries = {256: 2, 257: 1, 259: 1, 262: 2, 273: 8, 277: 3, 278: 1, 279: 12}
    bits = 8 + 12
    start = bits + 6
    tags = {**{tag: (4, 1, value) for tag, value in entries.items()}, 258: (3, 3, bits)}
    ifd = b"".join(struct.pack(f"{order}HHII", tag, *tags[tag]) for tag in sorted(tags))
    file = head + struct.pack(f"{order}I", start) + values.astype(f"{order}u2").tobytes()
    file += struct.pack(f"{order}HHH", 16, 16, 16) + struct.pack(f"{order}H", len(tags)) + ifd + bytes(4)
    assert flat(file, TWELVE_BITS) == [[[0, 128, 255], [1, 255, 2]]]


def test_alpha_and_transparent_colours_of_sixteen_bits_become_black():
    clear = np.array([[[4095, 4095, 4095, 0], [4095, 4095, 4095, 0xFFFF]]])
    assert flat(png16(clear), TWELVE_BITS) == [[[0, 0, 0], [255, 255, 255]]]
    assert flat(png16(clear[..., [0, 3]])) == [[0, 15]]
    keyed = clear[..., :3] - [[[5], [0]]]
    assert flat(png16(keyed, (b"tRNS", struct.pack(">HHH", 4090, 4090, 4090))), TWELVE_BITS)[0][0] == [0, 0, 0]
    assert flat(png16(keyed[..., :1], (b"tRNS", struct.pack(">H", 4090))), TWELVE_BITS) == [[0, 255]]


def test_a_pngs_significant_bits_are_its_range_where_they_were_not_widened():
    """PNG wants 12 significant bits widened to 16; many writers leave them as they are."""
    sbit = (b"sBIT", bytes([12]))
    raw = np.array([0, 1000, 2049, 4095])[None, :, None]
    assert flat(png16(raw, sbit)) == [[0, 62, 128, 255]]
    assert flat(png16(raw * 16, sbit)) == [[0, 62, 128, 255]]
    dark = raw // 16
    for widened in (dark * 16, dark * 65535 // 4095, dark << 4 | dark >> 8):
        assert flat(png16(widened, sbit)) == [[0, 3, 8, 15]]
    assert flat(png16(np.repeat(raw, 3, 2), (b"sBIT", bytes([12] * 3))))[0][2] == [128] * 3


def test_eight_bits_are_never_touched_by_a_range():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for picture in (Image.fromarray(levels), Image.fromarray(np.stack([levels] * 3, 2))):
        assert np.array_equal(flatten(picture, (-1, 7)), picture)


def test_colours_of_which_only_the_upper_bits_can_be_read_refuse_a_range():
    file = b"P6 1 1 4095\n" + bytes(6)
    with pytest.raises(UnreadablePicture, match="no range can be applied"):
        flat(file, TWELVE_BITS)


@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "webp"])
def test_every_orientation_is_turned_upright(tmp_path: Path, ending: str):
    upright = Image.fromarray(np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((16, 16), np.uint8)))
    undo = [None, None, 0, 3, 1, 5, 2, 6, 4]  # the transposition that `flatten` has to undo
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = upright if undo[orientation] is None else upright.transpose(Image.Transpose(undo[orientation]))
        stored.save(tmp_path / f"a.{ending}", exif=exif, **({"quality": 100} if ending == "jpg" else {}))
        with Image.open(tmp_path / f"a.{ending}") as picture:
            turned = flatten(picture).convert("L")
        np.testing.assert_allclose(np.asarray(turned, int), np.asarray(upright, int), atol=12)


def test_a_deep_picture_is_turned_upright():
    assert flat(tiff(np.array([[0, 0x8000]], np.uint16), Orientation=6)) == [[0], [0x80]]


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV", "LA", "La", "PA", "RGBA", "RGBa"]
)
def test_every_mode_of_eight_bits_becomes_grey_or_rgb(mode: str):
    made = flatten(Image.new(mode, (3, 2)))
    assert made.mode == ("L" if mode in {"1", "L", "LA", "La"} else "RGB")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA"])
def test_a_mode_that_a_decoder_fails_on_is_told_in_words(mode: str):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert(mode).save(file, "PNG")
    with pytest.raises(UnreadablePicture, match=r"\w"):
        flat(file.getvalue()[:-200])


@pytest.mark.parametrize(
    ("text", "pair"),
    [("0..4095", (0, 4095)), ("-1..1", (-1, 1)), ("-1e3..4e2", (-1000, 400)), ("-.5...5", (-0.5, 0.5))],
)
def test_a_range_is_read_as_it_is_typed_and_written_as_it_is_read(text: str, pair: tuple[float, float]):
    assert parse_range(text) == ValueRange(*pair)
    assert parse_range(str(ValueRange(*pair))) == ValueRange(*pair)


@pytest.mark.parametrize("text", ["", "5", "1..0", "0..", "..1", "0..nan", "-inf..1", "a..b", "1..1", "0-1"])
def test_what_is_no_range_is_refused(text: str):
    with pytest.raises(ValueError, match=r"allowed is LOW\.\.HIGH"):
        parse_range(text)
