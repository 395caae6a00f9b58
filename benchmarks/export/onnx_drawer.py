"""onnxruntime as a contender, with the session options of the servers.

Run as a contender's process: `python -m benchmarks.export.onnx_drawer SETTINGS`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bare import open_session
from benchmarks.export.orders import Drawer, Inputs, obey


class OnnxDrawer:
    """One session for all batch sizes."""

    def __init__(self, graph: str, threads: int) -> None:
        self._session = open_session(graph, threads)

    def warm(self, inputs: Inputs) -> str:
        """One run."""
        self.draw(inputs)
        return ""

    def draw(self, inputs: Inputs) -> npt.NDArray[np.uint8]:
        """One run."""
        images: npt.NDArray[np.uint8] = self._session.run(None, inputs)[0]
        return images


def _make(settings: dict[str, Any]) -> Drawer:
    return OnnxDrawer(settings["graph"], settings["threads"])


if __name__ == "__main__":
    obey(_make)
