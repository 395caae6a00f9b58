"""Images: a NumPy array of drawn pictures that knows where each comes from, and how to show and save itself.

    (N, H, W, C) uint8 -> [...] -> the same with the facts of those that are left

A leaf: knows NumPy and Pillow, not the network. Training and export draw their sample grids with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from figment.images.grid import grid, save
from figment.imaging import UnreadablePicture, flatten


@dataclass(frozen=True)
class Timing:
    """Where a reply's time went: waiting, engine runs, encoding; `batch_size` images were in the first of those runs."""

    queue_s: float
    compute_s: float
    encode_s: float
    batch_size: int

    def __add__(self, later: "Timing") -> "Timing":
        """Of several replies to one request, in their order."""
        return Timing(
            self.queue_s + later.queue_s,
            self.compute_s + later.compute_s,
            self.encode_s + later.encode_s,
            self.batch_size,
        )


class Images(np.ndarray[Any, np.dtype[np.uint8]]):
    """(N, H, W, C) uint8, C = 1 (grey) or 3 (RGB), with what they were drawn from and by; a single picture is (H, W, C).

    seed      None where they were not drawn from one: decoded, reconstructed, read from files
    indices   each image's number in its seed, without a seed in the reply or array that it was in
    labels    each image's class, [] where there are none
    model, version, engine   what drew them: `engine` is the server's fingerprint of graph, variant, device and runtime
    timing    of the whole reply; None where there was none

    Choosing images keeps these of the chosen ones: images[5], images[2:8], images[::-1], images[mask], images[[3, 1]].
    So do copies and pickles. Whatever makes other pictures, a crop or a sum, has none: `indices` is [] and `seed` None.
    Arithmetic gives plain arrays.
    """

    seed: int | None
    model: str
    version: str
    engine: str
    timing: Timing | None
    _indices: npt.NDArray[np.uint64] | None
    _labels: npt.NDArray[np.uint32] | None

    def __new__(
        cls,
        array: npt.ArrayLike,
        *,
        seed: int | None = None,
        first_index: int = 0,
        indices: Sequence[int] | None = None,
        labels: Sequence[int] | None = None,
        model: str = "",
        version: str = "",
        engine: str = "",
        timing: Timing | None = None,
    ) -> Self:
        """View an array as images, without a copy. Without `indices` they are numbered from first_index on.

        Raises: ValueError, if it is not uint8, or there are more or fewer indices or labels than images.
        """
        pixels = np.asarray(array)
        if pixels.dtype != np.uint8:  # A cast would wrap 256 to 0 and cut 0.9 to 0 without a word.
            raise ValueError(f"images: got {pixels.dtype}, allowed is uint8; scale and round first")
        count = len(pixels) if pixels.ndim == 4 else 1
        images = pixels.view(cls)
        images.seed, images.model, images.version, images.engine, images.timing = seed, model, version, engine, timing
        if indices is None:
            images._indices = np.uint64(first_index) + np.arange(count, dtype=np.uint64)
        else:
            images._indices = np.array(indices, np.uint64)
        images._labels = None if labels is None or not len(labels) else np.array(labels, np.uint32)
        for name, given in (("indices", images._indices), ("labels", images._labels)):
            if given is not None and len(given) != count:
                raise ValueError(f"{name}: got {len(given)}, allowed are {count}, one an image")
        return images

    @property
    def indices(self) -> list[int]:
        """Each image's number in its seed; [] of pictures made from others."""
        return [] if self._indices is None else self._indices.tolist()

    @property
    def labels(self) -> list[int]:
        """Each image's class; [] where there are none."""
        return [] if self._labels is None else self._labels.tolist()

    @property
    def first_index(self) -> int:
        """The first of `indices`, 0 where there are none."""
        return 0 if self._indices is None or not len(self._indices) else int(self._indices[0])

    def __array_finalize__(self, source: Any) -> None:
        self._forget()

    def _forget(self) -> None:
        self.seed = self.timing = self._indices = self._labels = None
        self.model = self.version = self.engine = ""

    def __getitem__(self, key: Any) -> Any:
        chosen = super().__getitem__(key)
        if not isinstance(chosen, Images) or self._indices is None:
            return chosen
        parts = list(key) if isinstance(key, tuple) else [key]
        while parts and (parts[-1] is Ellipsis or (isinstance(parts[-1], slice) and parts[-1] == slice(None))):
            parts.pop()
        if not parts or (self.ndim == 3 and len(parts) == 1 and parts[0] is None):
            chosen.__dict__.update(self.__dict__)
        elif self.ndim == 4 and len(parts) == 1 and np.ndim(parts[0]) <= 1:
            indices = np.asarray(self._indices[parts[0]])
            if indices.ndim <= 1:
                labels = None if self._labels is None else np.atleast_1d(self._labels[parts[0]])
                chosen.__dict__.update({**self.__dict__, "_indices": np.atleast_1d(indices), "_labels": labels})
        return chosen

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._forget()

    def sort(self, *arguments: Any, **options: Any) -> None:
        """As arrays do; what was made of other images' numbers is nobody's image any more."""
        super().sort(*arguments, **options)
        self._forget()

    def partition(self, *arguments: Any, **options: Any) -> None:
        """As `sort`."""
        super().partition(*arguments, **options)
        self._forget()

    def fill(self, value: Any) -> None:
        """As `sort`."""
        super().fill(value)
        self._forget()

    def put(self, *arguments: Any, **options: Any) -> None:
        """As `sort`."""
        super().put(*arguments, **options)
        self._forget()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(each) if isinstance(each, Images) else each for each in inputs]
        outputs = options.get("out") or (None,) * ufunc.nout
        if "out" in options:
            options["out"] = tuple(np.asarray(each) if isinstance(each, Images) else each for each in outputs)
        for each in (*outputs, *(inputs[:1] if method == "at" else ())):
            if isinstance(each, Images):
                each._forget()
        made = getattr(ufunc, method)(*plain, **options)
        if ufunc.nout == 1:
            return made if outputs[0] is None else outputs[0]
        return tuple(new if given is None else given for new, given in zip(made, outputs, strict=True))

    def astype(self, *arguments: Any, **options: Any) -> Any:
        """Other numbers, so a plain array."""
        return np.asarray(self).astype(*arguments, **options)

    def copy(self, order: Any = "C") -> Self:
        """The same images and facts in memory of their own."""
        copied = super().copy(order)
        copied.__dict__.update(self.__dict__)
        return copied

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        make, arguments, state = cast(tuple[Any, Any, Any], super().__reduce__())
        return make, arguments, (state, self.__dict__)

    def __setstate__(self, state: Any) -> None:
        pixels, facts = state
        super().__setstate__(pixels)
        self.__dict__.update(facts)

    @classmethod
    def open(cls, paths: Iterable[str | Path], channels: int, value_range: tuple[float, float] | None = None) -> Self:
        """Read picture files of one size as training and server do: turned by EXIF, alpha over black, grey (1) or RGB (3).

        value_range: what is black and white in pictures of more than 8 bits a channel; by default as their files say.

        Raises: ValueError, if their sizes differ, there is none, or one is damaged or of no known range; OSError, if one
            cannot be read or is no picture.
        """
        pictures = []
        for path in paths:
            with Image.open(path) as file:
                try:
                    picture = flatten(file, value_range).convert("L" if channels == 1 else "RGB")
                except UnreadablePicture as error:
                    raise UnreadablePicture(f"{path}: {error}") from error
            pictures.append(np.asarray(picture).reshape(picture.height, picture.width, channels))
        if len({picture.shape for picture in pictures}) != 1:
            sizes = sorted({f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures})
            raise ValueError(f"images: got files of {', '.join(sizes) or 'no size'}, allowed are files of one size")
        return cls(np.stack(pictures))

    def grid(self, columns: int | None = None) -> Image.Image:
        """As `figment.images.grid`."""
        return grid(self, columns)

    def save(self, path: str | Path, columns: int | None = None) -> Path:
        """As `figment.images.save`, where pictures in a folder are named by seed, if there is one, and index: 7-000012.png."""
        seed = "" if self.seed is None else f"{self.seed}-"
        return save(self, path, columns, [f"{seed}{index:06d}" for index in self.indices])
