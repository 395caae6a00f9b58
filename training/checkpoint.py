"""Where a training can be continued: one file, replaced whole.

modules, optimisers -> tensors by name -> checkpoint.safetensors -> tensors by name -> modules, optimisers
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.errors import RunFolderError

FILE = "checkpoint.safetensors"

OF_OTHERS = "{folder}: the checkpoint is of other networks, or of another version: {error}"


def save(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write `state` into `folder`; whoever is cut off while writing leaves the last one as it was."""
    temporary = folder / f".{FILE}.writing"
    try:
        save_file({name: value.contiguous() for name, value in state.items()}, temporary)
        temporary.replace(folder / FILE)
    except (OSError, SafetensorError):
        temporary.unlink(missing_ok=True)  # half of one would keep a full disk full
        raise


def load(folder: Path) -> dict[str, Tensor]:
    """Raises: RunFolderError, if there is no checkpoint that can be read."""
    if not (folder / FILE).is_file():
        raise RunFolderError(f"{folder}: no {FILE} to continue from; it is written every --checkpoint-every images")
    try:
        return load_file(folder / FILE)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"{folder}/{FILE} cannot be read: {error}") from None


def tensors(modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Adam]) -> dict[str, Tensor]:
    """Weights, buffers and Adam's moments as <name>/<key>, of optimisers as <name>/<number of the weight>/<key>."""
    found = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for name, optimiser in optimisers.items():
        for row, weight in enumerate(optimiser.param_groups[0]["params"]):
            found |= {f"{name}/{row}/{key}": value for key, value in optimiser.state.get(weight, {}).items()}
    return found


def put_back(
    state: Mapping[str, Tensor], modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Adam]
) -> None:
    """Make modules and optimisers those that `tensors` saw.

    Raises: KeyError, RuntimeError, if they are of other shapes.
    """
    for name, module in modules.items():
        module.load_state_dict(part(state, name))
    for name, optimiser in optimisers.items():
        optimiser.state.clear()  # one that has not stepped by then has no moments
        for row, weight in enumerate(optimiser.param_groups[0]["params"]):
            if moments := part(state, f"{name}/{row}"):
                # In the weight's order of memory, which fused Adam takes for granted.
                likes = {key: torch.zeros_like(weight).copy_(moments[key]) for key in ("exp_avg", "exp_avg_sq")}
                optimiser.state[weight] = {"step": moments["step"].to(weight.device, copy=True), **likes}


def part(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """What `state` has below `name`."""
    return {key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")}
