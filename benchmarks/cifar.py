"""The three families on CIFAR-10, and an SNGAN trained on as many images.

    python -m benchmarks.cifar --data cifar10/train.parquet --test cifar10/test.parquet --out runs/cifar --device cuda

Wants a GPU; what was cut off goes on, so several calls of ten minutes do. Distances by a classifier of CIFAR-10's labels, or
by Inception weights from a file (`--inception`).
"""

from pathlib import Path
from statistics import fmean

import torch

from benchmarks import sngan
from benchmarks.tables import head, row
from benchmarks.trainings import arguments, judge, trained
from evaluation.features import InceptionFeatures
from evaluation.scorecard import Evaluator, Scorecard
from export.evaluated_models import TrainedModel
from training.settings import TrainSettings
from training.sources import load

SEED = 0
BATCH = 64
KEYS = (
    "fid",
    "fid_clf",
    "precision",
    "recall",
    "density",
    "coverage",
    "detail",
    "reconstruction_psnr_db",
    "probe_accuracy",
)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--inception", type=Path)
    asked = parser.parse_args()
    by = judge(asked.data, asked.test)
    if asked.inception:
        by = Evaluator(by.seen, by.held_out, InceptionFeatures(asked.inception))
    cards = []
    for family in ("vae", "gan", "hybrid"):
        settings = {
            "data": asked.data, "out": asked.out / f"{family}-{asked.preset}-{asked.images}", "family": family,
            "preset": asked.preset, "images": asked.images, "mirror": True, "seed": SEED, "batch": BATCH,
            "latent_dim": 64, "device": asked.device,
        }  # fmt: skip
        cards.append(by.score(TrainedModel(trained(TrainSettings.model_validate(settings)), family)))
    images = load(asked.data, None).split(0.2, SEED)[0]
    device = torch.device(asked.device)
    cards.append(
        by.score(sngan.trained(images, asked.images, BATCH, asked.out / f"sngan-{asked.images}", device, SEED))
    )
    print(by.judged_by)
    _print(cards)


def _print(cards: list[Scorecard]) -> None:
    print(*head("", *(card.name for card in cards)), sep="\n")
    for key in KEYS:
        cells = [card.figures.get(key) for card in cards]
        known = [cell for cell in cells if cell is not None]
        if known:
            digits = 3 if fmean(map(abs, known)) < 10 else 2
            print(row(key, *("" if cell is None else f"{cell:.{digits}f}" for cell in cells)))


if __name__ == "__main__":
    main()
