"""SVG files are pictures like any others, drawn on white at the size that is asked for; and none reads another file."""

import base64
import io
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from training import drawings
from training.errors import DataError
from training.sources import load

RED, GREEN, WHITE = [255, 0, 0], [0, 255, 0], [255, 255, 255]
NAMES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
SQUARE = 'viewBox="0 0 16 16"'
FIELD = '<rect width="16" height="16" fill="lime"/>'


def svg(inside: str, root: str = SQUARE) -> str:
    return f"<svg {NAMES} {root}>{inside}</svg>"


def pixels(folder: Path, text: str | bytes, size: int = 16) -> Any:
    """The picture of one SVG: (size, size, 1 or 3)."""
    (folder / "drawing.svg").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(str(folder), size).images[0]


def green_png() -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8), (0, 255, 0)).save(encoded, "png")
    return encoded.getvalue()


def embedded(kind: str, content: bytes) -> str:
    return f'<image width="16" height="16" href="data:{kind};base64,{base64.b64encode(content).decode()}"/>'


def test_a_folder_of_svg_files_is_read(tmp_path: Path) -> None:
    for name, colour in (("cat", "red"), ("dog", "lime")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.SVG").write_text(svg(f'<circle cx="8" cy="8" r="6" fill="{colour}"/>'))
    images = load(str(tmp_path), 64)
    assert images.images.shape == (2, 64, 64, 3)
    assert images.label_names == ["cat", "dog"]
    assert images.images[:, 32, 32].tolist() == [RED, GREEN]
    assert images.images[:, 0, 0].tolist() == [WHITE, WHITE]


def test_of_a_wide_drawing_the_middle_of_its_view_box_is_the_picture(tmp_path: Path, caplog: Any) -> None:
    parts = '<rect width="100%" height="100%" fill="red"/><rect x="10" y="20" width="16" height="16" fill="lime"/>'
    for page in ("", 'width="7" height="300"', 'width="100%"'):
        found = pixels(tmp_path, svg(parts, f'viewBox="-30 20 96 16" {page}'))
        assert (found == GREEN).all()
    assert "1 of 1 pictures are of extreme shape" in caplog.text
    assert "drawing.svg (96x16)" in caplog.text


@pytest.mark.parametrize("sides", ['width="32" height="16"', 'width="8.46666667mm" height="12pt"'])
def test_without_a_view_box_width_and_height_are_the_field(tmp_path: Path, sides: str) -> None:
    found = pixels(tmp_path, svg('<rect x="8" width="16" height="16" fill="lime"/>', sides))
    assert (found == GREEN).all()


def test_a_millimetre_has_its_length(tmp_path: Path) -> None:
    found = pixels(tmp_path, svg('<rect width="2.1167mm" height="100%" fill="lime"/>'))
    assert (found[:, :8] == GREEN).all()
    assert (found[:, 8:] == WHITE).all()


def test_shapes_that_cover_others_leave_nothing_of_them_at_the_edges(tmp_path: Path) -> None:
    under, over = (f'<rect x="3.5" y="3.5" width="9" height="9" fill="{colour}"/>' for colour in ("black", "white"))
    assert pixels(tmp_path, svg(under + over)).min() == 255


def test_drawings_of_greys_alone_are_a_grey_set(tmp_path: Path) -> None:
    found = pixels(tmp_path, svg('<path d="M0 8H16" stroke="black" stroke-width="8"/>'))
    assert found.shape == (16, 16, 1)
    assert (found[:, 8, 0] == [255] * 4 + [0] * 8 + [255] * 4).all()


def test_drawings_lie_beside_pictures_and_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [svg(FIELD).encode(), green_png()]}), tmp_path / "a.parquet")
    assert (load(str(tmp_path), 16).images == GREEN).all()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_drawings_may_be_encoded_in_any_way_that_they_name(tmp_path: Path, encoding: str) -> None:
    named = encoding.removesuffix("-sig")
    text = f'<?xml version="1.0" encoding="{named}"?><!-- grün -->{svg(FIELD)}'
    assert (pixels(tmp_path, text.encode(encoding)) == GREEN).all()


def test_a_drawing_has_no_size_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text(svg(FIELD))
    with pytest.raises(
        DataError, match=r"^size: .*a\.svg is an SVG, which has none by itself; choose one, e\.g\. --size 64"
    ):
        load(str(tmp_path), None, skip_broken=True)


NO_VIEW = "without a viewBox, and with width '100%' and height None: nothing says what part"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (svg(FIELD)[:-9], r"not an image, or a damaged SVG: .*line 1"),
        ("<!doctype html><p>404", r"not an image, or a damaged SVG: "),
        ("<html/>", r"not an image: XML of the kind 'html', allowed is svg"),
        (svg(FIELD, 'viewBox="0 0 0 16"'), r"viewBox is '0 0 0 16'; allowed are x, y, width and height"),
        (svg(FIELD, 'viewBox="16 16"'), r"viewBox is '16 16'"),
        (svg(FIELD, 'width="100%"'), NO_VIEW),
        (svg("<g>" * 300 + FIELD + "</g>" * 300), r"more than 100 deep"),
        (svg("<text>cat<tspan/></text>"), r"with text, .* make paths of it"),
        (svg("<text><tspan>cat</tspan></text>"), r"with text"),
    ],
)
def test_a_drawing_that_cannot_be_drawn_is_told_or_left_out(tmp_path: Path, caplog: Any, text: str, why: str) -> None:
    with pytest.raises(DataError, match=rf"1 pictures cannot be read .*:\n  .*drawing\.svg: .*{why}"):
        pixels(tmp_path, text)
    (tmp_path / "whole.png").write_bytes(green_png())
    assert (load(str(tmp_path), 16, skip_broken=True).images == GREEN).all()
    assert "left out 1 pictures that cannot be read" in caplog.text


def test_text_that_shows_nothing_does_no_harm(tmp_path: Path) -> None:
    assert (pixels(tmp_path, svg(f"{FIELD}<text> <tspan/></text>")) == GREEN).all()


@pytest.mark.parametrize(
    "reader",
    [
        '<image width="16" height="16" href="{file}"/>',
        '<image width="16" height="16" xlink:href="{file}"/>',
        '<image width="16" height="16" xml:href="{file}"/>',
        '<image width="16" height="16" href="file://{file}"/>',
        '<image width="16" height="16" href="#{file}"/>',
        '<image width="16" height="16" href="data:{file}"/>',
        '<image width="16" height="16" href="green.png"/>',
        '<image width="16" height="16" href="http://127.0.0.1/green.png"/>',
        '<filter id="f"><feImage href="{file}"/></filter><rect width="16" height="16" filter="url(#f)"/>',
        '<defs><pattern id="p"><g><image href="{file}"/></g></pattern></defs>',
        '<use href="{file}#part"/>',
    ],
)
def test_no_other_file_is_read_for_a_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "green.png").write_bytes(green_png())
    monkeypatch.chdir(tmp_path)
    text = svg(reader.format(file=tmp_path / "green.png"))
    with pytest.raises(DataError, match=r"drawing\.svg: an SVG whose \w+ refers to '.*', and no other file is read"):
        pixels(tmp_path / "set", text)


def test_no_entity_hides_a_file(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "green.png").write_bytes(green_png())
    entity = f'<!DOCTYPE svg [<!ENTITY file "{tmp_path}/green.png">]>'
    with pytest.raises(DataError, match=r"an SVG whose image refers to"):
        pixels(tmp_path / "set", entity + svg('<image width="16" height="16" href="&file;"/>'))
    external = f'<!DOCTYPE svg [<!ENTITY part SYSTEM "file://{tmp_path}/part.xml">]>'
    (tmp_path / "part.xml").write_text(FIELD)
    with pytest.raises(DataError, match=r"damaged SVG: undefined entity"):
        pixels(tmp_path / "set", external + svg("&part;"))


def test_what_styles_and_embedded_drawings_name_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    file = tmp_path / "green.png"
    file.write_bytes(green_png())
    image = f'<image width="16" height="16" href="{file}"/>'
    for inside in (
        f'<style>image {{ href: {file} }}</style><image width="16" height="16"/>',
        f'<image width="16" height="16" style="href: {file}"/>',
        f'<rect width="16" height="16" fill="url({file}#a) white"/>',
        embedded("image/svg+xml", svg(image).encode()),
    ):
        assert not (pixels(tmp_path / "set", svg(inside)) == GREEN).all(-1).any()


def test_embedded_pictures_are_drawn_and_links_of_people_are_none_to_files(tmp_path: Path) -> None:
    assert (pixels(tmp_path, svg(embedded("image/png", green_png()))) == GREEN).all()
    part = f'<defs><g id="part">{FIELD}</g></defs><a href="https://openmoji.org"><use xlink:href="#part"/></a>'
    assert (pixels(tmp_path, svg(part)) == GREEN).all()


def test_without_resvg_a_drawing_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.svg").write_text(svg(FIELD))
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(DataError, match=r"resvg-py, which is not installed: pip install 'figment\[svg\]'"):
        load(str(tmp_path), 16, skip_broken=True)


class PanicException(BaseException):  # what Rust raises through pyo3
    __module__ = "pyo3_runtime"


@pytest.mark.parametrize("error", [ValueError("nodes limit reached"), PanicException("index out of bounds")])
def test_what_resvg_gives_up_is_a_broken_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def give_up(**_: object) -> bytes:
        raise error

    monkeypatch.setattr("resvg_py.svg_to_bytes", give_up)
    with pytest.raises(DataError, match=rf"drawing\.svg: an SVG that cannot be drawn: {error}"):
        pixels(tmp_path, svg(FIELD))


def test_a_cache_knows_by_what_drawings_were_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.svg").write_text(svg(FIELD))
    cache = tmp_path / "cache"
    first, again = (load(str(tmp_path / "set"), 16, cache=cache).digest() for _ in range(2))
    assert first == again
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(drawings, "OVERSAMPLING", 3)
    load(str(tmp_path / "set"), 16, cache=cache)
    assert len(list(cache.iterdir())) == 2


def test_a_set_that_takes_long_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for number in range(3):
        (tmp_path / f"{number}.svg").write_text(svg(FIELD))
    load(str(tmp_path), 16)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("training.progress.FIRST_S", 0.0)
    load(str(tmp_path), 16)
    assert capsys.readouterr().err == f"data: {tmp_path}: 1 pictures read so far\n"
