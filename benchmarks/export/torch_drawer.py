"""PyTorch as a contender, eager or by torch.compile.

    run folder -> Drawing, contiguous and channels_last -> the quicker one at each batch size

Run as a contender's process: `python -m benchmarks.export.torch_drawer SETTINGS`.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.export.orders import Draw, Inputs, obey
from benchmarks.shared.drawing import LAYOUTS, drawing_of
from training.model import Model


def _make(settings: dict[str, Any]) -> dict[str, Draw]:
    torch.set_num_threads(settings["threads"])
    drawing = drawing_of(Model.load(Path(settings["run"])))
    return {layout: _form(drawing, layout, settings["is_compiled"]) for layout in LAYOUTS}


def _form(drawing: torch.nn.Module, layout: str, is_compiled: bool) -> Draw:
    module = deepcopy(drawing).to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    if is_compiled:
        # Freezing lays weights out ahead, as torch's documentation has it for inference; shapes stay fixed.
        module = torch.compile(module, dynamic=False, options={"freezing": True})

    @torch.inference_mode()
    def draw(inputs: Inputs) -> npt.NDArray[np.uint8]:
        """From and to numpy without copying."""
        images: npt.NDArray[np.uint8] = module(*map(torch.from_numpy, inputs.values())).numpy()
        return images

    return draw


if __name__ == "__main__":
    obey(_make)
