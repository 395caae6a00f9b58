"""What the families draw after their first 300 steps, at three sizes, with no option given: finite, and not all alike.

    python -m benchmarks.training.first_steps --data emoji.parquet --out runs/first-steps

The spread of samples is their standard deviation over pictures, mean over the numbers of an 8x8 thumbnail, by the same of the
training images.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from benchmarks.shared.report import table
from benchmarks.training.jobs import trained
from training.errors import Collapsed, Diverged
from training.model import Model
from training.settings import TrainSettings
from training.trainer import load_images

SIZES = (32, 64, 128)
STEPS = 300
SAMPLES = 500
BATCH = 100
LEAST = 0.5


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    rows = []
    for size in options.sizes:
        for family in ("vae", "gan", "hybrid"):
            spread = _spread(options.data, size, family, options.out / f"{family}-{size}")
            rows.append([family, str(size), spread if isinstance(spread, str) else f"{spread:.2f}"])
            print(*rows[-1], flush=True)
    print(*table(["family", "size", f"spread by the data's, goal {LEAST}"], rows), sep="\n")


def _spread(data: str, size: int, family: str, out: Path) -> float | str:
    settings = TrainSettings.model_validate(
        {"data": data, "size": size, "family": family, "out": out, "images": STEPS * 64, "batch": 64}
    )
    try:
        model = trained(settings)
    except (Collapsed, Diverged) as error:
        return str(error)
    images, _ = load_images(settings)
    return _variety(_drawn(model)) / _variety(images.pixels(slice(0, SAMPLES)))


@torch.inference_mode()
def _drawn(model: Model) -> Tensor:
    noise = torch.randn(SAMPLES, model.noise_dim, generator=torch.Generator().manual_seed(0))
    rows = (noise[start : start + BATCH] for start in range(0, SAMPLES, BATCH))
    return torch.cat([model.generator(model.latent(part)) for part in rows])


def _variety(images: Tensor) -> float:
    """images: (N, C, H, W)."""
    return float(adaptive_avg_pool2d(images.clamp(-1, 1), 8).std(0).mean())


if __name__ == "__main__":
    main()
