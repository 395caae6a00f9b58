"""`figment evaluate`, `figment compare`: how good a model is, alone and beside others."""

from itertools import chain
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg
from rich import box
from rich.console import Console
from rich.table import Table

from evaluation.figures import FIGURES, rows
from evaluation.reference import IMAGES
from evaluation.scorecard import Scorecard
from export.errors import ExportError
from export.evaluation import EvaluationSettings, compare, evaluate
from training.errors import TrainingError


class _EvaluationOptions(BaseSettings):
    """Options of verbs that evaluate."""

    errors: ClassVar[tuple[type[Exception], ...]] = (ExportError, TrainingError)

    data: str | None = Field(None, description="real images to judge by; by default what the model was trained on")
    test: str | None = Field(
        None, description="images that the model has not seen; by default those held out of the training"
    )
    images: int = Field(IMAGES, ge=16, description="images to draw, and real ones to compare them with")
    inception: Path | None = Field(
        None, description="TorchScript file of Inception weights; the distance is then the FID"
    )
    iwae_draws: int = Field(0, ge=0, description="draws of the bound on log p(x), of runs only; 0 leaves it out")
    seed: int = Field(0, ge=0, description="decides what is drawn")

    @property
    def settings(self) -> EvaluationSettings:
        """How to evaluate."""
        return EvaluationSettings(self.data, self.test, self.images, self.inception, self.iwae_draws, self.seed)


class Evaluate(_EvaluationOptions):
    """Measure the images of a finished run, or of a bundle as it is served."""

    model: CliPositionalArg[Path] = Field(
        description="run folder, or a model's folder or version, such as models/digits-vae/1"
    )
    out: Path | None = Field(
        None, description="folder to write into; by default the run folder, or report-NAME of a bundle"
    )

    def cli_cmd(self) -> None:
        """Evaluate, and say where the report is."""
        card, page = evaluate(self.model, self.out, self.settings)
        _print([card])
        print(f"{page}: the report; quality.json beside it")


class Compare(_EvaluationOptions):
    """Measure several runs or bundles by the same images, side by side."""

    models: CliPositionalArg[list[Path]] = Field(
        description="run folders, models or versions; judged by the first one's images"
    )
    out: Path = Field(Path("comparison"), description="folder to write into")

    def cli_cmd(self) -> None:
        """Evaluate, and say where the report is."""
        cards, page = compare(self.models, self.out, self.settings)
        _print(cards)
        print(f"{page}: the report; quality.json beside it")


def _print(cards: list[Scorecard]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("figure", no_wrap=True)
    table.add_column("better", no_wrap=True)
    for card in cards:
        table.add_column(card.name, justify="right")
    for figure, cells in rows(chain(*FIGURES.values()), [card.figures for card in cards]):
        table.add_row(figure.key, figure.better, *cells)
    Console().print(table)
