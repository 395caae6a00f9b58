"""How likely a VAE with a Bernoulli likelihood finds digits that it has not seen, in nats that can be compared.

    python -m benchmarks.training.nats --data mnist/train.parquet --test mnist/test.parquet --out runs/nats

Static binarisation of both sets, the prior N(0, I), the bound of Burda et al. 2016 with k = 5000 on all test images.
`--preset small` wants a GPU.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.shared.report import table
from benchmarks.training.jobs import arguments, minutes, settings_of, trained
from evaluation.likelihood import iwae_bound
from training.model import Model
from training.sources import load

IMAGES = 1_000_000
SEED = 0
PIECE_IMAGES = 250
"""Images of one piece of the work; a finished piece is not computed again."""

ROWS = 500
"""Latents decoded at once: what a small network makes of them stays in the caches. In PyTorch's own order of memory: 34 us a
draw of a tiny decoder on one core, 46 with channels last, for they pay in training only."""


def main() -> None:
    """Train, bound, print."""
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--images", type=int, default=IMAGES, help="training length")
    parser.add_argument("--draws", type=int, default=5000, help="k")
    parser.add_argument("--test-images", type=int, default=10_000)
    options = parser.parse_args()
    settings = settings_of(
        options, f"{options.preset}-{options.images}", family="vae", preset=options.preset, images=options.images,
        latent_dim=32, likelihood="bernoulli", binarise=True, prior="normal", held_out=0.01, seed=SEED,
    )  # fmt: skip
    trained(settings)
    started_s = time.monotonic()
    starts = range(0, options.test_images, PIECE_IMAGES)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        found = np.concatenate(list(pool.map(partial(_piece, settings.out, options), starts)))
    took = f"{(time.monotonic() - started_s) / 60:.1f}"
    nats = f"{-found.mean():.2f} (standard error {found.std() / len(found) ** 0.5:.2f})"
    columns = ("preset", "images", "minutes of training", "k", "test images", "-log p(x) at most, nats", "minutes")
    lengths = (f"{options.images:,}", f"{minutes(settings.out):.1f}", str(options.draws), f"{len(found):,}")
    print(*table(columns, [(options.preset, *lengths, nats, took)]), sep="\n")


def _piece(run: Path, options: argparse.Namespace, start: int) -> npt.NDArray[np.float64]:
    """The bounds of test images `start` and on."""
    file = run / f"nats-{options.draws}-{start}.npy"
    if file.is_file():
        done: npt.NDArray[np.float64] = np.load(file)
        return done
    torch.set_num_threads(1)
    device = torch.device(options.device)
    model = Model.load(run).to(device)
    test = load(options.test, None).binarised(SEED)
    images = test.pixels(np.arange(start, min(start + PIECE_IMAGES, options.test_images))).to(device)
    assert model.encoder is not None, "a VAE has one"
    bound = iwae_bound(
        model.encoder, model.log_likelihood, model.log_prior, images, options.draws, SEED + start, rows=ROWS
    )
    np.save(file, bound)
    return bound


if __name__ == "__main__":
    main()
