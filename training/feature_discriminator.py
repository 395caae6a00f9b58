"""D on frozen features: small heads judge what a network that ImageNet taught sees in a picture.

    images, changed at random -> frozen network -> maps -> mixed over channels and scales -> a head for each scale -> logits
    images as they are        -> patches of 22x22 pixels                                  -> a head of its own    -> logits
                              -> averages over 8x8 areas                                  -> a head of its own    -> logits

The network knows shapes from the first step on, so D needs few pictures; what it hardly sees, what lies between two of its
strides, such as a lattice, and colours, has heads that look at the pixels themselves.
The mixing is random and never learned, so that no head can look at the easiest features alone. Pixels are in [-1, 1].
Source: Projected GAN, Sauer et al. 2021, sec. 3; spectral norms by Miyato et al. 2018.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from evaluation.efficientnet import CHANNELS, STRIDES, EfficientNetLite0
from training.networks import SLOPE

RESOLUTIONS = (64, 128)
"""Pixels at which the network sees pictures: the smaller for those of up to as many."""

MIXED = (32, 64, 64, 64)
"""Channels of the maps after mixing over channels, the largest map first."""

HEAD = 64
"""Channels of a head."""

PIXEL_HEAD = (16, 32, 64)
"""Channels of the head on pixels, which halves the picture with each."""

THUMBNAIL = 8
"""Height and width that pictures are averaged to, for a head and a loss that look at colours."""


@dataclass(frozen=True)
class Sight:
    """What D sees of N pictures. maps: of the frozen network. mixed: what heads judge, and the pixels (N, C, H, W) themselves."""

    maps: list[Tensor]
    mixed: list[Tensor]
    pixels: Tensor

    def beside(self, other: "Sight") -> "Sight":
        """What is judged of these pictures, then of the others, without gradients."""
        mixed = [torch.cat(pair).detach() for pair in zip(self.mixed, other.mixed, strict=True)]
        return Sight([], mixed, torch.cat([self.pixels, other.pixels]).detach())


class FeatureDiscriminator(nn.Module):
    """network: frozen. heads: all that is learned, and the random mixing; no more of D need be saved."""

    def __init__(self, network: EfficientNetLite0, size: int, channels: int, labels: int) -> None:
        super().__init__()
        self.network = network
        self.resolution = next((each for each in RESOLUTIONS if size <= each), RESOLUTIONS[-1])
        self.heads = _Heads(self.resolution, channels, labels)

    def see(self, changed: Tensor, plain: Tensor) -> Sight:
        """changed, plain: (N, C, H, W) float32, the same pictures after and before augmentation."""
        if changed.shape[-1] != self.resolution:
            changed = functional.interpolate(changed, [self.resolution] * 2, mode="bilinear", antialias=False)
        maps = self.network.maps(changed.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
        return Sight(maps, self.heads.mixed(maps), plain)

    def judge(self, sight: Sight, label: Tensor | None = None) -> list[Tensor]:
        """label: (N,) int64, if conditional. Returns the logits of each head, high for real: (N, h, w)."""
        logits: list[Tensor] = self.heads(sight, label)
        return logits

    def forward(self, images: Tensor, label: Tensor | None = None) -> list[Tensor]:
        """images: (N, C, H, W) float32. Returns logits as `judge` does."""
        return self.judge(self.see(images, images), label)


class _Heads(nn.Module):
    def __init__(self, resolution: int, channels: int, labels: int) -> None:
        super().__init__()
        after = [MIXED[max(number - 1, 0)] for number in range(len(MIXED))]
        self.across_channels = nn.ModuleList(
            _Mixing(before, mixed, 1) for before, mixed in zip(CHANNELS, MIXED, strict=True)
        )
        self.across_scales = nn.ModuleList(
            _Mixing(before, mixed, 3) for before, mixed in zip(MIXED, after, strict=True)
        )
        sides = [resolution // stride for stride in STRIDES]
        self.scales = nn.ModuleList(_Head(mixed, side, labels) for mixed, side in zip(after, sides, strict=True))
        self.pixels = _PixelHead(channels, labels)
        self.colours = _Head(channels, THUMBNAIL, labels)

    def mixed(self, maps: list[Tensor]) -> list[Tensor]:
        """From coarse to fine, each with the coarser ones added: (N, C, h, w) each, the largest first."""
        found: list[Tensor] = []
        for number in reversed(range(len(maps))):
            x = self.across_channels[number](maps[number])
            if found:
                x = x + functional.interpolate(found[0], x.shape[2:], mode="bilinear", align_corners=False)
            found.insert(0, self.across_scales[number](x))
        return found

    def forward(self, sight: Sight, label: Tensor | None) -> list[Tensor]:
        judged = [head(mixed, label) for head, mixed in zip(self.scales, sight.mixed, strict=True)]
        colours = self.colours(functional.adaptive_avg_pool2d(sight.pixels, THUMBNAIL), label)
        return [*judged, self.pixels(sight.pixels, label), colours]


class _Head(nn.Module):
    """A map (N, C, h, w) -> logits (N, h', w'), each of a part of the picture."""

    def __init__(self, channels: int, side: int, labels: int) -> None:
        super().__init__()
        self.inp = spectral_norm(nn.Conv2d(channels, HEAD, 3, padding=1))
        halving = nn.Conv2d(HEAD, HEAD, 4, 2, 1) if side > 2 else nn.Conv2d(HEAD, HEAD, 1)
        self.hidden = spectral_norm(halving)
        self.out = _Logits(HEAD, labels)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        x = functional.leaky_relu(self.inp(x), SLOPE)
        logits: Tensor = self.out(functional.leaky_relu(self.hidden(x), SLOPE), label)
        return logits


class _PixelHead(nn.Module):
    """Pictures (N, C, H, W) -> logits (N, H / 8, W / 8), each of a patch (Isola et al. 2017)."""

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        pairs = zip((channels, *PIXEL_HEAD), PIXEL_HEAD, strict=False)
        self.halvings = nn.ModuleList(spectral_norm(nn.Conv2d(before, after, 4, 2, 1)) for before, after in pairs)
        self.out = _Logits(PIXEL_HEAD[-1], labels)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        for halving in self.halvings:
            x = functional.leaky_relu(halving(x), SLOPE)
        logits: Tensor = self.out(x, label)
        return logits


class _Logits(nn.Module):
    """A map (N, C, h, w) -> logits (N, h, w); with labels by projection (Miyato & Koyama 2018)."""

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.out = spectral_norm(nn.Conv2d(channels, 1, 1))
        self.project = spectral_norm(nn.Embedding(labels, channels)) if labels else None

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        logits: Tensor = self.out(x).squeeze(1)
        if self.project:
            logits = logits + torch.einsum("nchw,nc->nhw", x, self.project(label))
        return logits


class _Mixing(nn.Module):
    """A convolution whose weights are drawn once and never learned."""

    weight: Tensor

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__()
        weight = torch.empty(after, before, kernel, kernel)
        self.register_buffer(
            "weight", nn.init.kaiming_normal_(weight, nonlinearity="linear" if kernel == 1 else "relu")
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, padding="same")
