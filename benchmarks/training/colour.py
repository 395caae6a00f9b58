"""The families on a folder of colour pictures, at equal minutes of one thread each, beside a hybrid of vectors.

    python -m benchmarks.training.colour --data emoji.parquet --test emoji.parquet --out runs/colour --minutes 60

Where both files are the same, a fifth of the pictures is held out and judged by. The hybrid of vectors, whose D learns from
pixels alone, is what every figure is divided by in the goals. What was cut off goes on, so several calls do.
Wants the extra `features`.
"""

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.decomposition import PCA

from benchmarks.shared.report import table
from benchmarks.training import jobs
from benchmarks.training.jobs import Job, Outcome, arguments, outcomes
from evaluation import pretrained
from evaluation.reconstruction import psnr_db
from evaluation.scorecard import Evaluator
from training.code_prior import CodePrior
from training.data import pixels_to_bytes
from training.model import Model

VECTORS = "vectors"

RUNS: dict[str, dict[str, object]] = {
    VECTORS: {"family": "hybrid", "adversarial": "relativistic", "latent": "vector", "diffaugment": True},
    "hybrid-0": {"family": "hybrid"},
    "hybrid-1": {"family": "hybrid", "seed": 1},
    "gan": {"family": "gan"},
    "vae": {"family": "vae"},
}
"""Settings by name. The GAN is the hybrid without its E, the VAE the hybrid without its D."""

KEYS = {
    "fd_effnet_lite0": 1, "fd_effnet_lite0_held_out": 1, "kid_effnet_lite0": 4, "fd_alexnet": 4, "fid_clf": 3,
    "precision": 3, "coverage": 3, "authenticity": 3, "authenticity_held_out": 3, "colour_histogram": 3, "colour_swd": 4,
    "detail": 3, "lattice_low": 3, "lattice_high": 3, "border": 3, "reconstruction_psnr_db": 2,
}  # fmt: skip
"""Figures with their decimals."""

RATIOS = {
    "fd_effnet_lite0": 0.45, "fd_effnet_lite0_held_out": 0.45, "fd_alexnet": 0.6, "colour_histogram": 0.6, "colour_swd": 0.6,
}  # fmt: skip
"""Goals: at most this share of the hybrid of vectors' figure."""

MIDPOINTS = 1_000


def main() -> None:
    """Train what is missing, and print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--conditional", action="store_true")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="runs to train and to show")
    options = parser.parse_args()
    common = {"minutes": options.minutes, "mirror": True, "conditional": options.conditional}
    found = outcomes([Job(name, {**common, **RUNS[name]}) for name in options.only], options)
    print("\n".join([*_figures(found), "", *_goals(found)]))
    by = jobs.judge(options.data, options.test)
    for name in found:
        if not name.startswith("hybrid-") or found[name].error:
            continue
        model = Model.load(options.out / name)
        psnr = _components_psnr_db(by, model.latent_dim)
        print(f"{name}: reconstruction_psnr_db by {model.latent_dim} principal components: {psnr:.2f}")
        if not options.conditional:
            print(f"{name}: fd_effnet_lite0 of midpoints", _midpoints(model, by))


def _figures(found: dict[str, Outcome]) -> Iterator[str]:
    rows = [["minutes", *(f"{each.minutes:.0f}" for each in found.values())]]
    for key, digits in KEYS.items():
        rows.append([key, *(_number(each.figures.get(key), digits) for each in found.values())])
    yield from table(["", *found], rows)


def _goals(found: dict[str, Outcome]) -> Iterator[str]:
    """Each hybrid's figures by those of the hybrid of vectors, and whether they are low enough."""
    before = found.get(VECTORS, Outcome("")).figures
    rows = []
    for key, goal in RATIOS.items():
        shares = [
            each.figures[key] / before[key]
            for name, each in found.items()
            if name.startswith("hybrid-") and key in each.figures and key in before
        ]
        if shares:
            met = sum(share <= goal for share in shares)
            rows.append(
                [key, ", ".join(f"{share:.2f}" for share in shares), f"at most {goal}", f"{met} of {len(shares)}"]
            )
    yield from table(["by the hybrid of vectors'", "share", "goal", "met by"], rows)


def _components_psnr_db(by: Evaluator, components: int) -> float:
    """Of held-out images by as many principal components of the images seen, of 10,000 at most."""
    seen, held_out = by.sample.images, by.held_out.images
    found = PCA(components, svd_solver="randomized", random_state=0).fit(seen.reshape(len(seen), -1).astype(np.float32))
    rebuilt = found.inverse_transform(found.transform(held_out.reshape(len(held_out), -1).astype(np.float32)))
    return psnr_db(held_out, rebuilt.round().clip(0, 255).astype(np.uint8).reshape(held_out.shape))


@torch.inference_mode()
def _midpoints(model: Model, by: Evaluator) -> dict[str, float]:
    """Distances of samples, and of what lies halfway between two of them, by code and by map."""
    judge, prior = by.judges[pretrained.EFFNET], model.prior
    assert isinstance(prior, CodePrior), "a hybrid of maps"
    noise = torch.randn(2 * MIDPOINTS, model.noise_dim, generator=torch.Generator().manual_seed(0))
    codes = prior.code(noise)
    maps = prior.decoder(codes)
    latents = {
        "none, samples": maps[:MIDPOINTS],
        "by map": maps.view(2, MIDPOINTS, -1).mean(0),
        "by code": prior.decoder(codes.view(2, MIDPOINTS, -1).mean(0)),
    }
    drawn = {name: pixels_to_bytes(model.generator(each)) for name, each in latents.items()}
    return {name: round(judge.frechet(judge.features(images)), 1) for name, images in drawn.items()}


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
