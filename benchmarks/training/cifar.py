"""The three families on CIFAR-10, and an SNGAN trained on as many images.

    python -m benchmarks.training.cifar --data cifar10/train.parquet --test cifar10/test.parquet --out runs/cifar --device cuda

Wants a GPU; what was cut off goes on, so several calls of ten minutes do. Distances by a classifier of CIFAR-10's labels, or
by Inception weights from a file (`--inception`).
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.shared.report import table
from benchmarks.training import sngan
from benchmarks.training.jobs import arguments, judge, settings_of, trained
from evaluation.features import InceptionFeatures
from evaluation.scorecard import Evaluator, Scorecard
from export.evaluated_models import TrainedModel
from training.sources import load

SEED = 0
BATCH = 64
KEYS = (
    "fid", "fid_clf", "precision", "recall", "density", "coverage", "detail", "reconstruction_psnr_db", "probe_accuracy",
)  # fmt: skip


def main() -> None:
    """Train what is missing, and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--inception", type=Path)
    options = parser.parse_args()
    by = judge(options.data, options.test)
    if options.inception:
        by = Evaluator(by.seen, by.held_out, InceptionFeatures(options.inception))
    cards = []
    for family in ("vae", "gan", "hybrid"):
        settings = settings_of(
            options, f"{family}-{options.preset}-{options.images}", family=family, preset=options.preset,
            images=options.images, mirror=True, seed=SEED, batch=BATCH, latent_dim=64,
        )  # fmt: skip
        cards.append(by.score(TrainedModel(trained(settings), family)))
    images = load(options.data, None).split(0.2, SEED)[0]
    device = torch.device(options.device)
    theirs = sngan.trained(images, options.images, BATCH, options.out / f"sngan-{options.images}", device, SEED)
    cards.append(by.score(theirs))
    print(by.judged_by)
    print(*table(["", *(card.name for card in cards)], _rows(cards)), sep="\n")


def _rows(cards: list[Scorecard]) -> Iterator[list[str]]:
    for key in KEYS:
        cells = [card.figures.get(key) for card in cards]
        numbers = [cell for cell in cells if cell is not None]
        if numbers:
            digits = 3 if fmean(map(abs, numbers)) < 10 else 2
            yield [key, *("" if cell is None else f"{cell:.{digits}f}" for cell in cells)]


if __name__ == "__main__":
    main()
