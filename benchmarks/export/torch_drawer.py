"""PyTorch as a contender, eager or by torch.compile.

    run folder -> Drawing, contiguous and channels_last -> the quicker one at each batch size

Run as a contender's process: `python -m benchmarks.export.torch_drawer SETTINGS`.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.drawing import drawing_of
from benchmarks.export.orders import Drawer, Inputs, measure, obey
from training.model import Model

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

WARM_TURNS = 3
WARM_S = 0.25
"""Each layout is tried in that many turns of that many seconds; the one with the least CPU an image in any is kept."""


class TorchDrawer:
    """The generator of a run in one layout."""

    def __init__(self, module: Callable[..., Tensor]) -> None:
        self._module = module

    def warm(self, inputs: Inputs) -> str:
        """One run."""
        self.draw(inputs)
        return ""

    @torch.inference_mode()
    def draw(self, inputs: Inputs) -> npt.NDArray[np.uint8]:
        """From and to numpy without copying."""
        images: npt.NDArray[np.uint8] = self._module(*(torch.from_numpy(array) for array in inputs.values())).numpy()
        return images


class BestLayout:
    """At each batch size the drawer that was quickest at warm-up."""

    def __init__(self, drawers: dict[str, TorchDrawer]) -> None:
        self._drawers = drawers
        self._chosen: dict[int, TorchDrawer] = {}

    def warm(self, inputs: Inputs) -> str:
        """Try all layouts in turns, keep the one with the least CPU an image."""
        least_s = dict.fromkeys(self._drawers, float("inf"))
        for drawer in self._drawers.values():
            drawer.warm(inputs)
        for _ in range(WARM_TURNS):
            for layout, drawer in self._drawers.items():
                took = measure(drawer, [inputs], WARM_S)
                least_s[layout] = min(least_s[layout], took.cpu_s / took.images)
        chosen = min(least_s, key=lambda layout: least_s[layout])
        self._chosen[len(inputs["noise"])] = self._drawers[chosen]
        return chosen

    def draw(self, inputs: Inputs) -> npt.NDArray[np.uint8]:
        """A batch of a size that was warmed."""
        return self._chosen[len(inputs["noise"])].draw(inputs)


def _make(settings: dict[str, Any]) -> Drawer:
    torch.set_num_threads(settings["threads"])
    drawing = drawing_of(Model.load(Path(settings["run"])))
    drawers = {}
    for name, layout in LAYOUTS.items():
        module = deepcopy(drawing).to(memory_format=layout)  # type: ignore[call-overload]
        if settings["is_compiled"]:
            # Freezing lays weights out ahead, as torch's documentation has it for inference; shapes stay fixed.
            module = torch.compile(module, dynamic=False, options={"freezing": True})
        drawers[name] = TorchDrawer(module)
    return BestLayout(drawers)


if __name__ == "__main__":
    obey(_make)
