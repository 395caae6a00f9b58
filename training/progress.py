"""A progress line for each training: bar, images, rate and time left.

    train(settings, report) -> Progress -> a line on the terminal

Knows rich, not what is trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} images/s", style="progress.data.speed")


@contextmanager
def progress_lines() -> Iterator[Progress]:
    """Lines on standard error while the block runs; silent where nobody watches, since a log needs no bars."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress
