"""`figment train` and `figment resume`: train one model on a set of images, and go on where a training was stopped."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, CliPositionalArg

from training.errors import TrainingError
from training.progress import told
from training.settings import TrainSettings


class Train(BaseSettings, TrainSettings):
    """Train a VAE, GAN or hybrid on scikit-learn's digits, OpenMoji's drawings, a folder of images or parquet files."""

    errors: ClassVar[tuple[type[Exception], ...]] = (TrainingError,)

    dry_run: bool = Field(
        False, description="only tell the networks' sizes, what a step costs and how long it would take"
    )

    @model_validator(mode="before")
    @classmethod
    def _taken_over(cls, given: dict[str, Any]) -> dict[str, Any]:
        """What is not given is the run's that an encoder is learned for."""
        if not given.get("encoder_for"):
            return given
        from training.inversion import taken_over

        try:
            return taken_over(Path(given["encoder_for"])) | given
        except TrainingError as error:
            raise ValueError(str(error)) from error

    def cli_cmd(self) -> None:
        """Train, and say where the run is."""
        from training.cost import estimate
        from training.trainer import train

        settings = TrainSettings.model_validate(self.model_dump(exclude={"dry_run"}))
        if self.dry_run:
            print(estimate(settings))
            return
        with told(f"{self.family} on {self.data}", self.images) as report, _interruptible() as stopped:
            train(settings, report, stopped.is_set)
        _tell_kept(self.out)
        print(f"{self.out}: trained; look at its sheets, then: figment export {self.out} --models models")


class Resume(BaseSettings, frozen=True):
    """Go on with a training that was stopped: the outcome is that of one that was not."""

    errors: ClassVar[tuple[type[Exception], ...]] = (TrainingError,)

    run: CliPositionalArg[Path] = Field(description="run folder that figment train was writing")

    def cli_cmd(self) -> None:
        """Train to the end, and say where the run is."""
        from training.record import read_record
        from training.trainer import resume

        settings = read_record(self.run).settings
        with told(f"{settings.family} on {settings.data}", settings.images) as report, _interruptible() as stopped:
            resume(self.run, report, stopped.is_set)
        _tell_kept(self.run)
        print(f"{self.run}: trained; look at its sheets, then: figment export {self.run} --models models")


def _tell_kept(folder: Path) -> None:
    """Say which model a finished run kept, if it was to keep the best."""
    from training.record import read_record

    if kept := read_record(folder).kept:
        print(
            f"kept the model after {kept.images:,} images, distance {kept.distance:.5g} to the half of the held-out images that "
            f"picked it, {kept.of_other_half:.5g} to the other half, by {kept.judged_by}"
        )


@contextmanager
def _interruptible() -> Iterator[Event]:
    """An event that SIGINT (Ctrl-C), SIGTERM and SIGHUP set, while the block runs; a second signal stops at once.

    Not a second SIGHUP: who closes a terminal sends one from the kernel and one from the shell. nohup's, which is
    ignored, stays so.
    """
    stopped = Event()

    def stop(number: int, frame: object) -> None:
        stopped.set()
        for each, handler in before.items():
            if each != signal.SIGHUP:
                signal.signal(each, handler)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
