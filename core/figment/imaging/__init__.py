"""The one rule by which a picture becomes 8 bits a channel, upright, grey or RGB: for training, server and client alike.

    Pillow picture -> flatten() -> Pillow picture of mode L or RGB

A leaf: knows NumPy and Pillow, neither messages nor models nor files' names.
"""

from figment.imaging.flat import flatten, turned
from figment.imaging.levels import UnreadablePicture, ValueRange, parse_range

__all__ = ["UnreadablePicture", "ValueRange", "flatten", "parse_range", "turned"]
