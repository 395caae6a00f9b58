"""Images with what they were drawn from, and grids and files of them; knows NumPy and Pillow, not the network."""

from figment.images.array import Images, Timing
from figment.images.grid import grid, save

__all__ = ["Images", "Timing", "grid", "save"]
