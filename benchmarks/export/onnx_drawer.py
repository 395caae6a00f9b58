"""onnxruntime as a contender, with the session options of the servers.

Run as a contender's process: `python -m benchmarks.export.onnx_drawer SETTINGS`.
"""

from typing import Any

from benchmarks.export.orders import Draw, obey
from benchmarks.shared.session import open_session


def _make(settings: dict[str, Any]) -> dict[str, Draw]:
    """One session for all batch sizes."""
    session = open_session(settings["graph"], settings["threads"])
    return {"": lambda inputs: session.run(None, inputs)[0]}


if __name__ == "__main__":
    obey(_make)
