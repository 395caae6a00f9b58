"""A drawing, which is an SVG file, as a square picture: the middle of its viewBox, on white, of as many pixels as are asked for.

    bytes -> XML tree -> checked: no other files, no text, not too deep -> Drawing -> written anew -> resvg -> reduced

An SVG says how things lie, not of how many pixels they are: its width and height are for the page that shows it, and matter only
where there is no viewBox. It is drawn at twice the size and averaged, as resvg smooths each edge by itself: where two shapes
meet, what lies below shines through. On 50 of OpenMoji's drawings at 64 pixels the mean distance to those of eight times the size
falls from 1.4 to 0.6 levels of 255, for half as much time again; four times the size: 0.3, for nearly four times the time.

resvg opens whatever file an SVG names and has no switch against it. So it is given the tree that was checked, written anew,
and not the bytes, which another parser might read in another way. Nor has it a limit of memory: a drawing that is made to exhaust
it, as by a pattern of 100,000 x 100,000, ends the process.
"""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO

import numpy as np
from PIL import Image

from figment.imaging import UnreadablePicture
from training.errors import DataError

ENDING = ".svg"

OVERSAMPLING = 2
"""Pixels drawn for one that is kept, each way."""

DEEPEST = 100
"""Elements within each other: of some 250 the drawing of one overruns a stack of 8 MB, which ends the process."""

_SPACE = "http://www.w3.org/2000/svg"
_ROOTS = frozenset({"svg", f"{{{_SPACE}}}svg"})
_LINKS = {"image": "data:", "feImage": "data:", "use": "#"}
"""How links begin that lead nowhere else, by element; those of others are not followed."""

_UNITS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4}
_LENGTH = re.compile(rf"\s*([0-9.eE+-]+?)({'|'.join(_UNITS)})\s*")
_DPI = 96.0
_XML = re.compile(rb"(\xef\xbb\xbf)?\s*<|\xff\xfe<\0|\xfe\xff\0<")
"""How XML begins in UTF-8 and UTF-16."""


def is_xml(encoded: bytes) -> bool:
    """Whether a file can be a drawing: no format of pixels begins like that."""
    return _XML.match(encoded) is not None


def drawn_by() -> str:
    """What a drawing's pixels depend on beside its file."""
    try:
        return f"resvg-py {version('resvg-py')}, by {OVERSAMPLING}"
    except PackageNotFoundError:  # told where there is something to draw
        return ""


@dataclass(frozen=True)
class Drawing:
    """An SVG that may be drawn. width, height: of its viewBox, in units of its own."""

    root: ET.Element
    width: float
    height: float

    def shape(self, size: int) -> tuple[int, int]:
        """Width and height in pixels, of which the shorter is `size`: the picture of which `drawn` is the middle."""
        scale = size / min(self.width, self.height)
        return math.ceil(self.width * scale), math.ceil(self.height * scale)

    def drawn(self, size: int) -> Image.Image:
        """A square of `size` pixels, grey where all of it is, else RGB.

        Raises: UnreadablePicture, if resvg cannot draw it; DataError, if resvg is not installed.
        """
        try:
            from resvg_py import svg_to_bytes
        except ImportError:
            raise DataError(
                "data: an SVG is drawn by resvg-py, which is not installed: pip install 'figment[svg]'"
            ) from None
        pixels = size * OVERSAMPLING
        self.root.attrib |= {"width": str(pixels), "height": str(pixels), "preserveAspectRatio": "xMidYMid slice"}
        text = ET.tostring(self.root, encoding="unicode")
        try:
            # Sides are given twice, as a style might have its own; dpi, as without one a millimetre has no length.
            png = svg_to_bytes(
                svg_string=text, width=pixels, height=pixels, dpi=_DPI, background="white", skip_system_fonts=True
            )
        except BaseException as error:
            if (
                isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"
            ):  # a panic of resvg's is no Exception
                raise UnreadablePicture(f"an SVG that cannot be drawn: {error}") from None
            raise
        with Image.open(BytesIO(png), formats=["PNG"]) as large:
            levels = np.asarray(large.convert("RGB").reduce(OVERSAMPLING))
        is_grey = bool((levels == levels[..., :1]).all())
        return Image.fromarray(levels[..., 0] if is_grey else levels)


def read_drawing(encoded: bytes) -> Drawing:
    """The drawing in an SVG file, once it is known that nothing else is needed to draw it.

    Raises: UnreadablePicture, if it is damaged, no SVG, without a shape, too deep, has text or refers to other files.
    """
    try:
        root = ET.fromstring(encoded.lstrip())  # noqa: S314  it fetches nothing, and stops where entities multiply
    except ET.ParseError as error:
        raise UnreadablePicture(f"not an image, or a damaged SVG: {error}") from None
    if root.tag not in _ROOTS:
        raise UnreadablePicture(f"not an image: XML of the kind {_name(root)!r}, allowed is svg")
    for element, depth in _walk(root):
        if depth > DEEPEST:
            raise UnreadablePicture(f"an SVG whose elements lie more than {DEEPEST} deep in each other")
        _check(element)
    return Drawing(root, *_view(root))


def _walk(root: ET.Element) -> Iterator[tuple[ET.Element, int]]:
    """Each element with its depth, without recursion: how deep it goes is what is to be found."""
    waiting = [(root, 1)]
    while waiting:
        element, depth = waiting.pop()
        yield element, depth
        waiting += [(child, depth + 1) for child in element]


def _check(element: ET.Element) -> None:
    """Raises: UnreadablePicture, if drawing it needs more than the file."""
    name = _name(element)
    if name == "text" and "".join(element.itertext()).strip():
        raise UnreadablePicture("an SVG with text, which would look as each machine's fonts do; make paths of it")
    if name in _LINKS:
        for attribute, value in element.items():
            if attribute.rpartition("}")[2] == "href" and value and not _leads_inside(name, value):
                raise UnreadablePicture(
                    f"an SVG whose {name} refers to {value[:60]!r}, and no other file is read; allowed is {_LINKS[name]}..."
                )


def _leads_inside(name: str, value: str) -> bool:
    return value.startswith(_LINKS[name]) and (
        name == "use" or "," in value
    )  # without a comma resvg takes data: for a path


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _view(root: ET.Element) -> tuple[float, float]:
    """Width and height of the viewBox, which an SVG without one gets.

    Raises: UnreadablePicture, if nothing says what part of the plane is shown.
    """
    box = root.get("viewBox")
    if box is None:
        sides = [_pixels(root.get(side, "")) for side in ("width", "height")]
        if not all(sides):
            raise UnreadablePicture(
                f"an SVG without a viewBox, and with width {root.get('width')!r} and height {root.get('height')!r}: "
                "nothing says what part of the plane it shows"
            )
        root.set("viewBox", f"0 0 {sides[0]} {sides[1]}")
        return sides[0], sides[1]
    try:
        _, _, width, height = map(float, re.split(r"[\s,]+", box.strip()))
        is_box = 0 < width < math.inf and 0 < height < math.inf
    except ValueError:
        is_box = False
    if not is_box:
        raise UnreadablePicture(
            f"an SVG whose viewBox is {box[:60]!r}; allowed are x, y, width and height, the last two above 0"
        )
    return width, height


def _pixels(length: str) -> float:
    """0 where it is no length by itself, such as 100%."""
    found = _LENGTH.fullmatch(length)
    try:
        pixels = float(found[1]) * _UNITS[found[2]] if found else 0.0
    except ValueError:
        return 0.0
    return pixels if 0 < pixels < math.inf else 0.0
