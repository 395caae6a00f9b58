"""What the peers' servers have in common: the options of their command lines, and how their workers run the graph.

options() -> a session in each worker -> draw(): requests of different sizes in one batch -> pixels of each
"""

import argparse

import numpy as np
import numpy.typing as npt
import onnxruntime

RUN_IMAGES = 64
"""The most images of a run; past them it only becomes slower."""


def options() -> argparse.Namespace:
    """What every peer is told; threads: workers of one thread each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", required=True)
    for name in ("--port", "--threads", "--max-batch"):
        parser.add_argument(name, type=int, required=True)
    return parser.parse_known_args()[0]  # mosec has options of its own, and reads --port itself


def draw(session: onnxruntime.InferenceSession, requests: list[npt.NDArray[np.float32]]) -> list[bytes]:
    """The pixels of each request, its noise (n, noise_dim)."""
    noise = np.concatenate(requests)
    starts = range(0, len(noise), RUN_IMAGES)
    runs = [session.run(None, {"noise": noise[start : start + RUN_IMAGES]})[0] for start in starts]
    images = runs[0] if len(runs) == 1 else np.concatenate(runs)
    ends = np.cumsum([len(request) for request in requests])
    return [images[end - len(request) : end].tobytes() for end, request in zip(ends, requests, strict=True)]
