"""GAN: D tells real images from samples of the prior, G learns from D."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from training.batch import Batch
from training.families.base import Family, Weights
from training.objective import gradient_penalties
from training.schedule import Phase

if TYPE_CHECKING:
    from training.learner import Learner

Gradients = tuple[Tensor, ...]
Losses = dict[str, Tensor]


class Drawn(NamedTuple):
    """What G drew in a step: as decoded and as images, (N, C, H, W), and the adversarial gradients of its weights."""

    decoded: Tensor
    images: Tensor
    gradients: Gradients


class Opponents:
    """A step of D, then of G; a family that shows D something else, or has G learn from more, overrides the hooks."""

    def __call__(self, learner: "Learner", batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """D, then G."""
        discriminator, settings, losses = learner.discriminator, learner.settings, dict[str, Tensor]()
        assert discriminator is not None, "there is a D"
        assert learner.d_optimiser is not None, "D has an optimiser"
        weights = list(learner.model.generator.parameters())

        # Forward: one pass of G draws what D is shown.
        latents = self.latents(learner, batch)
        with learner.precision():
            decoded = learner.decode(latents, batch.label)
        fake = learner.likelihood.pixels(decoded)
        shown = fake if batch.fake_augmentation is None else batch.fake_augmentation(fake)
        real = batch.real if batch.real_augmentation is None else batch.real_augmentation(batch.real)

        # Discriminator, with R1 and R2 at every step.
        both = torch.cat([real, shown.detach()]).requires_grad_()
        with learner.precision():
            if learner.adversarial.is_normalised:  # real and generated in batches of their own, as in DCGAN
                logits = torch.cat([discriminator(half, batch.label).float() for half in both.chunk(2)])
            else:
                logits = discriminator(both, None if batch.label is None else batch.label.repeat(2)).float()
        losses["d_adversarial"] = loss = learner.adversarial.of_discriminator(*logits.chunk(2))
        if learner.adversarial.has_penalties:
            losses["r1"], losses["r2"] = gradient_penalties(both, logits)
            loss = loss + phase.between(settings.gamma, settings.final_gamma) * (losses["r1"] + losses["r2"])
        learner.descend(learner.d_optimiser, loss)

        # Generator.
        with learner.precision():
            with torch.no_grad():
                real_logits = discriminator(real, batch.label).float()
            fake_logits = discriminator(shown, batch.label).float()
        losses["g_adversarial"] = learner.adversarial.of_generator(real_logits, fake_logits)
        loss = learner.family.weights.adversarial * losses["g_adversarial"]
        gradients = torch.autograd.grad(loss, weights, retain_graph=learner.family.has_encoder)
        learner.world.average_(gradients)
        gradients = self.joined(learner, batch, Drawn(decoded, fake, gradients), losses)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = _laid_out(gradient, weight)
        learner.g_optimiser.step()
        return losses

    def latents(self, learner: "Learner", batch: Batch) -> Tensor:
        """What G draws from: samples of the prior, (N, Z), without a gradient."""
        with torch.no_grad():
            return learner.model.latent(batch.prior_noise)

    def joined(self, learner: "Learner", batch: Batch, drawn: Drawn, losses: Losses) -> Gradients:
        """G's adversarial gradients with those of whatever else it learns from, whose losses are added to `losses`."""
        return drawn.gradients


def _laid_out(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient in its weight's order of memory: fused Adam takes both as rows of numbers and does not look."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)


FAMILY = Family(Weights(0, 0, 1), adversarial_start=0.0, adversarial_step=Opponents())
