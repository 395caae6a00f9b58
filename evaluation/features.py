"""What images are compared by: numbers that a network takes from each.

    images (N, H, W, C) uint8 -> features (N, dim) float32

Three networks: one with random weights, the same for everybody, one that learns a data set's labels, and one from a
file of the user's, the Inception network of published figures. Distances by features of different names or hashes
cannot be compared. All on the CPU; torch's random state and threads stay as they are.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

import evaluation.first_calls  # noqa: F401

RANDOM_WIDTHS = (8, 16, 24, 32)
"""Channels by level of the random network."""

CLASSIFIER_WIDTHS = (32, 64, 128, 128)
"""Channels by level of the classifier."""

CLASSIFIER_SIZE = 32
"""Height and width that the classifier sees at most, so that its training does not grow with the images."""

STEPS = 600
"""Steps of a classifier's training at most: 40 s of one core for images of 32 pixels and more."""

EPOCHS = 10
"""How often a classifier sees each image, on average, at most; small sets need fewer steps."""

BATCH = 128
"""Images a step of a classifier's training."""

LEARNING_RATE = 2e-3
"""Of the classifier, at the start; falls to zero in a line."""

BATCH_PIXELS = 2**17
"""Pixels that a network is given at once: what it makes of them stays in the caches. Twice as fast as 2**20."""

INCEPTION_BATCH = 32
"""Images that the Inception network is given at once: it enlarges them to 299 pixels, one layer of 32 takes 180 MB."""

Images = npt.NDArray[np.uint8]


class Features(Protocol):
    """Turns each image into `dim` numbers. hash: of the weights, 12 hex digits."""

    name: str
    dim: int
    hash: str

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        """images: (N, H, W, C) uint8. Returns (N, dim) float32.

        Raises: ValueError, if there are none, or they are of another type or shape.
        """
        ...


class RandomFeatures:
    """Mean and standard deviation over space of each channel at each level of a convolutional network never trained.

    They see blur, noise, contrast and colours, and missing kinds of images where these look different as a whole.
    Needs no labels; images of any size.
    """

    name = "random"
    dim = 2 * sum(RANDOM_WIDTHS)

    def __init__(self, channels: int) -> None:
        self._channels = channels
        generator = np.random.Generator(np.random.Philox(key=0))  # numpy's, as torch's draws change with its versions
        self._weights = [
            torch.from_numpy(generator.standard_normal((after, before, 3, 3), np.float32)) * (2 / (9 * before)) ** 0.5
            for before, after in pairwise((channels, *RANDOM_WIDTHS))
        ]
        self.hash = _hash(self._weights)

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        """images: (N, H, W, channels) uint8. Returns (N, dim) float32. Raises: ValueError."""
        return by_batch(self._pooled, images, self._channels)

    def _pooled(self, x: Tensor) -> Tensor:
        pooled = []
        for weight in self._weights:
            x = functional.leaky_relu(functional.conv2d(x, weight, stride=2, padding=1), 0.2)
            mean = x.mean((2, 3), keepdim=True)
            pooled += [mean.flatten(1), (x - mean).square().mean((2, 3)).sqrt()]  # a third of the time of std_mean
        return torch.cat(pooled, 1)


class ClassifierFeatures:
    """The last layer but one of a classifier: what of an image tells the classes apart."""

    name = "classifier"
    dim = CLASSIFIER_WIDTHS[-1]

    def __init__(self, network: nn.Sequential, channels: int) -> None:
        self._network = network
        self._channels = channels
        self.hash = _hash(network.state_dict().values())

    @classmethod
    def train(
        cls, images: Images, labels: npt.NDArray[np.int64], classes: int, seed: int = 0, steps: int = STEPS
    ) -> Self:
        """Learn labels (N,) from 0 to classes - 1 of images (N, H, W, C) uint8.

        steps: at most so many; fewer where each image is seen EPOCHS times before.
        Decided by the images, the labels and `seed`, to the last bit on one machine and number of threads.
        Raises: ValueError.
        """
        channels = images.shape[-1]
        small = thumbnails(images, channels)
        if labels.shape != images.shape[:1] or labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"labels: expected one of 0 to {classes - 1} for each of {len(images)} images")
        targets = torch.from_numpy(labels.astype(np.int64))
        network = _network(channels, classes, seed)
        optimiser = torch.optim.AdamW(network.parameters())
        draw = np.random.default_rng(seed)
        steps = min(steps, -(-EPOCHS * len(images) // BATCH))
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
            rows = draw.integers(len(images), size=BATCH)
            loss = functional.cross_entropy(network(to_pixels(small[rows])), targets[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        return cls(network.eval(), channels)

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        """images: (N, H, W, C) uint8, C as trained. Returns (N, dim) float32. Raises: ValueError."""
        return by_batch(self._network[:-1], thumbnails(images, self._channels), self._channels)

    def classes(self, images: Images) -> npt.NDArray[np.int64]:
        """The class that the classifier names for each of the images (N, H, W, C) uint8: (N,). Raises: ValueError."""
        logits = by_batch(self._network, thumbnails(images, self._channels), self._channels)
        classes: npt.NDArray[np.int64] = logits.argmax(1)
        return classes

    def accuracy(self, images: Images, labels: npt.NDArray[np.int64]) -> float:
        """Share of the images (N, H, W, C) uint8 whose labels (N,) the classifier names."""
        return float((self.classes(images) == labels).mean())


class InceptionFeatures:
    """What a TorchScript network that the user has, called as NVIDIA's `inception-2015-12-05.pt`, makes of images.

    With that file, the Frechet distance is the FID of published figures (2048 entries; its hash is that of the file).
    """

    name = "inception"

    def __init__(self, file: Path) -> None:
        """Raises: ValueError, if the file is missing, no TorchScript, or does not turn images into rows of floats."""
        try:
            self.hash = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, the format of the published file
                self._network = torch.jit.load(file, map_location="cpu").eval()  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"inception: cannot read {file} as TorchScript: {_line(error, 0)}") from error
        try:
            rows = by_batch(self._rows, np.zeros((2, 64, 64, 3), np.uint8), 3)
        except (AttributeError, RuntimeError, TypeError, torch.jit.Error) as error:
            raise ValueError(f"inception: {file} takes no images: {_line(error, -1)}") from error
        if rows.ndim != 2 or len(rows) != 2 or not np.issubdtype(rows.dtype, np.floating):
            raise ValueError(f"inception: {file} gave {rows.dtype} {rows.shape} for 2 images, expected floats (2, D)")
        self.dim = rows.shape[1]

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        """images: (N, H, W, 1 or 3) uint8. Returns (N, dim) float32. Raises: ValueError."""
        channels = 1 if images.shape[-1:] == (1,) else 3
        return by_batch(self._rows, images, channels, INCEPTION_BATCH).astype(np.float32, copy=False)

    def _rows(self, pixels: Tensor) -> Tensor:
        levels = pixels.add(1).mul(127.5).round().byte().expand(-1, 3, -1, -1).contiguous()
        rows: Tensor = self._network(levels, return_features=True)
        return rows


def _line(error: Exception, number: int) -> str:
    """TorchScript's messages are long: readers say first what is wrong, networks last."""
    return str(error).strip().split("\n")[number]


def _hash(weights: Iterable[Tensor]) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in weights)).hexdigest()[:12]


def _network(channels: int, classes: int, seed: int) -> nn.Sequential:
    """The classifier to be, its weights decided by `seed`."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for before, after in pairwise((channels, *CLASSIFIER_WIDTHS)):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        head = nn.Linear(CLASSIFIER_WIDTHS[-1], classes)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def thumbnails(images: Images, channels: int) -> Images:
    """Images no larger than CLASSIFIER_SIZE, by averages over areas."""
    size = [min(pixels, CLASSIFIER_SIZE) for pixels in images.shape[1:3]]

    def shrink(pixels: Tensor) -> Tensor:
        small = functional.interpolate(pixels, size, mode="area")
        return small.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1)

    return by_batch(shrink, images, channels)


@torch.inference_mode()
def by_batch(
    compute: Callable[[Tensor], Tensor], images: Images, channels: int, most: int = BATCH_PIXELS
) -> npt.NDArray[Any]:
    """What `compute` makes of the pixels of all images, of a few and at `most` so many at a time.

    Raises: ValueError, if there are no images, or they are not (N, H, W, channels) uint8.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != channels or not images.size:
        raise ValueError(f"images: got {images.dtype} {images.shape}, expected uint8 (N, H, W, {channels}) with N > 0")
    size = min(most, max(1, BATCH_PIXELS // (images.shape[1] * images.shape[2])))
    parts = [compute(to_pixels(images[start : start + size])) for start in range(0, len(images), size)]
    return torch.cat(parts).numpy()


def to_pixels(images: Images) -> Tensor:
    """Images as networks see them: (N, H, W, C) uint8. Returns (N, C, H, W) float32 in [-1, 1], in NHWC order in memory."""
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2).div_(127.5).sub_(1)
