"""onnxruntime on the CPU, with the options that every server and contender has; it is all that this needs."""

from pathlib import Path

import onnxruntime


def open_session(graph: str | Path | bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session of so many threads that do not spin while they wait."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
