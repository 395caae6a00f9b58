"""Pieces of Markdown tables."""

from collections.abc import Iterator, Sequence
from statistics import median


def head(*columns: str) -> Iterator[str]:
    """The line of names and the line below it."""
    yield row(*columns)
    yield "|" + "---|" * len(columns)


def row(*cells: str) -> str:
    """One line."""
    return "| " + " | ".join(cells) + " |"


def spread(values: Sequence[float]) -> str:
    """Median, smallest and largest."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
