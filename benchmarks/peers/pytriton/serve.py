"""The graph behind Triton Inference Server, by NVIDIA's PyTriton: Triton's C++ front, the graph run in Python.

    ModelInfer: noise FP32 raw -> Triton's dynamic batcher -> onnxruntime -> images UINT8 raw

Batching counts images: at most --max-batch, whatever waits, no delay. An instance of one thread for each core gave 50%
more images than one of two threads at 16 images a request, and as many at 1. Triton's own onnxruntime backend would leave
Python out; it comes with NVIDIA's container only, not with a package, so it is not measured here. The bundle's
config.pbtxt lets it load the same graph.
"""

import logging
import socket
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnxruntime
from pytriton.decorators import batch  # type: ignore[import-not-found]
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor  # type: ignore[import-not-found]
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]

from benchmarks.peers.worker import options
from benchmarks.shared.session import open_session

OPTIONS = options()
logging.basicConfig(level=logging.ERROR)


def drawing(session: onnxruntime.InferenceSession) -> Callable[..., list[npt.NDArray[np.uint8]]]:
    """An instance of the model: noise (N, noise_dim) -> images (N, H, W, C)."""

    @batch  # type: ignore[untyped-decorator]
    def draw(noise: npt.NDArray[np.float32]) -> list[npt.NDArray[np.uint8]]:
        return [session.run(None, {"noise": noise})[0]]

    found: Callable[..., list[npt.NDArray[np.uint8]]] = draw
    return found


def free_port() -> int:
    """A port for Triton's HTTP, which nobody uses here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sessions = [open_session(OPTIONS.graph, 1) for _ in range(OPTIONS.threads)]
    noise_dim = sessions[0].get_inputs()[0].shape[1]
    shape = tuple(sessions[0].get_outputs()[0].shape[1:])
    config = TritonConfig(
        grpc_address="127.0.0.1",
        grpc_port=OPTIONS.port,
        http_address="127.0.0.1",
        http_port=free_port(),
        allow_metrics=False,
        log_verbose=0,
        grpc_infer_allocation_pool_size=64,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="generator",
            infer_func=[drawing(session) for session in sessions],
            inputs=[Tensor(name="noise", dtype=np.float32, shape=(noise_dim,))],
            outputs=[Tensor(name="images", dtype=np.uint8, shape=shape)],
            config=ModelConfig(
                max_batch_size=OPTIONS.max_batch, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
            ),
        )
        triton.serve()
