"""A trained model: its networks, its prior and what is true of it; saved as weights.safetensors and model.json.

Knows how its parts fit together, nothing of how they were trained or will be served.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.architecture import Architecture, is_supported_size
from training.errors import RunFolderError
from training.families import FamilyName, family
from training.likelihood import LIKELIHOODS
from training.networks import Encoder, Generator
from training.prior import MixturePrior
from training.settings import Likelihood

FORMAT = 2
"""Version of model.json; raised when a reader of the old form would misread the new one."""

MAX_BLOCKS = 1000
"""More are no network, but a number that was changed by hand."""


@dataclass(frozen=True)
class ModelFacts:
    """What a reader must know to rebuild the networks and to name their classes."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    family: FamilyName
    architecture: Architecture
    label_names: list[str]
    """Names of the classes of a conditional model; empty = unconditional."""
    prior_components: int
    """Components of the mixture prior; 0 = the prior is N(0, I)."""
    likelihood: Likelihood = "gaussian"
    """Of pixels given a latent; without meaning where there is no encoder."""


_FACTS = TypeAdapter(ModelFacts)


class Model(nn.Module):
    """Encoder (in some families), generator, and prior (none: the latent is the noise).

    variance: of pixels given a latent, a scalar; 1 where the likelihood is not Gaussian.
    """

    variance: Tensor

    def __init__(self, facts: ModelFacts) -> None:
        super().__init__()
        self.family = facts.family
        self.architecture = facts.architecture
        self.label_names = facts.label_names
        self.likelihood = facts.likelihood
        self.encoder = Encoder(facts.architecture) if family(facts.family).has_encoder else None
        self.generator = Generator(facts.architecture)
        self.register_buffer("variance", torch.ones(()))
        self.prior: MixturePrior | None = None
        if facts.prior_components:
            self.prior = MixturePrior(facts.architecture.latent_dim, facts.prior_components)

    @property
    def facts(self) -> ModelFacts:
        """The record to rebuild this model from."""
        components = len(self.prior.means) if self.prior else 0
        return ModelFacts(self.family, self.architecture, self.label_names, components, self.likelihood)

    @property
    def noise_dim(self) -> int:
        """Entries of the noise that one image is drawn from: the latent's, and one for a mixture's component."""
        return self.architecture.latent_dim + (1 if self.prior else 0)

    def latent(self, noise: Tensor) -> Tensor:
        """noise: (N, noise_dim). Returns latents from the prior: (N, Z)."""
        return self.prior(noise) if self.prior else noise

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """noise: (N, noise_dim), label: (N,) if conditional. Returns images (N, C, H, W) around [-1, 1]."""
        image: Tensor = self.generator(self.latent(noise), label)
        return image

    def log_prior(self, latents: Tensor) -> Tensor:
        """latents: (..., Z). Returns log p(z) in nats: (...)."""
        if self.prior:
            return self.prior.log_prob(latents)
        return -0.5 * (latents.square() + math.log(2 * math.pi)).sum(-1)

    def log_likelihood(self, images: Tensor, latents: Tensor, label: Tensor | None = None) -> Tensor:
        """images: (N, C, H, W), latents: (N, K, Z), label: (N,) if conditional. Returns log p(x|z) in nats: (N, K)."""
        draws = latents.shape[1]
        every = None if label is None else label.repeat_interleave(draws)
        likelihood = LIKELIHOODS[self.likelihood]
        flat = likelihood.decode(self.generator, latents.flatten(0, 1), every)
        decoded = flat.view(len(images), draws, *flat.shape[1:])
        return -likelihood.nll(images[:, None], decoded, self.variance)

    def save(self, folder: Path) -> None:
        """Write weights.safetensors and model.json into `folder`."""
        weights = {name: weight.contiguous() for name, weight in self.state_dict().items()}
        save_file(weights, folder / "weights.safetensors")
        record = {"format": FORMAT, **asdict(self.facts)}
        temporary = folder / ".model.json.writing"
        temporary.write_text(json.dumps(record, indent=2) + "\n")
        temporary.replace(folder / "model.json")  # whoever sees it sees all of it, and the weights

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, ready to run.

        Raises: RunFolderError, if a file is missing or is not of this form.
        """
        for name in ("model.json", "weights.safetensors"):
            if not (folder / name).is_file():
                raise RunFolderError(f"{folder} is not a finished run: {name} is missing")
        try:
            record = json.loads((folder / "model.json").read_text())
            if not isinstance(record, dict) or "format" not in record:
                raise ValueError("model.json tells no format")
            if record.pop("format") != FORMAT:
                raise RunFolderError(f"{folder}/model.json: this Figment reads format {FORMAT} only")
            facts = _FACTS.validate_json(json.dumps(record))  # strict of JSON, where a record is an object
            if not is_supported_size(facts.architecture.size):
                raise ValueError(f"model.json: architecture.size: got {facts.architecture.size}")
            if len(facts.label_names) != facts.architecture.labels:
                raise ValueError(f"model.json: {len(facts.label_names)} names for {facts.architecture.labels} labels")
            blocks = facts.architecture.blocks
            if not 0 <= blocks <= MAX_BLOCKS:
                raise ValueError(f"model.json: architecture.blocks: got {blocks}, allowed are 0 to {MAX_BLOCKS}")
            weights = load_file(folder / "weights.safetensors")
            there = {name: tuple(weight.shape) for name, weight in weights.items()}
            with torch.device("meta"):  # Networks of the wrong sizes are known before they take memory.
                wanted = {name: tuple(weight.shape) for name, weight in cls(facts).state_dict().items()}
            for name in sorted(there.keys() | wanted.keys()):
                if there.get(name) != wanted.get(name):
                    problem = f"model.json wants {name} of shape {wanted.get(name, 'none')}"
                    raise ValueError(f"{problem}, weights.safetensors has {there.get(name, 'none')}")
            model = cls(facts)
            model.load_state_dict(weights)
        except ValidationError as error:
            wrong = error.errors()[0]
            where = ".".join(map(str, wrong["loc"]))
            raise RunFolderError(
                f"{folder} holds no model that can be read: model.json: {where}: {wrong['msg']}; another version of "
                "Figment wrote it, or it was changed by hand"
            ) from None
        # Sizes and numbers that fit their types may still be no network, or be one that no memory holds.
        except (OSError, MemoryError, ArithmeticError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise RunFolderError(f"{folder} holds no model that can be read: {str(error)[:300]}") from error
        return model.eval()


def ema_into(target: nn.Module, source: nn.Module, decay: float) -> None:
    """Exponential moving average: target = decay * target + (1 - decay) * source, weight by weight; buffers are copied."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1 - decay)
        for mean, buffer in zip(target.buffers(), source.buffers(), strict=True):
            mean.copy_(buffer)
