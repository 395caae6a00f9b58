"""What learns: the networks, their averages and optimisers, and what one step does to them.

    Batch, Phase -> the family's step -> moving average -> losses

First phase: E and G by the likelihood. Second phase: G and D; if there was a first one, E and the prior are final by then.
Knows nothing of what a family does in a step, of data sources, files or time.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from training import checkpoint
from training.adversarial import ADVERSARIAL
from training.batch import Batch
from training.errors import TrainingError
from training.families import family
from training.likelihood import LIKELIHOODS, optimal_variance
from training.model import Model, ModelFacts, ema_into
from training.networks import Discriminator
from training.parallel import World
from training.prior import MixturePrior
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

    def __init__(self, settings: TrainSettings, facts: ModelFacts, device: torch.device, world: World) -> None:
        self.settings = settings
        self.world = world
        self.family = family(settings.family)
        self.likelihood = LIKELIHOODS[settings.likelihood]
        self.adversarial = ADVERSARIAL[settings.adversarial]
        self._device = device
        with torch.random.fork_rng(devices=[]):  # built from the run's seed; the process's own random state stays
            torch.manual_seed(settings.seed)
            self.model = _placed(Model(facts), device)
            has_discriminator = self.family.has_discriminator
            self.discriminator = _placed(Discriminator(facts.architecture), device) if has_discriminator else None
        self.ema = deepcopy(self.model).eval().requires_grad_(False)
        self.images = 0
        beta1 = LIKELIHOOD_BETA1 if self.model.encoder else settings.beta1
        self.g_optimiser = self._adam(list(self.model.parameters()), beta1)
        self.d_optimiser = (
            self._adam(list(self.discriminator.parameters()), settings.beta1) if self.discriminator else None
        )
        self._autocast = _is_bf16(settings, device)

    def freeze_encoder(self, prior: MixturePrior | None) -> None:
        """Begin the second of two phases: the averages take the networks' place, E and `prior` are final."""
        self.model.load_state_dict(self.ema.state_dict())
        self.model.prior = prior
        self.ema.prior = deepcopy(prior)
        assert self.model.encoder is not None, "only an autoencoder has a first phase"
        self.model.encoder.requires_grad_(False)
        self.g_optimiser = self._adam(list(self.model.generator.parameters()), self.settings.beta1)

    def learn(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """One step. Returns the losses by name, scalars on the device."""
        for optimiser in filter(None, (self.g_optimiser, self.d_optimiser)):
            optimiser.param_groups[0]["lr"] = self.settings.learning_rate * phase.rate
        losses = self.family.step(self, batch, phase)
        self.images += self.settings.batch
        half_life = min(self.settings.ema_images, max(1.0, self.images / 20))  # Karras et al. 2020, EMA ramp-up
        ema_into(self.ema, self.model, decay=0.5 ** (self.settings.batch / half_life))
        return {name: loss.detach() for name, loss in losses.items()}  # whoever keeps losses keeps no activations

    def decode(self, latents: Tensor, label: Tensor | None) -> Tensor:
        """What the likelihood is a function of: (N, C, H, W)."""
        return self.likelihood.decode(self.model.generator, latents, label)

    def nll(self, images: Tensor, decoded: Tensor) -> Tensor:
        """-log p(x|z), mean over the batch, in nats; a variance is the batch's best one, which the model keeps."""
        if self.likelihood.has_variance:
            self.model.variance.copy_(self.world.mean(optimal_variance(images, decoded)))
        return self.likelihood.nll(images, decoded, self.model.variance).mean()

    def descend(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        """One step of an optimiser, by the mean of the processes' gradients."""
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        weights = optimiser.param_groups[0]["params"]
        self.world.average_([weight.grad for weight in weights if weight.grad is not None])
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
            means = state.get("model/prior.means")
            self.freeze_encoder(
                None if means is None else _placed(MixturePrior(means.shape[1], len(means)), self._device)
            )
        self.images = int(state["images"])
        checkpoint.put_back(state, self._modules(), self._optimisers())

    def _modules(self) -> dict[str, nn.Module]:
        modules = {"model": self.model, "average": self.ema, "discriminator": self.discriminator}
        return {name: module for name, module in modules.items() if module is not None}

    def _optimisers(self) -> dict[str, torch.optim.Adam]:
        optimisers = {"g_optimiser": self.g_optimiser, "d_optimiser": self.d_optimiser}
        return {name: optimiser for name, optimiser in optimisers.items() if optimiser is not None}


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
