"""A trained model: its networks, its prior and what is true of it; saved as weights.safetensors and model.json.

Knows how its parts fit together, nothing of how they were trained or will be served.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.architecture import Architecture, MapArchitecture, is_supported_size
from training.code_prior import CodePrior, Mixture
from training.errors import RunFolderError
from training.families import FamilyName, family
from training.likelihood import LIKELIHOODS
from training.map_networks import CodeGenerator, ImageCodeEncoder, MapDecoder, MapEncoder
from training.networks import Encoder, Generator
from training.prior import LabelledMixturePrior, MixturePrior
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
    architecture: Architecture | MapArchitecture
    label_names: list[str]
    """Names of the classes of a conditional model; empty = unconditional."""
    prior_components: int
    """Components of the mixture prior; 0 = the prior is N(0, I)."""
    likelihood: Likelihood = "gaussian"
    """Of pixels given a latent; without meaning where there is no encoder."""
    inverse_psnr_db: float | None = None
    """Of a GAN with an encoder that was learned afterwards: of held-out images and their reconstructions, 0 until it is
    measured; None where there is no such encoder."""


_FACTS = TypeAdapter(ModelFacts)


class Model(nn.Module):
    """Encoder (in some families, or learned afterwards), generator, and prior (none: the latent is the noise).

    variance: of pixels given a latent, a scalar; 1 where the likelihood is not Gaussian.
    """

    variance: Tensor

    def __init__(self, facts: ModelFacts) -> None:
        super().__init__()
        self.family = facts.family
        self.architecture = facts.architecture
        self.label_names = facts.label_names
        self.likelihood = facts.likelihood
        self.inverse_psnr_db = facts.inverse_psnr_db
        shape, has_encoder = facts.architecture, family(facts.family).has_encoder
        self.encoder: Encoder | MapEncoder | ImageCodeEncoder | None = None
        self.generator: Generator | MapDecoder | CodeGenerator
        self.prior: MixturePrior | CodePrior | None = None
        if isinstance(shape, MapArchitecture):
            self.encoder = MapEncoder(shape) if has_encoder else ImageCodeEncoder(shape) if self.is_inverted else None
            self.generator = MapDecoder(shape) if has_encoder else CodeGenerator(shape)
            self.prior = CodePrior(shape) if has_encoder else None
        else:
            self.encoder = Encoder(shape) if has_encoder or self.is_inverted else None
            self.generator = Generator(shape)
        self.register_buffer("variance", torch.ones(()))
        if facts.prior_components:
            self.set_mixture(self.empty_mixture(facts.prior_components))

    @property
    def facts(self) -> ModelFacts:
        """The record to rebuild this model from."""
        components = self.mixture.components if self.mixture else 0
        return ModelFacts(
            self.family, self.architecture, self.label_names, components, self.likelihood, self.inverse_psnr_db
        )

    @property
    def is_inverted(self) -> bool:
        """Whether the encoder was learned when the generator was final, as its inverse: it is no part of a likelihood."""
        return self.inverse_psnr_db is not None

    @property
    def mixture(self) -> Mixture | None:
        """What noise goes through first: the prior itself, or that of codes; None where it is N(0, I)."""
        return self.prior.mixture if isinstance(self.prior, CodePrior) else self.prior

    def set_mixture(self, mixture: Mixture | None) -> None:
        """Have noise go through `mixture` first."""
        if isinstance(self.prior, CodePrior):
            self.prior.mixture = mixture
        else:
            assert not isinstance(mixture, LabelledMixturePrior), "vectors learn their labels in the networks"
            self.prior = mixture

    def empty_mixture(self, components: int) -> Mixture:
        """One to be filled, of this model's kind."""
        if isinstance(self.prior, CodePrior) and self.label_names:
            return LabelledMixturePrior(self.code_dim, components, len(self.label_names))
        return MixturePrior(self.code_dim, components)

    def mixture_like(self, weights: Mapping[str, Tensor]) -> Mixture | None:
        """One to be filled, as large as that of another model like this one, by its weights; None where it has none."""
        means = [each for name, each in weights.items() if name.startswith("prior.") and name.endswith(".means")]
        return self.empty_mixture(len(means[0])) if means else None

    @property
    def latent_dim(self) -> int:
        """Entries of a latent, from which the generator draws."""
        shape = self.architecture
        if isinstance(shape, MapArchitecture):
            return shape.code_dim if isinstance(self.generator, CodeGenerator) else shape.map_dim
        return shape.latent_dim

    @property
    def code_dim(self) -> int:
        """Entries of what the mixture is over: of a code, or of the latent itself. So many entries of the noise scale."""
        return self.architecture.code_dim if isinstance(self.architecture, MapArchitecture) else self.latent_dim

    @property
    def noise_dim(self) -> int:
        """Entries of the noise that one image is drawn from: of a latent or its code, and one for a mixture's component."""
        return self.code_dim + (1 if self.mixture else 0)

    def latent(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """noise: (N, noise_dim), label: (N,) if conditional. Returns latents from the prior: (N, Z)."""
        if isinstance(self.prior, CodePrior):
            latent: Tensor = self.prior(noise, label)
        else:
            latent = self.prior(noise) if self.prior else noise
        return latent

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """noise: (N, noise_dim), label: (N,) if conditional. Returns images (N, C, H, W) around [-1, 1]."""
        image: Tensor = self.generator(self.latent(noise, label), label)
        return image

    def log_prior(self, latents: Tensor) -> Tensor:
        """latents: (..., Z), vectors. Returns log p(z) in nats: (...)."""
        assert not isinstance(self.prior, CodePrior), "that of a map is no closed form"
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
            blocks = getattr(facts.architecture, "blocks", 0)
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
