"""What a benchmark leaves: tables in Markdown, and its figures as JSON.

rows -> table() -> lines        dataclass -> save() -> JSON        all of it -> publish() -> files and stdout
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The line of names, the line below it, and a line for each row."""
    yield row(*columns)
    yield "|" + "---|" * len(columns)
    yield from (row(*cells) for cells in rows)


def row(*cells: str) -> str:
    """One line."""
    return "| " + " | ".join(cells) + " |"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, smallest and largest; "" where there are none."""
    if not values:
        return ""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def versions(packages: Mapping[str, str]) -> str:
    """Packages with their versions, commas between."""
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def publish(results: Any, lines: Iterable[str], figures: Path, tables: Path) -> None:
    """Write the figures of a dataclass and the lines of its tables, and print these."""
    save(results, figures)
    text = "\n".join(lines)
    tables.write_text(text + "\n")
    print(f"\n{text}\n\nwritten to {tables.parent}", flush=True)


def save(results: Any, path: Path) -> None:
    """Write a dataclass as JSON; figures that are not numbers become null."""
    path.write_text(json.dumps(_plain(asdict(results)), indent=1) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
