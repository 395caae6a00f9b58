"""What a family is: the weights of its objective, when its parts are learned, and what a step does.

loss = w_rec * reconstruction + w_kl * KL(q(z|x) || p(z)) + w_adv * adversarial
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from training.batch import Batch
from training.feature_opponents import feature_step
from training.schedule import Phase
from training.two_stage import two_stage_step

if TYPE_CHECKING:
    from training.learner import Learner


@dataclass(frozen=True)
class Weights:
    """The three weights of the objective."""

    reconstruction: float
    kl: float
    adversarial: float


Step = Callable[["Learner", Batch, Phase], dict[str, Tensor]]
"""What one step does: updates the learner's networks and returns the losses by name, scalars on the device."""


@dataclass(frozen=True)
class Family:
    """One family.

    latent_dim          entries of a latent vector, by default
    adversarial_start   share of a training after which the second phase begins: 0, there is no first; 1, no second
    likelihood_step     a step of the first phase: E and G by the evidence lower bound
    adversarial_step    a step of the second phase: D, then G; by a D on frozen features all families take another
    """

    weights: Weights
    adversarial_start: float
    likelihood_step: Step | None = None
    adversarial_step: Step | None = None
    latent_dim: int = 16

    @property
    def has_encoder(self) -> bool:
        """Whether there is an E, and so a likelihood and a prior."""
        return self.weights.reconstruction > 0

    @property
    def has_discriminator(self) -> bool:
        """Whether there is a D."""
        return self.weights.adversarial > 0

    def step(self, learner: "Learner", batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """The step of a phase."""
        is_map = learner.settings.latent == "map"
        if phase.is_adversarial:
            step = feature_step if is_map else self.adversarial_step
        else:
            step = two_stage_step if is_map else self.likelihood_step
        assert step is not None, "a family has a step for each of its phases"
        return step(learner, batch, phase)
