"""A folder of small colour pictures of two classes: discs on white and squares on black."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 32


def colour_folder(folder: Path, count: int = 24, size: int = SIZE) -> Path:
    """`count` pictures of each class in a subfolder of its own."""
    draw = np.random.default_rng(0)
    for name in ("disc", "square"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = Image.new("RGB", (size, size), "white" if name == "disc" else "black")
            pen, colour = ImageDraw.Draw(picture), tuple(int(each) for each in draw.integers(60, 200, 3))
            left, top = (int(each) for each in draw.integers(2, size // 2, 2))
            box = (left, top, left + size // 3, top + size // 3)
            (pen.ellipse if name == "disc" else pen.rectangle)(box, fill=colour)
            picture.save(folder / name / f"{number:03d}.png")
    return folder
