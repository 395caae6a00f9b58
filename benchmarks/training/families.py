"""VAE, GAN, hybrid and their baselines on MNIST at `tiny`: at most ten minutes of one thread each, three seeds.

    python -m benchmarks.training.families --data mnist/train.parquet --test mnist/test.parquet --out runs/families

Prints the figures of each family, and the goals with what was measured.
"""

from collections.abc import Callable, Iterator

from benchmarks.shared.report import spread, table
from benchmarks.training.jobs import Job, Outcome, arguments, outcomes

SEEDS = (0, 1, 2)

FAMILIES: dict[str, dict[str, object]] = {
    "vae": {"family": "vae", "images": 2_000_000},
    "gan": {"family": "gan", "images": 600_000},
    "hybrid": {"family": "hybrid", "images": 1_000_000},
    "plain-gan": {"family": "gan", "adversarial": "plain", "images": 600_000},
}
"""Settings by name. The plain GAN is the baseline of the GAN: as many images, the same networks with batch norms."""

KEYS = (
    "fid_clf", "precision", "recall", "density", "coverage", "detail", "reconstruction_psnr_db", "reconstruction_ssim",
    "probe_accuracy", "active_units", "class_kl_nats", "interpolation_detour", "interpolation_jump",
)  # fmt: skip
DIGITS = {"reconstruction_psnr_db": 2, "active_units": 0, "class_kl_nats": 4}

Found = dict[str, list[Outcome]]


def main() -> None:
    """Train what is missing, and print the tables."""
    options = arguments(__doc__).parse_args()
    jobs = [Job(f"{name}-{seed}", settings | {"seed": seed}) for seed in SEEDS for name, settings in FAMILIES.items()]
    by_name = outcomes(jobs, options)
    found = {name: [by_name[f"{name}-{seed}"] for seed in SEEDS] for name in FAMILIES}
    print("\n".join([*_figures(found), "", *_goals(found)]))


def _figures(found: Found) -> Iterator[str]:
    """Medians of the seeds, with the smallest and the largest."""
    rows = [["minutes", *(spread([each.minutes for each in runs], 1) for runs in found.values()), ""]]
    for key in KEYS:
        digits = DIGITS.get(key, 3)
        columns = [[each.figures for each in runs] for runs in found.values()] + [
            [each.normal for each in found["vae"]]
        ]
        rows.append(
            [key, *(spread([figures[key] for figures in column if key in figures], digits) for column in columns)]
        )
    yield from table(["", *found, "vae under N(0, I)"], rows)


def _goals(found: Found) -> Iterator[str]:
    """Each goal of each seed without a diverged run: a quotient or a difference, and how many seeds meet it."""

    def by_seed(measure: Callable[..., float], *names: str) -> list[float]:
        seeds = zip(*(found[name] for name in names), strict=True)
        return [measure(*(each.figures for each in runs)) for runs in seeds if not any(each.error for each in runs)]

    normal = [each.figures["fid_clf"] / each.normal["fid_clf"] for each in found["vae"] if not each.error]
    detail = {name: by_seed(lambda figures: figures["detail"], name) for name in ("gan", "hybrid", "vae")}
    best_coverage = by_seed(lambda h, v, g: h["coverage"] - max(v["coverage"], g["coverage"]), "hybrid", "vae", "gan")
    psnr = by_seed(lambda h, v: h["reconstruction_psnr_db"] - v["reconstruction_psnr_db"], "hybrid", "vae")
    probe = by_seed(lambda h, v: h["probe_accuracy"] - v["probe_accuracy"], "hybrid", "vae")
    goals: list[tuple[str, list[float], float, float]] = [
        ("GAN's fid_clf by the plain DCGAN's", by_seed(lambda g, p: g["fid_clf"] / p["fid_clf"], "gan", "plain-gan"), 0, 0.5),
        ("VAE's fid_clf, mixture by N(0, I)", normal, 0, 0.35),
        ("detail, GAN", detail["gan"], 0.95, 1.05),
        ("detail, hybrid", detail["hybrid"], 0.95, 1.05),
        ("detail, VAE (an aim)", detail["vae"], 0.85, 1.15),
        ("hybrid's fid_clf by the GAN's", by_seed(lambda h, g: h["fid_clf"] / g["fid_clf"], "hybrid", "gan"), 0, 1.1),
        ("hybrid's coverage less the better one's", best_coverage, -0.02, 1),
        ("hybrid's PSNR less the VAE's, dB", psnr, -1.5, 99),
        ("hybrid's probe less the VAE's", probe, -0.01, 1),
    ]  # fmt: skip
    rows = []
    for name, values, low, high in goals:
        met = sum(low <= value <= high for value in values)
        allowed = f"at most {high}" if low == 0 else f"at least {low}" if high in {1, 99} else f"{low} to {high}"
        rows.append((name, allowed, spread(values, 3), f"{met} of {len(SEEDS)}"))
    yield from table(("goal", "allowed", "median (range)", "seeds that meet it"), rows)


if __name__ == "__main__":
    main()
