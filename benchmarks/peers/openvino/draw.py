"""OpenVINO as a contender that reads ONNX files, tuned for the latency of one request at a time.

    ONNX file -> compile_model for the CPU, sums in float32 -> one request, results in OpenVINO's own memory

Run as a contender's process: `python -m benchmarks.peers.openvino.draw SETTINGS`.
"""

from typing import Any

import openvino  # type: ignore[import-not-found]

from benchmarks.export.orders import Draw, obey


def _make(settings: dict[str, Any]) -> dict[str, Draw]:
    """One compiled graph for all batch sizes; nothing is copied, the images are there until the next."""
    options = {
        "INFERENCE_NUM_THREADS": settings["threads"],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(settings["graph"], "CPU", options).create_infer_request()
    return {"": lambda inputs: request.infer(inputs, share_inputs=True, share_outputs=True)[0]}


if __name__ == "__main__":
    obey(_make)
