"""The graphs of a bundle: a trained model cut into its roles, and each of them as an ONNX file.

    generator  noise [, label]  -> images uint8 NHWC        prior    noise  -> latent
    decoder    latent [, label] -> images uint8 NHWC        encoder  images uint8 NHWC [, label] -> mean, log_variance

Scaling, rounding, clamping and layout are inside, so a quarter of the bytes of floats leave the device. The batch axis
is dynamic; each graph is one file. Knows torch and ONNX, nothing of bundles.
"""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from export.errors import ExportError
from training.model import Model

OPSET = 20


@dataclass(frozen=True)
class Role:
    """One role of a model: a module and the names of its inputs and outputs, in order."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the module itself, the reference for its graph."""
        with torch.inference_mode():
            values = self.module(*(inputs[name] for name in self.inputs))
        values = values if isinstance(values, tuple) else (values,)
        return dict(zip(self.outputs, values, strict=True))


def roles(model: Model) -> list[Role]:
    """The graphs that a bundle of `model` has; without a mixture prior the generator is the decoder too."""
    label = ("label",) if model.label_names else ()
    found = [Role("generator", _Drawing(model.prior, model.generator), ("noise", *label), ("images",))]
    if model.prior:
        found.append(Role("prior", model.prior, ("noise",), ("latent",)))
        found.append(Role("decoder", _Drawing(None, model.generator), ("latent", *label), ("images",)))
    if model.encoder:
        found.append(Role("encoder", _Reading(model.encoder), ("images", *label), ("mean", "log_variance")))
    return found


def write_graph(role: Role, example: dict[str, Tensor], path: Path) -> None:
    """Write `role` as one ONNX file with a dynamic batch axis, checked in full by onnx.

    example: inputs of the role, of at least two images, by name.

    Raises: ExportError, if torch cannot express the module.
    """
    batch = torch.export.Dim("N", min=1)
    arguments = tuple(example[name] for name in role.inputs)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                role.module,
                arguments,
                path,
                input_names=list(role.inputs),
                output_names=list(role.outputs),
                dynamic_shapes=tuple({0: batch} for _ in role.inputs),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        onnx.checker.check_model(path, full_check=True)
    except (torch.onnx.errors.OnnxExporterError, onnx.checker.ValidationError) as error:
        raise ExportError(f"{role.name}: torch.onnx.export failed: {error}") from error


class _Drawing(nn.Module):
    """latent or noise [, label] -> images (N, H, W, C) uint8, rounded half to even."""

    def __init__(self, prior: nn.Module | None, generator: nn.Module) -> None:
        super().__init__()
        self.prior = prior
        self.generator = generator

    def forward(self, source: Tensor, label: Tensor | None = None) -> Tensor:
        latent = self.prior(source) if self.prior else source
        pixels: Tensor = self.generator(latent, label).mul(127.5).add(127.5).round().clamp(0, 255)
        return pixels.to(torch.uint8).permute(0, 2, 3, 1)


class _Reading(nn.Module):
    """images (N, H, W, C) uint8 [, label] -> mean, log_variance (N, Z) float32."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pixels = images.permute(0, 3, 1, 2).float().div(127.5).sub(1)
        mean, log_variance = self.encoder(pixels, label)
        return mean, log_variance
