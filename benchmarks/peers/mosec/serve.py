"""The graph behind mosec: a Rust HTTP front, worker processes in Python.

    POST /inference: float32 noise -> [batch] -> onnxruntime -> uint8 pixels

Batching counts requests: whatever waits, at most --max-batch, without delay. `append_worker` takes 1 ms as the least
max_wait_time and mosec's own option --wait less: with 0 a lone request is answered 1 ms earlier and as many a second.
A worker of one thread for each core took 20% less CPU than one worker of two threads.
"""

import sys

import numpy as np
import numpy.typing as npt
from mosec import Server, Worker  # type: ignore[import-not-found]

from benchmarks.peers.worker import draw, options
from benchmarks.shared.session import open_session

OPTIONS = options()


class Drawing(Worker):  # type: ignore[misc]
    """One worker process; bytes come and go as they are, so nothing is encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.session = open_session(OPTIONS.graph, 1)
        self.noise_dim = self.session.get_inputs()[0].shape[1]

    def deserialize(self, data: bytes) -> npt.NDArray[np.float32]:
        """Noise (n, noise_dim)."""
        return np.frombuffer(data, np.float32).reshape(-1, self.noise_dim)

    def serialize(self, data: bytes) -> bytes:
        """Pixels as they are."""
        return data

    def forward(self, data: list[npt.NDArray[np.float32]]) -> list[bytes]:
        """A batch of requests."""
        return draw(self.session, data)


if __name__ == "__main__":
    # mosec reads the command line too, in the workers as well, and skips what it does not know.
    sys.argv += ["--address", "127.0.0.1", "--log-level", "error", "--timeout", "60000", "--wait", "0"]
    server = Server()
    server.append_worker(Drawing, num=OPTIONS.threads, max_batch_size=OPTIONS.max_batch, max_wait_time=0)
    server.run()
