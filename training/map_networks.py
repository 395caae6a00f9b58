"""Networks of colour pictures, whose latent is a map: the decoder has two entries, a picture's own map and a code's.

    image (N, C, H, W) -> MapEncoder -> mean, log-variance of a map (N, Z) -> MapDecoder -> image
    map (N, Z) -> CodeEncoder -> mean, log-variance of a code (N, K)       code (N, K) -> CodeDecoder -> map

A map keeps places, so that reconstructions can be sharp; a code of a few entries tells what the picture is of, and a prior
over codes is easily fitted. Together they are a VAE of two stages (Dai & Wipf 2019), with D as judge of both entries.
Doublings are nearest neighbours with a 3x3 convolution, whose outputs lie evenly: a transposed kernel that does not divide
evenly would draw a lattice. Batch norms are over a batch in training and constants afterwards, which export folds.
Pixels are in [-1, 1]. Knows nothing of losses, data or export.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

import evaluation.first_calls  # noqa: F401
from training.architecture import MapArchitecture
from training.networks import SLOPE

HIDDEN = 256
"""Width of the fully connected layers beside a code."""

CODE_WIDENING = 8
"""Channels of the smallest map that a code becomes, by the width at full size."""

LEVELS = (1, 2, 5, 12)
"""Channels of the decoder from full size down to the map, by the width at full size: where pixels are few, channels cost
little, and it is there that shapes are decided."""

LOG_VARIANCE = (-10.0, 4.0)
"""Bounds of a posterior's: beyond them its exponential is no number that teaches anything."""


class MapEncoder(nn.Module):
    """E: image -> mean and log-variance of q(s|x), a Gaussian with diagonal covariance; s is a map, flat."""

    def __init__(self, shape: MapArchitecture) -> None:
        super().__init__()
        width = 2 * shape.width
        layers: list[nn.Module] = [nn.PixelUnshuffle(2), _convolution(4 * shape.channels, width, 3, 1)]
        for _ in range(shape.halvings - 1):
            layers.append(_convolution(width, 2 * width, 4, 2))
            width *= 2
        self.trunk = nn.Sequential(*layers, _convolution(width, width, 3, 1))
        self.out = nn.Conv2d(width, 2 * shape.map_channels, 3, padding=1)

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """image: (N, C, H, W) float32. Returns mean, log-variance: (N, Z) float32 each."""
        mean, log_variance = self.out(self.trunk(image)).chunk(2, dim=1)
        return mean.flatten(1), log_variance.flatten(1).clamp(*LOG_VARIANCE)


class MapDecoder(nn.Module):
    """Map -> image."""

    def __init__(self, shape: MapArchitecture) -> None:
        super().__init__()
        self._map = shape.map_shape
        widths = [shape.width * level for level in reversed(LEVELS[: shape.halvings + 1])]
        levels: list[nn.Module] = [
            _convolution(shape.map_channels, widths[0], 3, 1),
            _convolution(widths[0], widths[0], 3, 1),
        ]
        for before, after in pairwise(widths):
            levels += [_Doubling(before, after), _convolution(after, after, 3, 1)]
        self.levels = nn.Sequential(*levels)
        self.out = nn.Conv2d(widths[-1], shape.channels, 3, padding=1)
        with torch.no_grad():
            self.out.weight *= 0.5

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """latent: (N, Z) float32. Returns images (N, C, H, W) float32 in [-1, 1]."""
        x = latent.view(-1, *self._map).contiguous(memory_format=torch.channels_last)
        return torch.tanh(self.out(self.levels(x)))

    @torch.no_grad()
    def begin_at(self, colour: Tensor) -> None:
        """Draw all pictures around `colour`, (C,) in [-1, 1], such as the mean of the data's."""
        assert self.out.bias is not None, "it has one"
        self.out.bias.copy_(torch.atanh(colour.clamp(-0.95, 0.95)))


class CodeEncoder(nn.Module):
    """Map -> mean and log-variance of q(k|s)."""

    def __init__(self, shape: MapArchitecture) -> None:
        super().__init__()
        self._map = shape.map_shape
        width = 8 * shape.width
        self.trunk = nn.Sequential(
            _convolution(shape.map_channels, width, 3, 1), _convolution(width, 2 * width, 3, 2), nn.Flatten()
        )
        side = -(-shape.map_size // 2)
        self.hidden = nn.Linear(2 * width * side**2, HIDDEN)
        self.out = nn.Linear(HIDDEN, 2 * shape.code_dim)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """latent: (N, Z). Returns mean, log-variance: (N, K) each."""
        x = latent.view(-1, *self._map).contiguous(memory_format=torch.channels_last)
        x = functional.leaky_relu(self.hidden(self.trunk(x)), SLOPE)
        mean, log_variance = self.out(x).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE)


class CodeDecoder(nn.Module):
    """Code [, label] -> map, which the decoder draws."""

    def __init__(self, shape: MapArchitecture) -> None:
        super().__init__()
        doublings = 0
        while shape.map_size % 2 == 0 and shape.map_size >> doublings > 4:
            doublings += 1
        self._start = (CODE_WIDENING * shape.width, shape.map_size >> doublings, shape.map_size >> doublings)
        width, side, _ = self._start
        self.hidden = nn.Sequential(
            nn.Linear(shape.code_dim, HIDDEN), nn.LeakyReLU(SLOPE), nn.Linear(HIDDEN, HIDDEN), nn.LeakyReLU(SLOPE)
        )
        self.label = nn.Embedding(shape.labels, HIDDEN) if shape.labels else None
        self.inp = nn.Linear(HIDDEN, width * side**2, bias=False)
        self.start = nn.Sequential(nn.BatchNorm2d(width), nn.LeakyReLU(SLOPE))
        levels: list[nn.Module] = []
        narrow = 6 * shape.width
        for _ in range(doublings):
            levels += [_Doubling(width, narrow), _convolution(narrow, narrow, 3, 1)]
            width = narrow
        self.levels = nn.Sequential(*levels)
        self.out = nn.Conv2d(width, shape.map_channels, 3, padding=1)

    def forward(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """code: (N, K) float32, label: (N,) int64, if conditional. Returns latents: (N, Z) float32."""
        x = self.hidden[0](code) if self.label is None else self.hidden[0](code) + self.label(label)
        x = self.inp(self.hidden[1:](x)).view(-1, *self._start).contiguous(memory_format=torch.channels_last)
        latent: Tensor = self.out(self.levels(self.start(x))).flatten(1)
        return latent


class CodeGenerator(nn.Module):
    """Code -> image: the generator of a GAN, whose latent is the code."""

    def __init__(self, shape: MapArchitecture) -> None:
        super().__init__()
        self.code_decoder = CodeDecoder(shape)
        self.decoder = MapDecoder(shape)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """latent: (N, K) float32, label: (N,) int64, if conditional. Returns images (N, C, H, W) float32 in [-1, 1]."""
        image: Tensor = self.decoder(self.code_decoder(latent, label))
        return image

    def begin_at(self, colour: Tensor) -> None:
        """As the decoder's."""
        self.decoder.begin_at(colour)


class ImageCodeEncoder(nn.Module):
    """Image -> mean and log-variance of q(k|x): what inverts a CodeGenerator."""

    def __init__(self, shape: MapArchitecture) -> None:
        super().__init__()
        self.embed = nn.Embedding(shape.labels, shape.code_dim) if shape.labels else None
        self.encoder = MapEncoder(shape)
        self.code_encoder = CodeEncoder(shape)

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """image: (N, C, H, W) float32, label: (N,) int64, if conditional. Returns mean, log-variance: (N, K) float32 each."""
        latent, _ = self.encoder(image)
        mean, log_variance = self.code_encoder(latent)
        if self.embed:
            mean = mean - self.embed(label)
        return mean, log_variance


class _Doubling(nn.Module):
    """Nearest neighbours, then a 3x3 convolution, as the transposed convolution of 4x4 that is the same: 4 taps, not 9."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(before, after, 3, 3))
        nn.init.normal_(self.weight, std=(2 / (1 + SLOPE**2) / (9 * before)) ** 0.5)
        self.norm = nn.BatchNorm2d(after)

    @property
    def kernel(self) -> Tensor:
        """(before, after, 4, 4): what a pixel adds to the 4x4 around its copies."""
        padded = functional.pad(self.weight, (1, 1, 1, 1))
        rows = padded[..., 1:, :] + padded[..., :-1, :]
        return (rows[..., 1:] + rows[..., :-1]).contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        doubled = functional.conv_transpose2d(x, self.kernel, stride=2, padding=1)
        return functional.leaky_relu(self.norm(doubled), SLOPE)


def _convolution(before: int, after: int, kernel: int, stride: int) -> nn.Sequential:
    layer = nn.Conv2d(before, after, kernel, stride, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(after), nn.LeakyReLU(SLOPE))
