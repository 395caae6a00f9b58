"""OpenVINO as a contender that reads ONNX files, tuned for the latency of one request at a time.

    ONNX file -> compile_model for the CPU, sums in float32 -> one request, results in OpenVINO's own memory

Run as a contender's process: `python -m benchmarks.peers.openvino.draw SETTINGS`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import openvino  # type: ignore[import-not-found]

from benchmarks.export.orders import Drawer, Inputs, obey


class OpenVinoDrawer:
    """One compiled graph for all batch sizes."""

    def __init__(self, graph: str, threads: int) -> None:
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()

    def warm(self, inputs: Inputs) -> str:
        """One run."""
        self.draw(inputs)
        return ""

    def draw(self, inputs: Inputs) -> npt.NDArray[np.uint8]:
        """One run, nothing copied; the images are there until the next."""
        images: npt.NDArray[np.uint8] = self._request.infer(inputs, share_inputs=True, share_outputs=True)[0]
        return images


def _make(settings: dict[str, Any]) -> Drawer:
    return OpenVinoDrawer(settings["graph"], settings["threads"])


if __name__ == "__main__":
    obey(_make)
