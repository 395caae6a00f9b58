"""What `evaluation` scores: a trained network, or the graphs of a bundle.

    run folder -> Model -> TrainedModel        version folder -> onnxruntime -> ServedModel

What is served is what is scored: a bundle's images are those of its graphs, rounded and all.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor

from evaluation.features import to_pixels
from evaluation.likelihood import iwae_bound
from evaluation.model import Floats, Images, Labels
from export.pixels import IMAGES
from export.sessions import Arrays, run, session
from figment.v1.manifest_pb2 import Manifest
from training.code_prior import CodePrior
from training.data import pixels_to_bytes
from training.model import Model


class TrainedModel:
    """A model as it was trained, on the CPU; an EvaluatedModel."""

    def __init__(self, model: Model, name: str) -> None:
        self.name = name
        self.family: str = model.family
        self.noise_dim = model.noise_dim
        self.label_names = model.label_names
        self.has_encoder = model.encoder is not None
        self._model = model

    @torch.inference_mode()
    def latent(self, noise: Floats, labels: Labels) -> Floats:
        """noise: (N, noise_dim). Returns draws from the prior: (N, Z)."""
        latents: Floats = self._model.latent(torch.from_numpy(noise), _tensor(labels)).numpy()
        return latents

    @torch.inference_mode()
    def decode(self, latents: Floats, labels: Labels) -> Images:
        """latents: (N, Z). Returns images (N, H, W, C) uint8."""
        return pixels_to_bytes(self._model.generator(torch.from_numpy(latents), _tensor(labels)))

    @torch.inference_mode()
    def encode(self, images: Images, labels: Labels) -> tuple[Floats, Floats]:
        """Returns mean and log-variance of q(z|x): (N, Z) each."""
        assert self._model.encoder is not None, "called only where there is an encoder"
        mean, log_variance = self._model.encoder(to_pixels(images), _tensor(labels))
        return mean.numpy(), log_variance.numpy()

    def bound(self, images: Images, labels: Labels, draws: int, seed: int) -> npt.NDArray[np.float64] | None:
        """Nats (N,), of pixels in [-1, 1] where the likelihood is Gaussian; None where labels or maps stand in between, or E is
        of no likelihood.
        """
        encoder = self._model.encoder
        if encoder is None or self._model.is_inverted or labels is not None or isinstance(self._model.prior, CodePrior):
            return None
        return iwae_bound(encoder, self._model.log_likelihood, self._model.log_prior, to_pixels(images), draws, seed)


class ServedModel:
    """A bundle's fp32 graphs, on the CPU; an EvaluatedModel."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.name = f"{manifest.name}/{manifest.version}"
        self.family = manifest.family
        self.noise_dim = manifest.noise_dim
        self.label_names = list(manifest.labels)
        roles = {graph.role: file for file, graph in manifest.graphs.items() if graph.variant == "fp32"}
        self.has_encoder = "encoder" in roles
        self._sessions = {role: session(onnx.load(folder / file)) for role, file in roles.items()}

    def latent(self, noise: Floats, labels: Labels) -> Floats:
        """noise: (N, noise_dim). Returns draws from the prior: (N, Z); without a prior's graph the noise is the latent."""
        latents: Floats = self._run("prior", {"noise": noise}, labels)["latent"] if "prior" in self._sessions else noise
        return latents

    def decode(self, latents: Floats, labels: Labels) -> Images:
        """latents: (N, Z). Returns images (N, H, W, C) uint8."""
        role, name = ("decoder", "latent") if "decoder" in self._sessions else ("generator", "noise")
        images: Images = self._run(role, {name: latents}, labels)[IMAGES]
        return images

    def encode(self, images: Images, labels: Labels) -> tuple[Floats, Floats]:
        """Returns mean and log-variance of q(z|x): (N, Z) each."""
        posterior = self._run("encoder", {IMAGES: images}, labels)
        return posterior["mean"], posterior["log_variance"]

    def bound(self, images: Images, labels: Labels, draws: int, seed: int) -> None:
        """None: a bundle's graphs round to grey levels and know no likelihood."""

    def _run(self, role: str, inputs: Arrays, labels: Labels) -> Arrays:
        graph = self._sessions[role]
        takes_label = any(node.name == "label" for node in graph.get_inputs())
        return run(graph, inputs | ({"label": labels} if takes_label and labels is not None else {}))


def _tensor(labels: Labels) -> Tensor | None:
    return None if labels is None else torch.from_numpy(labels)
