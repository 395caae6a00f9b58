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
from evaluation.scorecard import Scorecard
from export.errors import ExportError
from export.evaluation import EvaluationSettings, compare, evaluate
from training.errors import TrainingError


class _Evaluation(EvaluationSettings, BaseSettings):
    """What both verbs have in common."""

    errors: ClassVar[tuple[type[Exception], ...]] = (ExportError, TrainingError)


class Evaluate(_Evaluation):
    """Measure the images of a run, or of a bundle as it is served."""

    model: CliPositionalArg[Path] = Field(
        description="run folder, or a model's folder or version, such as models/digits-vae/1"
    )
    out: Path | None = Field(
        None, description="folder to write into; by default the run folder, or report-NAME of a bundle"
    )

    def cli_cmd(self) -> None:
        """Evaluate, and say where the report is."""
        card, page = evaluate(self.model, self.out, self, print)
        _print([card], page)


class Compare(_Evaluation):
    """Measure several runs or bundles by the same images, side by side."""

    models: CliPositionalArg[list[Path]] = Field(
        description="run folders, models or versions; judged by the first one's images"
    )
    out: Path = Field(Path("comparison"), description="folder to write into")

    def cli_cmd(self) -> None:
        """Evaluate, and say where the report is."""
        cards, page = compare(self.models, self.out, self, print)
        _print(cards, page)


def _print(cards: list[Scorecard], page: Path) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("figure", no_wrap=True)
    table.add_column("better", no_wrap=True)
    for card in cards:
        table.add_column(card.name, justify="right")
    for figure, cells in rows(chain(*FIGURES.values()), [card.figures for card in cards]):
        table.add_row(figure.key, figure.better, *cells)
    Console().print(table)
    if absence := next((card.absence for card in cards if card.absence), None):
        print(absence)
    print(f"{page}: the report; quality.json beside it")
