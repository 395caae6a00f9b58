"""How many of a thousand modes a GAN reaches: three digits of MNIST as the channels of one image.

    python -m benchmarks.training.stacked_mnist --data mnist/train.parquet --test mnist/test.parquet --out runs/stacked

Protocol of PacGAN (Lin et al. 2018): 128,000 triples to learn from, 26,000 samples, each channel named by a classifier of
digits. Prints the modes reached and the KL divergence to the uniform distribution, and beside it that of real triples, which
no sampler can be expected to beat. A training that was cut off goes on.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.shared.report import table
from benchmarks.training.jobs import arguments, settings_of, trained
from evaluation.classes import ClassHistogram, class_histogram
from evaluation.features import ClassifierFeatures
from evaluation.scorecard import Evaluator
from export.evaluated_models import TrainedModel
from export.source import real_images
from training.data import ImageSet
from training.sources import load

TRIPLES = 128_000
SAMPLES = 26_000
CLASSIFIER_STEPS = 4_000
SEED = 0

Images = npt.NDArray[np.uint8]


def main() -> None:
    """Train, count, print."""
    parser = arguments(__doc__)
    parser.add_argument("--family", default="gan")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--images", type=int, default=4_000_000)
    options = parser.parse_args()
    digits, test = load(options.data, None), load(options.test, None)
    settings = settings_of(
        options, f"{options.family}-{options.preset}-{options.images}", data=str(_written(digits, options.out)),
        family=options.family, preset=options.preset, images=options.images, held_out=0.01, seed=SEED,
    )  # fmt: skip
    model = trained(settings)
    assert digits.labels is not None, "MNIST has labels"
    assert test.labels is not None, "MNIST has labels"
    classifier = ClassifierFeatures.train(digits.images, digits.labels, 10, steps=CLASSIFIER_STEPS)
    judge = Evaluator(real_images(digits), real_images(test), images=SAMPLES, seed=SEED)
    drawn = _modes(classifier, judge.draw(TrainedModel(model, "gan")))
    floor = _modes(classifier, _stacked(test, np.random.default_rng(SEED), SAMPLES))
    print(f"classifier: {classifier.accuracy(test.images, test.labels):.2%} of the test digits, hash {classifier.hash}")
    named = {f"{options.family}, {options.preset}, {options.images:,} images": drawn, "real test triples": floor}
    rows = [(name, str(1000 - len(found.missing)), f"{found.kl_nats:.4f}") for name, found in named.items()]
    print(*table(("", "modes of 1000", "KL to uniform, nats"), rows), sep="\n")


def _written(digits: ImageSet, out: Path) -> Path:
    """The training triples as a parquet file of PNGs."""
    file = out / "triples.parquet"
    if not file.is_file():
        out.mkdir(parents=True, exist_ok=True)
        encoded = [_png(image) for image in _stacked(digits, np.random.default_rng(SEED), TRIPLES)]
        temporary = file.with_suffix(".writing")
        pq.write_table(pa.table({"image": encoded}), temporary)
        temporary.replace(file)
    return file


def _stacked(digits: ImageSet, draw: np.random.Generator, count: int) -> Images:
    """Triples of digits, each drawn uniformly from all: (count, H, W, 3) uint8."""
    grey = digits.images[..., 0]
    return np.stack([grey[draw.integers(len(grey), size=count)] for _ in range(3)], axis=-1)


def _png(image: Images) -> bytes:
    encoded = BytesIO()
    Image.fromarray(image).save(encoded, "png", compress_level=1)
    return encoded.getvalue()


def _modes(classifier: ClassifierFeatures, images: Images) -> ClassHistogram:
    """Modes by the digits of the channels, against a uniform distribution."""
    digits = [classifier.classes(np.ascontiguousarray(images[..., channel : channel + 1])) for channel in range(3)]
    return class_histogram(100 * digits[0] + 10 * digits[1] + digits[2], np.ones(1000, np.int64))


if __name__ == "__main__":
    main()
