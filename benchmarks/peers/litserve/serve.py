"""The graph behind LitServe: uvicorn and FastAPI in front, worker processes in Python.

    POST /predict: float32 noise -> [batch] -> onnxruntime -> uint8 pixels

Batching counts requests: at most --max-batch, those that come within batch_timeout. Of what was tried on two cores (one
or two front processes, one or two workers, the queue in ZeroMQ or not, timeouts of 0, 1 and 5 ms) this is the best for
16 images a request and within the noise of the best for 1; a timeout of 0 polls without rest and is half as fast there.
"""

import argparse
from typing import Annotated

import litserve  # type: ignore[import-not-found]
import numpy as np
import numpy.typing as npt
import onnxruntime
from fastapi import Body, Response  # type: ignore[import-not-found]

RUN_IMAGES = 64

parser = argparse.ArgumentParser()
parser.add_argument("--graph", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--max-batch", type=int, default=64)
parser.add_argument("--workers", type=int)
parser.add_argument("--servers", type=int, default=2)
parser.add_argument("--batch-timeout-s", type=float, default=0.001)
parser.add_argument("--fast-queue", type=int, default=1)
options = parser.parse_args()
workers = options.workers or options.threads


class Drawing(litserve.LitAPI):  # type: ignore[misc]
    """One worker process; bytes come and go as they are, so nothing is encoded."""

    def setup(self, device: str) -> None:
        """Called in the worker."""
        chosen = onnxruntime.SessionOptions()
        chosen.intra_op_num_threads = max(1, options.threads // workers)
        chosen.inter_op_num_threads = 1
        chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(options.graph, chosen, providers=["CPUExecutionProvider"])
        self.noise_dim = self.session.get_inputs()[0].shape[1]

    def decode_request(
        self, request: Annotated[bytes, Body(media_type="application/octet-stream")]
    ) -> npt.NDArray[np.float32]:
        """Noise (n, noise_dim)."""
        return np.frombuffer(request, np.float32).reshape(-1, self.noise_dim)

    def batch(self, inputs: list[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        """Requests stay apart until they are run, because their sizes differ."""
        return inputs

    def predict(self, requests: list[npt.NDArray[np.float32]]) -> list[bytes]:
        """A batch of requests."""
        noise = np.concatenate(requests)
        runs = [
            self.session.run(None, {"noise": noise[start : start + RUN_IMAGES]})[0]
            for start in range(0, len(noise), RUN_IMAGES)
        ]
        images = runs[0] if len(runs) == 1 else np.concatenate(runs)
        replies, start = [], 0
        for request in requests:
            replies.append(images[start : start + len(request)].tobytes())
            start += len(request)
        return replies

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """They are apart already."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """Pixels as they are."""
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    api = Drawing(max_batch_size=options.max_batch, batch_timeout=options.batch_timeout_s)
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        devices=1,
        workers_per_device=workers,
        timeout=60,
        fast_queue=bool(options.fast_queue),
    )
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=options.servers,
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )
