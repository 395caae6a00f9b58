"""What learns: the networks, their averages and optimisers, and what one step does to them.

    Batch, Phase -> forward -> D step -> E and G step -> average -> losses

First phase: E and G by the likelihood, as a VAE. Second phase: G and D, where there is an E by the likelihood too; E and the
prior are final by then. A VAE has the first phase only, a GAN the second. Knows nothing of data sources, files or time.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from training import checkpoint
from training.batch import Batch
from training.errors import TrainingError
from training.model import Model, ModelFacts, average_into
from training.networks import Discriminator
from training.objective import (
    WEIGHTS,
    adaptive_weights,
    bernoulli_nll,
    discriminator_loss,
    gaussian_nll,
    generator_loss,
    gradient_penalties,
    kl_divergence,
    optimal_variance,
)
from training.parallel import World
from training.prior import MixturePrior
from training.schedule import Phase
from training.settings import TrainSettings

LIKELIHOOD_BETA1 = 0.9
"""Adam's beta1 of the first phase, which has no opponent."""

BETA2 = 0.99

ADVERSARIAL_SHARE = 3.0
"""In a hybrid: norm of a weight's adversarial gradient as a multiple of its reconstruction gradient's."""

Placed = TypeVar("Placed", bound=nn.Module)


class Learner:
    """The networks of one training while they learn.

    model, average   what is trained, and its exponential moving average, which is kept
    images           real images shown so far, repeats counted
    """

    def __init__(self, settings: TrainSettings, facts: ModelFacts, device: torch.device, world: World) -> None:
        self._settings = settings
        self._weights = WEIGHTS[settings.family]
        self._device = device
        self._world = world
        with torch.random.fork_rng(devices=[]):  # built from the run's seed; the process's own random state stays
            torch.manual_seed(settings.seed)
            self.model = _placed(Model(facts), device)
            self.discriminator = (
                _placed(Discriminator(facts.architecture), device) if self._weights.adversarial else None
            )
        self.average = deepcopy(self.model).eval().requires_grad_(False)
        self.images = 0
        beta1 = LIKELIHOOD_BETA1 if self.model.encoder else settings.beta1
        self._g_optimiser = self._adam(list(self.model.parameters()), beta1)
        self._d_optimiser = (
            self._adam(list(self.discriminator.parameters()), settings.beta1) if self.discriminator else None
        )
        self._autocast = _is_bf16(settings, device)

    def settle(self, prior: MixturePrior | None) -> None:
        """Begin a hybrid's second phase: the averages take the networks' place, E and `prior` are final."""
        self.model.load_state_dict(self.average.state_dict())
        self.model.prior = prior
        self.average.prior = deepcopy(prior)
        assert self.model.encoder is not None, "only an autoencoder has a first phase"
        self.model.encoder.requires_grad_(False)
        self._g_optimiser = self._adam(list(self.model.generator.parameters()), self._settings.beta1)

    def learn(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """One step. Returns the losses by name, scalars on the device."""
        for optimiser in filter(None, (self._g_optimiser, self._d_optimiser)):
            optimiser.param_groups[0]["lr"] = self._settings.learning_rate * phase.rate
        losses = self._compete(batch, phase) if phase.is_adversarial else self._fit(batch, phase)
        self.images += self._settings.batch
        half_life = min(self._settings.ema_images, max(1.0, self.images / 20))  # Karras et al. 2020, EMA ramp-up
        average_into(self.average, self.model, decay=0.5 ** (self._settings.batch / half_life))
        return {name: loss.detach() for name, loss in losses.items()}  # whoever keeps losses keeps no activations

    def _fit(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """E and G by the evidence lower bound."""
        assert self.model.encoder is not None, "a GAN has no first phase"
        with self._precision():
            mean, log_variance = self.model.encoder(batch.real, batch.label)
            latents = mean.float() + batch.posterior_noise * (0.5 * log_variance.float()).exp()
            decoded = self._decode(latents, batch.label)
        losses = {
            "reconstruction": self._nll(batch.real, decoded.float()),
            "kl": kl_divergence(mean.float(), log_variance.float()).mean(),
        }
        loss = self._weights.reconstruction * losses["reconstruction"] + self._weights.kl * phase.kl * losses["kl"]
        self._g_optimiser.zero_grad()
        torch.autograd.backward(loss)
        self._step(self._g_optimiser)
        return losses

    def _compete(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """D, then G: samples of the prior beside, in a hybrid, reconstructions in every other row."""
        assert self.discriminator is not None, "a VAE has no second phase"
        assert self._d_optimiser is not None, "D has an optimiser"
        settings, losses = self._settings, dict[str, Tensor]()
        weights = list(self.model.generator.parameters())

        # Forward: one pass of G draws what D is shown.
        latents = self._latents(batch)
        with self._precision():
            decoded = self._decode(latents, batch.label)
        fake = self._pixels(decoded)
        shown = fake if batch.fake_augmentation is None else batch.fake_augmentation(fake)
        real = batch.real if batch.real_augmentation is None else batch.real_augmentation(batch.real)

        # Discriminator, with R1 and R2 at every step.
        both = torch.cat([real, shown.detach()]).requires_grad_()
        with self._precision():
            if self.model.architecture.normalised:  # real and generated images in batches of their own, as in DCGAN
                logits = torch.cat([self.discriminator(half, batch.label).float() for half in both.chunk(2)])
            else:
                logits = self.discriminator(both, None if batch.label is None else batch.label.repeat(2)).float()
        losses["d_adversarial"] = discriminator_loss(settings.adversarial, *logits.chunk(2))
        loss = losses["d_adversarial"]
        if settings.adversarial == "relativistic":
            losses["r1"], losses["r2"] = gradient_penalties(both, logits)
            loss = loss + phase.between(settings.gamma, settings.final_gamma) * (losses["r1"] + losses["r2"])
        self._d_optimiser.zero_grad()
        torch.autograd.backward(loss)
        self._step(self._d_optimiser)

        # Generator: the adversarial gradient joins the reconstruction's, weight by weight.
        with self._precision():
            with torch.no_grad():
                real_logits = self.discriminator(real, batch.label).float()
            fake_logits = self.discriminator(shown, batch.label).float()
        losses["g_adversarial"] = generator_loss(settings.adversarial, real_logits, fake_logits)
        gradients = torch.autograd.grad(
            self._weights.adversarial * losses["g_adversarial"], weights, retain_graph=self.model.encoder is not None
        )
        self._world.average_(gradients)
        if self.model.encoder:
            losses["reconstruction"] = loss = self._nll(batch.real[::2], decoded[::2].float())
            if settings.perceptual:
                with self._precision():
                    losses["perceptual"] = self.discriminator.distance(batch.real[::2], fake[::2])
                loss = loss + settings.perceptual * losses["perceptual"]
            rebuilding = torch.autograd.grad(self._weights.reconstruction * loss, weights)
            self._world.average_(rebuilding)
            factors = adaptive_weights(rebuilding, gradients)
            losses["adversarial_weight"] = factors.mean()
            pulled = torch._foreach_mul(gradients, list((ADVERSARIAL_SHARE * factors).unbind()))
            gradients = torch._foreach_add(rebuilding, pulled)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = _laid_out(gradient, weight)
        self._g_optimiser.step()
        return losses

    @torch.no_grad()
    def _latents(self, batch: Batch) -> Tensor:
        """Samples of the prior; in a hybrid every other row is a draw from q(z|x) of its final E."""
        latents = self.model.latent(batch.prior_noise)
        if self.model.encoder:
            with self._precision():
                label = None if batch.label is None else batch.label[::2]
                mean, log_variance = self.model.encoder(batch.real[::2], label)
            latents = latents.clone()  # a prior that is N(0, I) gives the noise itself
            latents[::2] = mean.float() + batch.posterior_noise[::2] * (0.5 * log_variance.float()).exp()
        return latents

    def _decode(self, latents: Tensor, label: Tensor | None) -> Tensor:
        """Images, or by a Bernoulli likelihood log-odds."""
        decode = self.model.generator.logits if self._settings.likelihood == "bernoulli" else self.model.generator
        decoded: Tensor = decode(latents, label)
        return decoded

    def _pixels(self, decoded: Tensor) -> Tensor:
        return torch.tanh(0.5 * decoded.float()) if self._settings.likelihood == "bernoulli" else decoded.float()

    def _nll(self, images: Tensor, decoded: Tensor) -> Tensor:
        """Mean over the batch, in nats."""
        if self._settings.likelihood == "bernoulli":
            return bernoulli_nll(images, decoded).mean()
        variance = self._world.mean(optimal_variance(images, decoded))
        self.model.variance.copy_(variance)
        return gaussian_nll(images, decoded, variance).mean()

    def _step(self, optimiser: torch.optim.Optimizer) -> None:
        """Step by the mean of the processes' gradients."""
        weights = optimiser.param_groups[0]["params"]
        self._world.average_([weight.grad for weight in weights if weight.grad is not None])
        optimiser.step()

    def _adam(self, weights: list[nn.Parameter], beta1: float) -> torch.optim.Adam:
        return torch.optim.Adam(weights, lr=self._settings.learning_rate, betas=(beta1, BETA2), fused=True)

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that decides the steps to come, by name; what `load` takes."""
        return {"images": torch.tensor(self.images), **checkpoint.tensors(self._modules(), self._optimisers())}

    def load(self, state: Mapping[str, Tensor], is_settled: bool) -> None:
        """Continue where another learner's `state` was taken, in a hybrid's second phase if it `is_settled`.

        Raises: KeyError, RuntimeError, if the state is of other networks.
        """
        if is_settled and self.model.encoder:
            means = state.get("model/prior.means")
            self.settle(None if means is None else _placed(MixturePrior(means.shape[1], len(means)), self._device))
        self.images = int(state["images"])
        checkpoint.put_back(state, self._modules(), self._optimisers())

    def _modules(self) -> dict[str, nn.Module]:
        modules = {"model": self.model, "average": self.average, "discriminator": self.discriminator}
        return {name: module for name, module in modules.items() if module is not None}

    def _optimisers(self) -> dict[str, torch.optim.Adam]:
        optimisers = {"g_optimiser": self._g_optimiser, "d_optimiser": self._d_optimiser}
        return {name: optimiser for name, optimiser in optimisers.items() if optimiser is not None}


def _placed(module: Placed, device: torch.device) -> Placed:
    """On the device, convolution weights in NHWC order: on a CPU core a third faster in both directions."""
    placed: Placed = module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _laid_out(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient in its weight's order of memory: fused Adam takes both as rows of numbers and does not look."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)


def _is_bf16(settings: TrainSettings, device: torch.device) -> bool:
    """Raises: TrainingError, if bf16 was asked for where the device has none."""
    has_bf16 = device.type == "cpu" or torch.cuda.is_bf16_supported()
    if settings.precision == "bf16" and not has_bf16:
        raise TrainingError(
            f"precision: bf16 was asked for, but {torch.cuda.get_device_name(device)} has none; allowed: fp32"
        )
    return settings.precision == "bf16" or (settings.precision == "auto" and device.type == "cuda" and has_bf16)
