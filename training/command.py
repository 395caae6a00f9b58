"""`figment train`: train one model on a set of images."""

from typing import ClassVar

from pydantic_settings import BaseSettings

from training.errors import TrainingError
from training.progress import progress_lines
from training.settings import TrainSettings
from training.trainer import train


class Train(BaseSettings, TrainSettings):
    """Train a VAE, GAN or hybrid on scikit-learn's digits, a folder of images or a parquet file."""

    errors: ClassVar[tuple[type[Exception], ...]] = (TrainingError,)

    def cli_cmd(self) -> None:
        """Train, and say where the run is."""
        with progress_lines() as progress:
            task = progress.add_task(f"{self.family} on {self.data}", total=self.images)
            train(self, lambda now: progress.update(task, completed=now.images))
        print(f"{self.out}: trained; look at its sheets, then: figment export {self.out} --models models")
