"""The graphs of a bundle: a trained model cut into its roles, and each of them as ONNX.

    generator  noise [, label]  -> images uint8 NHWC        prior    noise [, label] -> latent
    decoder    latent [, label] -> images uint8 NHWC        encoder  images uint8 NHWC [, label] -> mean, log_variance

Labels belong to the networks where latents are vectors, to the prior where they are maps.
Where there is a prior, the generator is the decoder's graph after the prior's, so both give the same bytes. The batch
axis is dynamic. Knows torch and ONNX, nothing of bundles.
"""

import logging
import warnings
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from export.errors import ExportError
from export.pixels import IMAGES, Pixels, append_bytes
from export.sessions import Arrays
from training.code_prior import CodePrior
from training.model import Model

OPSET = 20
BATCH = "N"
"""Name of the batch axis."""


@dataclass(frozen=True)
class Role:
    """One role of a model: a module and the names of its inputs and outputs, in order.

    A role that draws has the output "images", and its module gives them as `pixels` says.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    pixels: Pixels | None = None

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run the module itself, the reference for its graph: images as unrounded grey levels (N, H, W, C) float32."""
        with torch.inference_mode():
            values = self.module(*(torch.from_numpy(inputs[name]) for name in self.inputs))
        values = values if isinstance(values, tuple) else (values,)
        arrays = {name: value.numpy() for name, value in zip(self.outputs, values, strict=True)}
        if self.pixels:
            arrays[IMAGES] = self.pixels.grey_levels(arrays[IMAGES])
        return arrays

    def in_float64(self, inputs: Arrays) -> Arrays:
        """As a call, but computed and given in float64: what float32 loses is the distance between the two."""
        exact = replace(self, module=deepcopy(self.module).double())
        return exact({name: _as_float64(array) for name, array in inputs.items()})


def _as_float64(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def roles(model: Model) -> list[Role]:
    """The roles that a bundle of `model` has; without a mixture prior the generator is the decoder too."""
    label = ("label",) if model.label_names else ()
    pixels = Pixels()
    cut = [Role("generator", _Sampler(model), ("noise", *label), (IMAGES,), pixels)]
    of_prior: tuple[str, ...] = ()
    if isinstance(model.prior, CodePrior):
        of_prior, label = label, ()
    if model.prior:
        cut.append(Role("prior", model.prior, ("noise", *of_prior), ("latent",)))
        cut.append(Role("decoder", model.generator, ("latent", *label), (IMAGES,), pixels))
    if model.encoder:
        cut.append(Role("encoder", _ImageEncoder(model.encoder), (IMAGES, *label), ("mean", "log_variance")))
    return cut


def to_onnx(role: Role, example: dict[str, Tensor]) -> ir.Model:
    """`role` as torch exports it, with a dynamic batch axis, images as uint8 NHWC.

    example: inputs of the role, of at least two images, by name.

    Raises: ExportError, if torch cannot express the module.
    """
    batch = torch.export.Dim(BATCH, min=1)
    arguments = tuple(example[name] for name in role.inputs)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                role.module,
                arguments,
                input_names=list(role.inputs),
                output_names=list(role.outputs),
                dynamic_shapes=tuple({0: batch} for _ in role.inputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"{role.name}: torch.onnx.export failed: {error}") from error
    assert program is not None, "the dynamo exporter gives a program where it was given no path"
    model = program.model
    ClearMetadataAndDocStringPass()(model)  # which tell paths of this machine
    if role.pixels:
        append_bytes(model, role.pixels)
    return model


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """`model` as one message that onnx's full check has passed.

    Raises: ExportError, if it has not.
    """
    try:
        proto = ir.serde.serialize_model(model)
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ir.serde.SerdeError) as error:
        raise ExportError(f"the graph is not valid ONNX: {str(error)[:500]}") from error
    return proto


class _Sampler(nn.Module):
    """The generator role: noise [, label] -> pixels (N, C, H, W) float32."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        return self.model.generate(noise, label)


class _ImageEncoder(nn.Module):
    """images (N, H, W, C) uint8 [, label] -> mean, log_variance (N, Z) float32."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pixels = images.permute(0, 3, 1, 2).float().div(127.5).sub(1)
        mean, log_variance = self.encoder(pixels, label)
        return mean, log_variance


def compose(prior: onnx.ModelProto, decoder: onnx.ModelProto) -> onnx.ModelProto:
    """The decoder after the prior as one graph: noise [, label] -> images.

    Raises: ExportError, if the two do not fit together.
    """
    inner = onnx.compose.add_prefix(prior, "prior/", rename_inputs=False, rename_outputs=False)
    try:
        return onnx.compose.merge_models(inner, decoder, io_map=[("latent", "latent")])
    except ValueError as error:
        raise ExportError(f"generator.onnx: decoder.onnx cannot follow prior.onnx: {error}") from error
