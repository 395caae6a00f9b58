"""The table of quality figures in quality.md: the rows of evaluation.figures."""

from collections.abc import Iterator
from itertools import chain

from evaluation.figures import FIGURES


def rows() -> Iterator[tuple[str, ...]]:
    """The head and all figures, in the order of reports."""
    yield "figure", "what it tells", "better"
    for figure in chain(*FIGURES.values()):
        yield f"`{figure.key}`", figure.meaning, figure.better
