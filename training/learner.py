"""What learns: the networks, their averages and optimisers, and what one step does to them.

    Batch, Phase -> the family's step -> moving average -> losses

First phase: E and G by the likelihood. Second phase: G and D; if there was a first one, E and the prior are final by then.
For a finished G, E alone.
Knows nothing of what a family does in a step, of data sources, files or time.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from evaluation.efficientnet import EfficientNetLite0
from training import checkpoint
from training.adversarial import ADVERSARIAL
from training.architecture import Architecture
from training.batch import Batch
from training.code_prior import CodePrior, Mixture
from training.defaults import feature_weights
from training.errors import TrainingError
from training.families import family
from training.feature_discriminator import FeatureDiscriminator
from training.inversion import inversion_step
from training.likelihood import LIKELIHOODS, optimal_variance
from training.map_networks import CodeGenerator, MapDecoder
from training.model import Model, ModelFacts, ema_into
from training.networks import Discriminator
from training.parallel import World
from training.schedule import Phase
from training.settings import TrainSettings

LIKELIHOOD_BETA1 = 0.9
"""Adam's beta1 of the first phase, which has no opponent."""

BETA2 = 0.99

Placed = TypeVar("Placed", bound=nn.Module)


class Learner:
    """The networks of one training while they learn.

    model, ema   what is trained, and its exponential moving average, which is kept
    images       real images shown so far, repeats counted
    """

    def __init__(
        self,
        settings: TrainSettings,
        facts: ModelFacts,
        device: torch.device,
        world: World,
        colour: Tensor | None = None,
        generator: nn.Module | None = None,
    ) -> None:
        """colour: (C,) in [-1, 1], the mean of the images, which networks of maps begin with. generator: a finished one, for which
        an encoder is learned; it stays as it is.
        """
        self.settings = settings
        self.world = world
        self.family = family(settings.family)
        self.likelihood = LIKELIHOODS[settings.likelihood]
        self.adversarial = ADVERSARIAL[settings.adversarial]
        self._device = device
        with torch.random.fork_rng(devices=[]):  # built from the run's seed; the process's own random state stays
            torch.manual_seed(settings.seed)
            self.model = _placed(Model(facts), device)
            if colour is not None and isinstance(self.model.generator, MapDecoder | CodeGenerator):
                self.model.generator.begin_at(colour.to(device))
            if generator:
                self.model.generator.load_state_dict(generator.state_dict())
                self.model.generator.requires_grad_(False).eval()
            has_discriminator = self.family.has_discriminator and not generator
            self.discriminator = _placed(_discriminator(settings, facts), device) if has_discriminator else None
        self.ema = deepcopy(self.model).eval().requires_grad_(False)
        self.images = 0
        beta1 = LIKELIHOOD_BETA1 if self.model.encoder else settings.beta1
        self.g_optimiser = self._adam(_learned(self.model), beta1)
        self.d_optimiser = self._adam(_learned(self.discriminator), settings.beta1) if self.discriminator else None
        self._autocast = _is_bf16(settings, device)

    def freeze_encoder(self, mixture: Mixture | None) -> None:
        """Begin the second of two phases: the averages take the networks' place, E and `mixture` are final."""
        self.model.load_state_dict(self.ema.state_dict())
        self.model.set_mixture(mixture)
        self.ema.set_mixture(deepcopy(mixture))
        assert self.model.encoder is not None, "only an autoencoder has a first phase"
        drawing: list[nn.Module] = [self.model.generator]
        self.model.encoder.requires_grad_(False).eval()
        if isinstance(self.model.prior, CodePrior):
            self.model.prior.encoder.requires_grad_(False).eval()
            drawing.append(self.model.prior.decoder)
        self.g_optimiser = self._adam(
            [each for network in drawing for each in network.parameters()], self.settings.beta1
        )

    def learn(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """One step. Returns the losses by name, scalars on the device."""
        for optimiser in filter(None, (self.g_optimiser, self.d_optimiser)):
            optimiser.param_groups[0]["lr"] = self.settings.learning_rate * phase.rate
        losses = (inversion_step if self.model.is_inverted else self.family.step)(self, batch, phase)
        self.images += self.settings.batch
        half_life = min(self.settings.ema_images, max(1.0, self.images / 20))  # Karras et al. 2020, EMA ramp-up
        ema_into(self.ema, self.model, decay=0.5 ** (self.settings.batch / half_life))
        return {name: loss.detach() for name, loss in losses.items()}  # whoever keeps losses keeps no activations

    def decode(self, latents: Tensor, label: Tensor | None) -> Tensor:
        """What the likelihood is a function of: (N, C, H, W)."""
        return self.likelihood.decode(self.model.generator, latents, label)

    def nll(self, images: Tensor, decoded: Tensor, keeps_variance: bool = True) -> Tensor:
        """-log p(x|z), mean over the batch, in nats; a variance is the batch's best one, which the model keeps."""
        variance = self.model.variance
        if self.likelihood.has_variance:
            variance = self.world.mean(optimal_variance(images, decoded))
            if keeps_variance:
                self.model.variance.copy_(variance)
        return self.likelihood.nll(images, decoded, variance).mean()

    def descend(self, optimiser: torch.optim.Optimizer, loss: Tensor, most: float | None = None) -> None:
        """One step of an optimiser, by the mean of the processes' gradients; most: norm to which they are cut."""
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        weights = optimiser.param_groups[0]["params"]
        self.world.average_([weight.grad for weight in weights if weight.grad is not None])
        if most is not None:
            nn.utils.clip_grad_norm_(weights, most)
        optimiser.step()

    def precision(self) -> AbstractContextManager[object]:
        """In which the networks compute within the block."""
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast)

    def _adam(self, weights: list[nn.Parameter], beta1: float) -> torch.optim.Adam:
        return torch.optim.Adam(weights, lr=self.settings.learning_rate, betas=(beta1, BETA2), fused=True)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that decides the steps to come, by name; what `load` takes."""
        return {"images": torch.tensor(self.images), **checkpoint.tensors(self._modules(), self._optimisers())}

    def load(self, state: Mapping[str, Tensor], is_frozen: bool) -> None:
        """Continue where another learner's `state` was taken, in the second of two phases if E `is_frozen`.

        Raises: KeyError, RuntimeError, if the state is of other networks.
        """
        if is_frozen and self.model.encoder:
            mixture = self.model.mixture_like(checkpoint.part(state, "model"))
            self.freeze_encoder(mixture and _placed(mixture, self._device))
        self.images = int(state["images"])
        checkpoint.put_back(state, self._modules(), self._optimisers())

    def _modules(self) -> dict[str, nn.Module]:
        discriminator = self.discriminator
        learned = discriminator.heads if isinstance(discriminator, FeatureDiscriminator) else discriminator
        modules = {"model": self.model, "average": self.ema, "discriminator": learned}
        return {name: module for name, module in modules.items() if module is not None}

    def _optimisers(self) -> dict[str, torch.optim.Adam]:
        optimisers = {"g_optimiser": self.g_optimiser, "d_optimiser": self.d_optimiser}
        return {name: optimiser for name, optimiser in optimisers.items() if optimiser is not None}


def _discriminator(settings: TrainSettings, facts: ModelFacts) -> Discriminator | FeatureDiscriminator:
    """Raises: TrainingError, if it wants a pretrained network that cannot be read."""
    shape = facts.architecture
    if isinstance(shape, Architecture):
        return Discriminator(shape)
    try:
        seeing = EfficientNetLite0(feature_weights(settings))  # of its own, as it goes to the device
        return FeatureDiscriminator(seeing, shape.size, shape.channels, shape.labels)
    except ValueError as error:
        raise TrainingError(str(error)) from error


def _learned(module: nn.Module) -> list[nn.Parameter]:
    return [each for each in module.parameters() if each.requires_grad]


def _placed(module: Placed, device: torch.device) -> Placed:
    """On the device, convolution weights in NHWC order: on a CPU core a third faster in both directions."""
    placed: Placed = module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _is_bf16(settings: TrainSettings, device: torch.device) -> bool:
    """Raises: TrainingError, if bf16 was asked for where the device has none."""
    has_bf16 = device.type == "cpu" or torch.cuda.is_bf16_supported()
    if settings.precision == "bf16" and not has_bf16:
        raise TrainingError(
            f"precision: bf16 was asked for, but {torch.cuda.get_device_name(device)} has none; allowed: fp32"
        )
    return settings.precision == "bf16" or (settings.precision == "auto" and device.type == "cuda" and has_bf16)
