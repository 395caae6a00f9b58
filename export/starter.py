"""The starter models: one of drawings in colour that comes ready-made, three trained on scikit-learn's digits.

    READY - models that are there -> copies -> models folder
    STARTERS - models that are there -> [process: train -> export] ... -> models folder, two at a time on two CPU cores

Run as `python -m export.starter models`, as `make serve` does; where no starter is missing it does nothing, at once.
"""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process
from multiprocessing.managers import SyncManager
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, NoReturn

from export.bundle import model_folder, new_version, versions
from export.errors import ExportError
from figment.machine import usable_cpus
from training.errors import TrainingError
from training.progress import progress_lines
from training.settings import TrainSettings

if TYPE_CHECKING:
    from training.trainer import Progress

STARTERS: dict[str, dict[str, Any]] = {
    "digits-gan": {"family": "gan", "images": 64_000},
    "digits-hybrid": {"family": "hybrid", "images": 48_000},
    "digits-vae": {"family": "vae", "images": 28_000},
}
"""Settings by name, the longest training first, so that two processes end at about the same time."""

READY = Path(__file__).parent / "ready"
"""A folder of models as they are served; how each was trained stands in its README. An hour is no first minute."""

COMMON = {"data": "digits", "preset": "tiny", "batch": 32, "seed": 0, "device": "cpu", "threads": 1}

POLL_S = 0.2


def missing_starters(models: Path) -> list[str]:
    """Starter models to make: those that are not in `models`, none if somebody else's models are there.

    A model is a folder with a version in it: what a cut off export or a file manager left is none.
    """
    present = (
        {path.name for path in models.iterdir() if path.name[0] != "." and versions(path)} if models.is_dir() else set()
    )
    starters = [*ready_made(), *STARTERS]
    return [] if present - set(starters) else [name for name in starters if name not in present]


def ready_made() -> list[str]:
    """Names of the starters that are copied."""
    return sorted(path.name for path in READY.iterdir() if versions(path))


def copy_ready(models: Path, name: str) -> Path:
    """Publish a ready-made starter in `models`; returns its folder. Raises: BundleError."""
    with model_folder(models, name) as folder, new_version(folder) as (unfinished, version):
        shutil.copytree(READY / name / "1", unfinished, dirs_exist_ok=True)
    return folder / version


def make_starters(models: Path, names: list[str]) -> None:
    """Train and export the named starters into `models`, as many at once as there are CPUs, a thread for each."""
    context = get_context("spawn")  # forking would copy torch's thread pools
    manager = SyncManager(ctx=context)
    manager.start(_end_with_parent)
    with (
        manager,
        tempfile.TemporaryDirectory(prefix="figment-starter-") as runs,
        progress_lines() as lines,
        ProcessPoolExecutor(min(len(names), usable_cpus()), context, _end_with_parent) as pool,
        _none_left_after_an_error(),
    ):
        queue: Queue[tuple[str, Progress]] = manager.Queue()
        tasks = {name: lines.add_task(f"{name}: waiting", total=STARTERS[name]["images"]) for name in names}
        results = []
        for name in names:
            settings = TrainSettings.model_validate({**COMMON, **STARTERS[name], "out": Path(runs) / name})
            results.append(pool.submit(_make, name, settings, models, queue))
        while not all(result.done() for result in results) or not queue.empty():
            try:
                name, now = queue.get(timeout=POLL_S)
            except Empty:
                continue
            doing = "exporting" if now.images == now.total else "training"
            lines.update(tasks[name], completed=now.images, description=f"{name}: {doing}")
        for result in results:
            result.result()


@contextmanager
def _none_left_after_an_error() -> Iterator[None]:
    """End all children when the block is left by an exception, a signal's included: the pool would wait for its trainings."""
    try:
        yield
    except BaseException:
        for child in active_children():
            child.kill()
        raise


def _end_with_parent() -> None:
    """Have this process end when its parent does, however that ends."""
    parent = parent_process()
    assert parent, "this is a child"

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _stop(number: int, frame: object) -> NoReturn:
    """End as by signal `number`, but with nothing left behind."""
    sys.exit(128 + number)


def _make(name: str, settings: TrainSettings, models: Path, queue: "Queue[tuple[str, Progress]]") -> None:
    """Train and export one starter, in a process of its own."""
    # torch and onnx are not imported before: where no starter is missing, a server should start at once.
    from export.publish import make_and_publish
    from export.source import from_run
    from training.trainer import train

    started_s = time.monotonic()
    train(settings, lambda now: queue.put((name, now)))
    trained_s = time.monotonic()
    folder = make_and_publish(lambda: from_run(settings.out), models, name).folder
    exported_s = time.monotonic()
    print(f"{folder}: trained in {trained_s - started_s:.0f} s, exported in {exported_s - trained_s:.0f} s", flush=True)


def main(arguments: list[str]) -> None:
    """Make the starters that are missing in the folder given, `models` by default."""
    models = Path(arguments[0] if arguments else "models")
    if names := missing_starters(models):
        if models.is_dir() and not os.access(models, os.W_OK):
            problem = f"{models}: user {os.getuid()} may not write there"
            sys.exit(f"{problem}; FIGMENT_UID and FIGMENT_GID say who a container is: its owner's id -u and id -g")
        for stop in ("SIGTERM", "SIGHUP"):  # the latter not on Windows
            if hasattr(signal, stop):
                signal.signal(getattr(signal, stop), _stop)
        started_s = time.monotonic()
        try:
            for name in ready_made():
                if name in names:
                    print(f"{copy_ready(models, name)}: ready-made", flush=True)
            if trained := [name for name in names if name in STARTERS]:
                make_starters(models, trained)
        except (TrainingError, ExportError) as error:
            sys.exit(f"{models}: {error}")
        print(f"{len(names)} starter models in {time.monotonic() - started_s:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
