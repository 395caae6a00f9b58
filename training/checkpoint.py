"""Where a training can be continued: one file, replaced whole.

    Learner.state() -> checkpoint.safetensors -> Learner.load()

Knows tensors by name, nothing of what they are.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.errors import RunFolderError

FILE = "checkpoint.safetensors"


def save(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write `state` into `folder`; whoever is cut off while writing leaves the last one as it was."""
    temporary = folder / f".{FILE}.writing"
    save_file({name: value.contiguous() for name, value in state.items()}, temporary)
    temporary.replace(folder / FILE)


def load(folder: Path) -> dict[str, Tensor]:
    """Raises: RunFolderError, if there is no checkpoint that can be read."""
    if not (folder / FILE).is_file():
        raise RunFolderError(f"{folder}: no {FILE} to continue from; it is written every --checkpoint-every images")
    try:
        return load_file(folder / FILE)
    except SafetensorError as error:
        raise RunFolderError(f"{folder}/{FILE} cannot be read: {error}") from None
