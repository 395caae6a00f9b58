"""The graph behind LitServe: uvicorn and FastAPI in front, worker processes in Python.

    POST /predict: float32 noise -> [batch] -> onnxruntime -> uint8 pixels

Batching counts requests: at most --max-batch, those that come within batch_timeout. Of what was tried on two cores (one
or two front processes, one or two workers, the queue in ZeroMQ or not, timeouts of 0, 1 and 5 ms) this is the best for
16 images a request and within the noise of the best for 1; a timeout of 0 polls without rest and is half as fast there.
"""

from typing import Annotated

import litserve  # type: ignore[import-not-found]
import numpy as np
import numpy.typing as npt
from fastapi import Body, Response  # type: ignore[import-not-found]

from benchmarks.peers.worker import draw, options
from benchmarks.shared.session import open_session

OPTIONS = options()


class Drawing(litserve.LitAPI):  # type: ignore[misc]
    """One worker process; bytes come and go as they are, so nothing is encoded."""

    def setup(self, device: str) -> None:
        """Called in the worker."""
        self.session = open_session(OPTIONS.graph, 1)
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
        return draw(self.session, requests)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """They are apart already."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """Pixels as they are."""
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    server = litserve.LitServer(
        Drawing(max_batch_size=OPTIONS.max_batch, batch_timeout=0.001),
        accelerator="cpu",
        devices=1,
        workers_per_device=OPTIONS.threads,
        timeout=60,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=OPTIONS.port,
        num_api_servers=2,
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )
