"""Images changed at random before a network sees them, by parameters that are drawn beforehand.

    generator -> Augmentation, one set of parameters an image -> images -> images

Images are (N, C, H, W) float32 in [-1, 1]. All is differentiable twice, as gradient penalties want it, and parameters are
drawn on the CPU, so that they do not depend on the device. Which images get the same parameters is the caller's business.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def mirror(images: Tensor, flipped: Tensor) -> Tensor:
    """Images with those that are `flipped`, (N,) bool, turned left to right."""
    return torch.where(flipped.to(images.device)[:, None, None, None], images.flip(3), images)


@dataclass(frozen=True)
class Augmentation:
    """Parameters of DiffAugment for N images: colour, then translation, then cutout.

    brightness    (N,) float32, added; drawn from [-0.5, 0.5)
    saturation    (N,) float32, factor of the distance from a pixel's mean over channels; from [0, 2)
    contrast      (N,) float32, factor of the distance from an image's mean; from [0.5, 1.5)
    shift         (N, 2) int64, pixels down and right; what moves in is 0; up to an eighth of the size either way
    repeats_edge  whether the edge moves in instead: grey beside a white picture would itself be a shape
    hole          (N, 2) int64, first row and column of a square of half the size that is set to 0; may lie partly outside

    Source: Zhao et al. 2020, Differentiable augmentation for data-efficient GAN training, section 3.2.
    """

    brightness: Tensor
    saturation: Tensor
    contrast: Tensor
    shift: Tensor
    hole: Tensor
    repeats_edge: bool = False

    @classmethod
    def draw(
        cls, count: int, size: int, generator: torch.Generator, colour: float = 1.0, repeats_edge: bool = False
    ) -> "Augmentation":
        """Parameters for `count` images of `size` pixels; generator: one of the CPU; colour: how much of its changes."""
        brightness, saturation, contrast = 0.5 + colour * (torch.rand(3, count, generator=generator) - 0.5)
        reach, side = (size + 4) // 8, _side(size)  # rounded, halves up
        shift = torch.randint(-reach, reach + 1, (count, 2), generator=generator)
        centre = torch.randint(0, size + (side + 1) % 2, (count, 2), generator=generator)
        return cls(brightness - 0.5, saturation * 2, contrast + 0.5, shift, centre - side // 2, repeats_edge)

    def then(self, other: "Augmentation") -> "Augmentation":
        """Parameters for these images, then for the other ones."""
        pairs = zip(self._parameters(), other._parameters(), strict=True)
        return self._with([torch.cat(pair) for pair in pairs])

    def __len__(self) -> int:
        return len(self.brightness)

    def __getitem__(self, rows: slice | Tensor) -> "Augmentation":
        return self._with([each[rows] for each in self._parameters()])

    def __call__(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W), H = W. Returns as many, on their device."""
        assert len(images) == len(self), "parameters and images are one to one"
        return self._moved(self._coloured(images))

    def _coloured(self, images: Tensor) -> Tensor:
        brightness, saturation, contrast = (
            parameter.to(images)[:, None, None, None] for parameter in self._parameters()[:3]
        )
        images = images + brightness
        mean = images.mean(1, keepdim=True)
        images = images * saturation + mean * (1 - saturation)
        mean = images.mean((1, 2, 3), keepdim=True)
        return images * contrast + mean * (1 - contrast)

    def _moved(self, images: Tensor) -> Tensor:
        """Translated and cut out: each pixel is fetched from where it was, or is 0."""
        size = images.shape[-1]
        place = torch.arange(size, device=images.device)
        shift, hole = self.shift.to(images.device), self.hole.to(images.device)
        row, column = (place - by for by in shift[:, :, None].unbind(1))  # (N, H), (N, W): where it was
        in_row, in_column = ((was >= 0) & (was < size) for was in (row, column))
        cut_row, cut_column = ((place >= first) & (place < first + _side(size)) for first in hole[:, :, None].unbind(1))
        is_kept = ~_grid(cut_row, cut_column)
        if not self.repeats_edge:
            is_kept &= _grid(in_row, in_column)
        source = row.clamp(0, size - 1)[:, :, None] * size + column.clamp(0, size - 1)[:, None, :]
        index = source.flatten(1)[:, None].expand(-1, images.shape[1], -1)
        fetched = images.flatten(2).gather(2, index).view(images.shape)
        return fetched * is_kept[:, None]

    def _with(self, parameters: list[Tensor]) -> "Augmentation":
        brightness, saturation, contrast, shift, hole = parameters
        return Augmentation(brightness, saturation, contrast, shift, hole, self.repeats_edge)

    def _parameters(self) -> list[Tensor]:
        return [self.brightness, self.saturation, self.contrast, self.shift, self.hole]


def _side(size: int) -> int:
    """Of the hole in an image of `size` pixels."""
    return (size + 1) // 2


def _grid(rows: Tensor, columns: Tensor) -> Tensor:
    """rows: (N, H) bool. columns: (N, W) bool. Returns (N, H, W): where both hold."""
    return rows[:, :, None] & columns[:, None, :]
