"""`python -m benchmarks.serving.unmetered serve ...`: the figment command with metrics that count nothing but images."""

import sys
from typing import Any

from figment.cli.command import main
from server import app, child
from server.telemetry import metrics


class _Nothing:
    """Any metric: it takes what it is told, and keeps nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self


class Unmetered(metrics.Metrics):
    """All metrics; only the images, by which the load is measured, are counted."""

    def __init__(self) -> None:
        super().__init__()
        for name in vars(self):
            if not name.startswith("_") and name not in ("registry", "images"):
                setattr(self, name, _Nothing())


if __name__ == "__main__":
    patched: Any
    for patched in (app, child):
        patched.Metrics = Unmetered
    sys.exit(main(sys.argv[1:]))
