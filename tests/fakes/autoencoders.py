"""Small autoencoders as other makers write and export them: with the tensors' names, shapes and axes of their files."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SIZE, CHANNELS = 32, 4


class Encoder(nn.Module):
    """images (N, 3, 32, 32) -> (N, out, 4, 4): three halvings, as the encoders of diffusion models have."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(8, 8, 3, 2, 1),
            nn.GroupNorm(2, 8),
            nn.SiLU(),
            nn.Conv2d(8, out, 3, 2, 1),
        )

    def forward(self, sample: Tensor) -> Tensor:
        latents: Tensor = self.layers(sample)
        return latents


class Decoder(nn.Module):
    """latents (N, 4, h, w) -> (N, 3, 8h, 8w), with no bound at its end; black and white are -1 and 1, or with `is_tiny` 0 and 1."""

    def __init__(self, is_tiny: bool = False) -> None:
        super().__init__()
        up: list[nn.Module] = []
        for channels in (CHANNELS, 8, 8):
            up += [nn.Conv2d(channels, 8, 3, 1, 1), nn.SiLU(), nn.Upsample(scale_factor=2)]
        self.layers = nn.Sequential(*up, nn.Conv2d(8, 3, 3, 1, 1))
        self.is_tiny = is_tiny

    def forward(self, latent_sample: Tensor) -> Tensor:
        pixels: Tensor = 4 * self.layers(torch.tanh(latent_sample / 3) * 3 if self.is_tiny else latent_sample)
        return pixels / 2 + 0.5 if self.is_tiny else pixels


class FlatEncoder(nn.Module):
    """Flat grey images (N, 784) -> mean and log variance (N, 6), as the VAEs of tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_variance = nn.Linear(784, 6), nn.Linear(784, 6)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_variance(images), self.mean(images)


class FlatDecoder(nn.Module):
    """(N, 6) -> flat images in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 784)

    def forward(self, latent: Tensor) -> Tensor:
        return torch.sigmoid(3 * self.layer(latent))


def saved(
    module: nn.Module, example: Tensor, path: Path, inputs: str, outputs: str, axes: tuple[int, ...] = (0,)
) -> Path:
    """As torch exports it; axes: those that are left open."""
    names = [*inputs.split(), *outputs.split()]
    open_axes = {name: {axis: f"{name}_{axis}" for axis in axes} for name in names}
    options: dict[str, Any] = {
        "input_names": inputs.split(),
        "output_names": outputs.split(),
        "dynamic_axes": open_axes,
    }
    path.parent.mkdir(exist_ok=True, parents=True)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(module.eval(), (example,), path, dynamo=False, opset_version=17, **options)
    return path


def kl_autoencoder(folder: Path, axes: tuple[int, ...] = (0, 1, 2, 3)) -> tuple[Encoder, Decoder]:
    """A KL autoencoder in vae_encoder/model.onnx and vae_decoder/model.onnx, as Optimum exports those of diffusers."""
    torch.manual_seed(0)
    encoder, decoder = Encoder(2 * CHANNELS), Decoder()
    image, latent = torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, CHANNELS, SIZE // 8, SIZE // 8)
    saved(encoder, image, folder / "vae_encoder" / "model.onnx", "sample", "latent_parameters", axes)
    saved(decoder, latent, folder / "vae_decoder" / "model.onnx", "latent_sample", "sample", axes)
    return encoder, decoder


def tiny_autoencoder(folder: Path) -> tuple[Encoder, Decoder]:
    """An autoencoder of TAESD's shape: it gives latents themselves, and its pixels are in 0..1."""
    torch.manual_seed(1)
    encoder, decoder = Encoder(CHANNELS), Decoder(is_tiny=True)
    image, latent = torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, CHANNELS, SIZE // 8, SIZE // 8)
    saved(encoder, image, folder / "encoder.onnx", "images", "latents")
    saved(decoder, latent, folder / "decoder.onnx", "latents", "images")
    return encoder, decoder


def applied(module: nn.Module, values: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        result: np.ndarray = module(torch.from_numpy(np.ascontiguousarray(values, np.float32))).numpy()
    return result
