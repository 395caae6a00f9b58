"""What the peers' servers have in common: the options of their command lines, and how their workers run the graph.

options -> opened() in each worker -> draw(): requests of different sizes in one batch -> pixels of each
"""

import argparse

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.shared.session import open_session

RUN_IMAGES = 64
"""The most images of a run; past them it only becomes slower."""


def arguments() -> argparse.ArgumentParser:
    """What every peer is told, and how many workers share the threads: by default each has one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--workers", type=int)
    return parser


def opened(options: argparse.Namespace) -> onnxruntime.InferenceSession:
    """A worker's session, with its part of the threads."""
    return open_session(options.graph, max(1, options.threads // (options.workers or options.threads)))


def draw(session: onnxruntime.InferenceSession, requests: list[npt.NDArray[np.float32]]) -> list[bytes]:
    """The pixels of each request, its noise (n, noise_dim)."""
    noise = np.concatenate(requests)
    starts = range(0, len(noise), RUN_IMAGES)
    runs = [session.run(None, {"noise": noise[start : start + RUN_IMAGES]})[0] for start in starts]
    images = runs[0] if len(runs) == 1 else np.concatenate(runs)
    ends = np.cumsum([len(request) for request in requests])
    return [images[end - len(request) : end].tobytes() for end, request in zip(ends, requests, strict=True)]
