"""A decoded or lazily opened Pillow picture to 8 bits a channel, upright, grey or RGB.

    picture -> more than 8 bits: by a range, else as it is -> alpha over black -> turned by EXIF -> mode L or RGB

Knows Pillow's modes; which values are black and white is the business of `deep`.
"""

from PIL import Image, TiffImagePlugin

from figment.imaging.deep import deep_levels
from figment.imaging.levels import UnreadablePicture, checked_range

_GREY = frozenset({"1", "L", "LA", "La"})
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def flatten(picture: Image.Image, value_range: tuple[float, float] | None = None) -> Image.Image:
    """The frame that `picture` stands at, of a file the first, upright, without alpha: mode L where the picture is grey, else RGB.

    picture: as `Image.open` gives it; of one that was loaded before, only the upper 8 bits of deep colours are left.
    value_range: what is black and white in pictures of more than 8 bits a channel; those of 8 bits are never touched by
    it. Without it the file's tags say (TIFF Min- and MaxSampleValue, PNG sBIT, PGM maxval), or else the depth: all of an
    unsigned integer's values, 0 to 1 of floats. Signed and 32-bit integers need a tag or a range.

    Raises: UnreadablePicture, if decoding fails, or values have no known range or lie outside 0 to 1; ValueError, if
        `value_range` is none.
    """
    chosen = None if value_range is None else checked_range(value_range)
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        picture.filename = (
            ""  # Pillow 13 maps a TIFF that it has the path of by its upright size: garbled, if on its side
        )
    try:
        levels = deep_levels(picture, chosen)
        if levels is None:
            picture.load()
        flat = _over_black(picture if levels is None else levels)
        # Not by exif_transpose, which packs the whole of EXIF anew and fails where that is damaged or large.
        return turned(flat, picture.getexif().get(_ORIENTATION, 1))
    except UnreadablePicture:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a malformed file makes of them
        raise UnreadablePicture(str(error) or type(error).__name__) from error


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    """The picture upright; orientation: EXIF's, 1 of what is upright."""
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _over_black(picture: Image.Image) -> Image.Image:
    """Mode L or RGB, alpha put over black."""
    mode = "L" if picture.mode in _GREY else "RGB"
    if not picture.has_transparency_data:
        return picture.convert(mode)
    if picture.mode == "La":  # Pillow has no way from it to RGBA
        picture = picture.convert("LA")
    over = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over).convert("RGB").convert(mode)
