"""What of a PNG, JPEG or WebP file its picture needs: all that a decoder gets to see of a stranger's file.

    file -> essentials() -> the same picture without text, profiles, previews and further frames; how it is turned

A decoder inflates, parses and copies whatever a file holds, a kilobyte may become a megabyte. What is left here costs time in
proportion to its bytes, and these are bounded by the picture's pixels. EXIF is read for the orientation alone.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"sBIT", b"IDAT", b"IEND"})
_JPEG = b"\xff\xd8\xff"
_JPEG_SEGMENTS = frozenset({0xE0, 0xEE, *range(0xC0, 0xE0)})
"""JFIF, Adobe's, which tells how colours are written, and all that decodes; not the other APPn, comments and fillers."""
_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1
_WEBP_CHUNKS = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_SAID = 0x2C
"""Flags of a VP8X chunk that promise a profile, EXIF and XMP."""

PARTS = 4096
"""Chunks or segments of a file at most; those of a picture of 512 x 512 pixels are some hundred."""

KEPT = 64
"""Of these what a decoder gets to see, each of which costs it twenty times what it costs to leave one out; encoders need some
ten."""

SCANS = 100
"""Passes over a JPEG's pixels at most; encoders make some ten."""

_ORIENTATION, _ENTRY_BYTES = 0x0112, 12
_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""Types of EXIF's whole numbers: most writers take the second."""

ENTRIES = 512
"""Entries of EXIF that are looked through."""


class UnreadableFile(ValueError):
    """A file is damaged, or built to keep its reader busy; the message says how."""


class Essentials(NamedTuple):
    """content: the slim file. orientation: EXIF's, from 1 to 8."""

    content: bytes
    orientation: int


def essentials(file: bytes) -> Essentials | None:
    """What a picture needs of its file; None, if it is no PNG, JPEG or WebP.

    Raises: UnreadableFile.
    """
    try:
        if file.startswith(_PNG):
            return _png(file)
        if file.startswith(_JPEG):
            return _jpeg(file)
        if file[:4] == b"RIFF" and file[8:12] == b"WEBP":
            return _webp(file)
    except (struct.error, IndexError):
        raise UnreadableFile("it ends too early") from None
    return None


def _png(file: bytes) -> Essentials:
    kept, data, orientation = [_PNG], list[bytes](), 1
    place, name = len(_PNG), b""
    for _ in range(PARTS):
        length, name = struct.unpack_from(">I4s", file, place)
        content = file[place + 8 : place + 8 + length]
        if name == b"IDAT":
            if struct.unpack_from(">I", file, place + 8 + length)[0] != zlib.crc32(content, zlib.crc32(name)):
                raise UnreadableFile("the checksum of its pixels is wrong")
            data.append(content)
        elif name == b"eXIf":
            orientation = _orientation(content)
        elif name in _PNG_CHUNKS and name != b"IEND":
            _keep(kept, file[place : place + 12 + length])
        if name == b"IEND":
            break
        place += 12 + length
    else:
        raise UnreadableFile(f"it has more than {PARTS} chunks")
    return Essentials(b"".join([*kept, _png_chunk(b"IDAT", b"".join(data)), _png_chunk(b"IEND", b"")]), orientation)


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _jpeg(file: bytes) -> Essentials:
    kept, orientation, place = [file[:2]], 1, 2
    for _ in range(PARTS):
        if file[place] != 0xFF:
            raise UnreadableFile("something stands between its segments")
        kind = file[place + 1]
        if kind == 0xFF:  # a filler
            place += 1
            continue
        (length,) = struct.unpack_from(">H", file, place + 2)
        if kind == _SCAN:
            end = file.find(bytes([0xFF, _END]), place)
            rest = file[place:] if end < 0 else file[place : end + 2]
            if rest.count(bytes([0xFF, _SCAN])) > SCANS:
                raise UnreadableFile(f"it has more than {SCANS} scans")
            kept.append(rest)
            return Essentials(b"".join(kept), orientation)
        content = file[place + 4 : place + 2 + length]
        if kind == _APP1 and content.startswith(b"Exif\0\0"):
            orientation = _orientation(content[6:])
        elif kind in _JPEG_SEGMENTS:
            _keep(kept, file[place : place + 2 + length])
        place += 2 + length
    raise UnreadableFile(f"it has more than {PARTS} segments")


def _webp(file: bytes) -> Essentials:
    kept, orientation, frames = list[bytes](), 1, 0
    for name, content in _riff(file):
        if name == b"EXIF":
            orientation = _orientation(content.removeprefix(b"Exif\0\0"))
        frames += name == b"ANMF"
        if name not in _WEBP_CHUNKS or (name == b"ANMF" and frames > 1):
            continue
        if name == b"VP8X" and content:
            content = bytes([content[0] & ~_WEBP_SAID]) + content[1:]
        _keep(kept, name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2))
    body = b"WEBP" + b"".join(kept)
    return Essentials(b"RIFF" + struct.pack("<I", len(body)) + body, orientation)


def _riff(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the chunks of a WebP file."""
    place, end = 12, min(len(file), 8 + struct.unpack_from("<I", file, 4)[0])
    for _ in range(PARTS):
        if place + 8 > end:
            return
        name, length = struct.unpack_from("<4sI", file, place)
        if place + 8 + length > end:
            raise UnreadableFile("it ends too early")
        yield name, file[place + 8 : place + 8 + length]
        place += 8 + length + length % 2
    raise UnreadableFile(f"it has more than {PARTS} chunks")


def _keep(kept: list[bytes], part: bytes) -> None:
    if len(kept) > KEPT:
        raise UnreadableFile(f"it has more than {KEPT} parts that a picture may need")
    kept.append(part)


def _orientation(exif: bytes) -> int:
    """How EXIF, a TIFF of some entries, says that the picture is turned; 1, upright, where it does not say it."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for number in range(min(count, ENTRIES)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHI4s", exif, first + 2 + _ENTRY_BYTES * number)
            if tag == _ORIENTATION and kind in _NUMBERS:
                (orientation,) = struct.unpack_from(order + _NUMBERS[kind], value)
                return orientation if 1 <= orientation <= 8 else 1
    except struct.error:
        return 1
    return 1
