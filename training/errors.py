"""Errors of training.

    TrainingError
      DataError         the images cannot be read or do not fit together
      RunFolderError    a run folder is missing, incomplete or already in use
      Diverged          a loss stopped being a finite number
      Collapsed         G draws one picture for every noise, again and again
      Stopped           somebody stopped a training, which can be continued

A TrainingError itself says that the machine lacks what was asked for. The person who started the training can put
each of them right.
"""

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from training.settings import TrainSettings


class TrainingError(Exception):
    """Something that the person who started the training can put right."""


class DataError(TrainingError):
    """The images cannot be read, or do not fit together."""


class RunFolderError(TrainingError):
    """A run folder is missing, incomplete, or already holds a run."""


class Diverged(TrainingError):
    """A loss stopped being a finite number."""

    @classmethod
    def with_advice(cls, what: str, settings: "TrainSettings") -> Self:
        """what: which figure of which step. Adds the settings that decide whether a training like this one holds."""
        from training.adversarial import ADVERSARIAL  # torch, which errors are told without
        from training.families import family

        advice = [f"a lower --learning-rate, {settings.learning_rate:g} here"]
        is_judged = family(settings.family).has_discriminator and not settings.encoder_for
        if is_judged and ADVERSARIAL[settings.adversarial].has_penalties:
            advice.append(f"a higher --gamma, {settings.gamma:g} here")
        if settings.precision == "bf16" or (settings.precision == "auto" and settings.device != "cpu"):
            advice.append("--precision fp32 where it was bf16, as by default on a GPU that has it")
        if settings.perceptual:
            advice.append(f"a lower --perceptual, {settings.perceptual:g} here")
        return cls(f"{what}: the training diverged; begin it anew in another --out with {', or '.join(advice)}")


class Collapsed(TrainingError):
    """G draws one picture for every noise, again and again."""

    @classmethod
    def with_advice(cls, what: str, settings: "TrainSettings", rollbacks: int) -> Self:
        """what: how it showed. rollbacks: how often the training went back to a better state."""
        advice = f"a lower --learning-rate, {settings.learning_rate:g} here, another --seed, {settings.seed} here"
        return cls(
            f"{what}, and going back did not help {rollbacks} times; begin it anew in another --out with {advice}, or "
            "--adversarial relativistic"
        )


class Stopped(TrainingError):
    """Somebody stopped a training; its checkpoint says where."""
