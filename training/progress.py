"""How far trainings are: lines on a terminal, bars that move; elsewhere, as in a log, a line now and then.

    train(settings, report) -> Progress -> a line
    pictures -> counted() -> pictures, and a line where they take long

Knows rich, not what is trained.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from training import loop

LINE_S = 30.0
"""Seconds between two lines of a log."""

FIRST_S = 5.0
"""Seconds until a line says that pictures are being read."""

_Item = TypeVar("_Item")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} images/s", style="progress.data.speed")


@contextmanager
def progress_lines() -> Iterator[Progress]:
    """Lines on standard error while the block runs; silent where nobody watches."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def told(what: str, total: int) -> Iterator[Callable[["loop.Progress"], None]]:
    """What a training reports to while the block runs: a bar on a terminal, else a line every LINE_S."""
    if not sys.stderr.isatty():
        yield _Log(what)
        return
    with progress_lines() as progress:
        task = progress.add_task(what, total=total)

        def show(now: "loop.Progress") -> None:
            progress.update(task, completed=now.images, total=now.total, description=what + _threads(now))

        yield show


def counted(what: str, pictures: Iterable[_Item]) -> Iterator[_Item]:
    """`pictures` as they come; after FIRST_S, and then every LINE_S, a line says how many there were."""
    next_s = time.monotonic() + FIRST_S
    for count, picture in enumerate(pictures, 1):
        yield picture
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + LINE_S
            say(f"{what}: {count:,} pictures read so far")


def say(line: str) -> None:
    """Print `line` on standard error, above the bars if there are any."""
    with suppress(OSError):  # whoever read it has gone; the training goes on, or is about to be saved
        print(line, file=sys.stderr, flush=True)


class _Log:
    def __init__(self, what: str) -> None:
        self._what = what
        self._next_s = time.monotonic() + LINE_S

    def __call__(self, now: "loop.Progress") -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + LINE_S
            left_s = (now.total - now.images) / max(now.images_per_s, 1e-9)
            say(
                f"{self._what}: {now.images} of {now.total} images, {now.images_per_s:.0f}/s, "
                f"{left_s / 60:.1f} minutes left{_threads(now)}"
            )


def _threads(now: "loop.Progress") -> str:
    return f", {now.threads} CPU thread{'s' if now.threads > 1 else ''}" if now.threads else ""
