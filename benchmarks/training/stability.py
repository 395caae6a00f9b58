"""Whether a GAN trains, whatever the seed and the learning rate: ten seeds by three rates, and the plain baseline beside it.

    python -m benchmarks.training.stability --data mnist/train.parquet --test mnist/test.parquet --out runs/stability

A run is stable if its losses stay finite and its samples are of all classes. `tiny`, 60,000 images a run, two runs at once.
"""

from typing import get_args

from benchmarks.shared.report import spread, table
from benchmarks.training.jobs import Job, Outcome, arguments, outcomes
from training.adversarial import ADVERSARIAL
from training.settings import LEARNING_RATES, Adversarial

SEEDS = range(10)
FACTORS = (0.5, 1, 2)
IMAGES = 60_000

KINDS: dict[Adversarial, float] = {
    kind: ADVERSARIAL[kind].learning_rate or LEARNING_RATES["tiny"] for kind in get_args(Adversarial)
}
"""Learning rates that the factors are taken of: the defaults."""


def main() -> None:
    """Train what is missing, and print the table."""
    options = arguments(__doc__).parse_args()
    jobs = {(kind, factor): [_job(kind, factor, seed) for seed in SEEDS] for kind in KINDS for factor in FACTORS}
    by_name = outcomes([job for of_rate in jobs.values() for job in of_rate], options)
    rows = [_row(kind, factor, [by_name[job.name] for job in of_rate]) for (kind, factor), of_rate in jobs.items()]
    columns = ("loss", "learning rate", "stable", "fid_clf, median (range)", "largest KL of the classes, nats")
    print("\n".join(table(columns, rows)))


def _job(kind: Adversarial, factor: float, seed: int) -> Job:
    rate = factor * KINDS[kind]
    settings = {"family": "gan", "adversarial": kind, "learning_rate": rate, "images": IMAGES, "seed": seed}
    return Job(f"{kind}-{factor:g}-{seed}", settings, is_quick=True)


def _is_stable(outcome: Outcome) -> bool:
    return not outcome.error and outcome.figures["classes_missing"] == 0


def _row(kind: Adversarial, factor: float, runs: list[Outcome]) -> list[str]:
    finite = [run.figures for run in runs if not run.error]
    distances = [figures["fid_clf"] for figures in finite] or [float("nan")]
    kl = max((figures["class_kl_nats"] for figures in finite), default=float("nan"))
    stable = f"{sum(map(_is_stable, runs))} of {len(runs)}"
    return [kind, f"{factor * KINDS[kind]:g}", stable, spread(distances), f"{kl:.3f}"]


if __name__ == "__main__":
    main()
