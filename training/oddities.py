"""Pictures that can be read and are hardly what somebody meant: of one grey, very long, or tiny.

each picture -> see() ... -> notes()
"""

import numpy as np

from training.pictures import Decoded, listed

NEARLY_ONE = 16
"""Levels of 255 between which all of a picture lies that shows nothing: of 12 bits read as 16 there are as many."""

SET_NEARLY_ONE = 64
"""The same of all pictures together: 14 bits read as 16."""

LONGEST = 4
"""Longest side by shortest, of which the centre square still shows most people something."""

SMALLEST = 8
"""Pixels of the shortest side: no network draws smaller images."""


class Oddities:
    """What is odd of the pictures seen so far."""

    def __init__(self) -> None:
        self._count = 0
        self._flat: list[str] = []
        self._extreme: list[str] = []
        self._low, self._high = 255, 0

    def see(self, name: str, decoded: Decoded) -> None:
        """Take one picture into account."""
        self._count += 1
        image = decoded.image
        lowest, highest = image.min((0, 1)), image.max((0, 1))
        self._low, self._high = min(self._low, int(lowest.min())), max(self._high, int(highest.max()))
        if (np.subtract(highest, lowest, dtype=np.int64) <= NEARLY_ONE).all():
            self._flat.append(name)
        short, long = sorted((decoded.width, decoded.height))
        if long > LONGEST * short or short < SMALLEST:
            self._extreme.append(f"{name} ({decoded.width}x{decoded.height})")

    def notes(self) -> list[str]:
        """Each kind in one line, with names."""
        notes = []
        levels = f"{self._low} to {self._high} of 255"
        more = "pictures of more than 8 bits a channel may need their range, such as --range 0..4095"
        if self._count and self._high - self._low <= SET_NEARLY_ONE:
            named = f"such as {listed(self._flat)}" if self._flat else "none by itself"
            notes.append(
                f"all {self._count} pictures together have levels from {levels}, {named}: nearly one grey; {more}"
            )
        elif self._flat:
            notes.append(
                f"{len(self._flat)} of {self._count} pictures are nearly one grey or colour: {listed(self._flat)}"
            )
        if self._extreme:
            notes.append(
                f"{len(self._extreme)} of {self._count} pictures are of extreme shape, of which the centre square is taken: "
                f"{listed(self._extreme)}"
            )
        return notes
