"""Whether a GAN trains, whatever the seed and the learning rate: ten seeds by three rates, and the plain baseline beside it.

    python -m benchmarks.stability --data mnist/train.parquet --test mnist/test.parquet --out runs/stability

A run is stable if its losses stay finite and its samples are of all classes. `tiny`, 60,000 images a run, two runs at once.
"""

from collections.abc import Iterator
from statistics import median

from benchmarks.tables import head, row
from benchmarks.trainings import Job, Outcome, arguments, outcomes
from training.settings import LEARNING_RATES, PLAIN_LEARNING_RATE, Adversarial

SEEDS = range(10)
FACTORS = (0.5, 1, 2)
IMAGES = 60_000

KINDS: dict[Adversarial, float] = {"relativistic": LEARNING_RATES["tiny"], "plain": PLAIN_LEARNING_RATE}
"""Learning rates that the factors are taken of: the defaults."""


def main() -> None:
    """Train what is missing, and print the table."""
    asked = arguments(__doc__).parse_args()
    known = outcomes([_job(*each) for each in _grid()], asked)
    print("\n".join(_table(known)))


def _grid() -> Iterator[tuple[Adversarial, float, int]]:
    return ((kind, factor, seed) for kind in KINDS for factor in FACTORS for seed in SEEDS)


def _job(kind: Adversarial, factor: float, seed: int) -> Job:
    rate = factor * KINDS[kind]
    settings = {"family": "gan", "adversarial": kind, "learning_rate": rate, "images": IMAGES, "seed": seed}
    return Job(f"{kind}-{factor:g}-{seed}", settings, is_quick=True)


def _is_stable(outcome: Outcome) -> bool:
    return not outcome.error and outcome.figures["classes_missing"] == 0


def _table(known: dict[str, Outcome]) -> Iterator[str]:
    yield from head("loss", "learning rate", "stable", "fid_clf, median (range)", "largest KL of the classes, nats")
    for kind, default in KINDS.items():
        for factor in FACTORS:
            runs = [known[_job(kind, factor, seed).name] for seed in SEEDS]
            finite = [run.figures for run in runs if not run.error]
            distances = [figures["fid_clf"] for figures in finite] or [float("nan")]
            kl = max((figures["class_kl_nats"] for figures in finite), default=float("nan"))
            spread = f"{median(distances):.2f} ({min(distances):.2f} to {max(distances):.2f})"
            stable = f"{sum(map(_is_stable, runs))} of {len(runs)}"
            yield row(kind, f"{factor * default:g}", stable, spread, f"{kl:.3f}")


if __name__ == "__main__":
    main()
