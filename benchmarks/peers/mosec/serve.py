"""The graph behind mosec: a Rust HTTP front, worker processes in Python.

    POST /inference: float32 noise -> [batch] -> onnxruntime -> uint8 pixels

Batching counts requests: whatever waits, at most --max-batch, without delay. `append_worker` takes 1 ms as the least
max_wait_time and mosec's own option --wait less: with 0 a lone request is answered 1 ms earlier and as many a second.
A worker of one thread for each core took 20% less CPU than one worker of two threads. The graph is run on at most
RUN_IMAGES images, past which a run only becomes slower.
"""

import argparse
import sys

import numpy as np
import numpy.typing as npt
import onnxruntime
from mosec import Server, Worker  # type: ignore[import-not-found]

RUN_IMAGES = 64

parser = argparse.ArgumentParser()
parser.add_argument("--graph", required=True)
parser.add_argument("--port", required=True, help="read by mosec itself")
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--max-batch", type=int, default=64)
parser.add_argument("--workers", type=int)
parser.add_argument("--wait-ms", type=int, default=0)
options, _ = parser.parse_known_args()
workers = options.workers or options.threads


class Drawing(Worker):  # type: ignore[misc]
    """One worker process; bytes come and go as they are, so nothing is encoded."""

    def __init__(self) -> None:
        super().__init__()
        chosen = onnxruntime.SessionOptions()
        chosen.intra_op_num_threads = max(1, options.threads // workers)
        chosen.inter_op_num_threads = 1
        chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(options.graph, chosen, providers=["CPUExecutionProvider"])
        self.noise_dim = self.session.get_inputs()[0].shape[1]

    def deserialize(self, data: bytes) -> npt.NDArray[np.float32]:
        """Noise (n, noise_dim)."""
        return np.frombuffer(data, np.float32).reshape(-1, self.noise_dim)

    def serialize(self, data: bytes) -> bytes:
        """Pixels as they are."""
        return data

    def forward(self, data: list[npt.NDArray[np.float32]]) -> list[bytes]:
        """A batch of requests."""
        noise = np.concatenate(data)
        runs = [
            self.session.run(None, {"noise": noise[start : start + RUN_IMAGES]})[0]
            for start in range(0, len(noise), RUN_IMAGES)
        ]
        images = runs[0] if len(runs) == 1 else np.concatenate(runs)
        replies, start = [], 0
        for request in data:
            replies.append(images[start : start + len(request)].tobytes())
            start += len(request)
        return replies


if __name__ == "__main__":
    # mosec reads the command line too, in the workers as well, and skips what it does not know.
    sys.argv += ["--address", "127.0.0.1", "--log-level", "error", "--timeout", "60000"]
    sys.argv += ["--wait", str(options.wait_ms)]
    server = Server()
    server.append_worker(Drawing, num=workers, max_batch_size=options.max_batch, max_wait_time=options.wait_ms)
    server.run()
