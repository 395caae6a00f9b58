"""Files of pretrained weights: where a package has laid them, and what is wrong with one that cannot be read.

    package's name, pattern -> file, or None          file -> its hash and weights by name

Nothing of a package is imported, and nothing in a file is run. Knows no network.
"""

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor


def packaged(package: str, pattern: str) -> Path | None:
    """The first file of a package that matches; None where it is not installed."""
    spec = find_spec(package)  # by its place
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob(pattern))), None)


@contextmanager
def reading(file: Path, whose: str) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The hash of the file, 12 hex digits, and what it holds, for a block that takes weights from it; whose: a network's name.

    Raises: ValueError, if the file cannot be read, or has not what the block takes, or has it in another shape.
    """
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        state = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping):
            raise ValueError(f"a {type(state).__name__}, expected weights by name")
        with torch.no_grad():
            yield digest, state
    except KeyError as error:
        raise ValueError(f"features: {file} has no {error}, so it is not {whose}'s") from None
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"features: cannot read {file} as {whose}'s weights: {error}") from error
