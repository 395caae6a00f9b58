"""One page that shows how good models are, and the figures of it for machines.

    Columns -> quality.json, report.html

The page stands alone: pictures and plots are inside it. One column is an evaluation, several a comparison.
"""

import base64
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import jinja2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from evaluation.figures import FIGURES, rows
from evaluation.model import Images
from evaluation.outputs import STEPS
from evaluation.reference import Reference
from evaluation.scorecard import Scorecard

SCALE_PIXELS = 512
"""Width that sample grids are enlarged to, about, by whole factors."""

NAME_LETTERS = 12
"""Letters of a class's name under a plot, which longer ones would leave no room for."""

COPIES = "The samples nearest to training images, and these below them"

FACTS = {"training": "stability: losses", "held_out": "images held out", "speed": "speed"}


@dataclass(frozen=True)
class Column:
    """A model on the page. facts: what its figures do not tell, by key of FACTS."""

    card: Scorecard
    facts: Mapping[str, str]


def write_report(
    folder: Path, columns: Sequence[Column], reference: Reference, data: Mapping[str, str | None] | None = None
) -> Path:
    """Write quality.json and report.html into `folder`; data: what the real images are known by. Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    judges = (judge.features for judge in reference.judges.values())
    record = {
        "judged_by": reference.judged_by,
        "features": {features.name: features.hash for features in chain(reference.features, judges)},
        "images": reference.images,
        "seed": reference.seed,
        "real": {
            "seen": len(reference.seen),
            "held_out": len(reference.held_out),
            "shape": list(reference.seen.images.shape[1:]),
            **(data or {}),
        },
        "models": {column.card.name: {"family": column.card.family, **_record(column.card)} for column in columns},
        "versions": {name: version(name) for name in ("torch", "numpy", "scikit-learn")},
    }
    (folder / "quality.json").write_text(json.dumps(record, indent=2) + "\n")
    loader = jinja2.PackageLoader("evaluation", ".")
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("report.html.jinja")
    page = folder / "report.html"
    page.write_text(
        template.render(columns=columns, reference=reference, tables=_tables(columns), shown=_shown(columns, reference))
    )
    return page


def _record(card: Scorecard) -> dict[str, float | str]:
    """Figures as JSON takes them; those that are not finite as in protobuf's."""
    names = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return {key: value if math.isfinite(value) else names.get(value, "NaN") for key, value in card.figures.items()}


def _tables(columns: Sequence[Column]) -> dict[str, list[tuple[str, str, list[str]]]]:
    """Rows of title, which is better, and a cell for each column; figures that no column has are left out."""
    values = [column.card.figures for column in columns]
    tables = {
        group: [(figure.title, figure.better, cells) for figure, cells in rows(figures, values)]
        for group, figures in FIGURES.items()
    }
    tables["training and speed"] = [
        (title, "", [column.facts.get(key, "unknown") for column in columns]) for key, title in FACTS.items()
    ]
    return tables


def _shown(columns: Sequence[Column], reference: Reference) -> list[tuple[str, list[str]]]:
    """Headings, and a picture for each column: data URLs, "" where a model has none."""
    pictures = [column.card.pictures for column in columns]
    real = reference.held_out.images[: len(pictures[0].samples)]
    shown = [("Samples", [_sample_grid(each.samples, 8) for each in pictures])]
    if any(each.originals is not None for each in pictures):
        pairs = [
            ""
            if each.originals is None or each.reconstructions is None
            else _sample_grid(np.concatenate([each.originals[:8], each.reconstructions[:8]]), 8)
            for each in pictures
        ]
        shown.append(("Held-out images above, their reconstructions below", pairs))
    shown.append(("Ways through the latent space", [_sample_grid(each.paths, STEPS) for each in pictures]))
    shown.append(("Power spectrum", [_spectrum(column.card, reference) for column in columns]))
    if any(each.class_counts is not None for each in pictures):
        shown.append(("Classes drawn", [_classes(column.card, reference) for column in columns]))
    if any(each.copies is not None for each in pictures):
        shown.append((COPIES, ["" if each.copies is None else _pairs(*each.copies) for each in pictures]))
    shown.append(("Real images", [_sample_grid(real, 8)]))
    return shown


def _pairs(above: Images, below: Images) -> str:
    """Rows of 8 images (N, H, W, C), each row with its partners below it."""
    rows = [each[start : start + 8] for start in range(0, len(above), 8) for each in (above, below)]
    return _sample_grid(np.concatenate(rows), 8)


def _sample_grid(images: Images, columns: int) -> str:
    """Images (N, H, W, C) row by row, enlarged by a whole factor."""
    count, height, width, channels = images.shape
    lines = -(-count // columns)
    grid = np.zeros((lines * columns, height + 1, width + 1, channels), np.uint8)
    grid[:count, :height, :width] = images
    grid = grid.reshape(lines, columns, height + 1, width + 1, channels).swapaxes(1, 2)
    grid = grid.reshape(lines * (height + 1), columns * (width + 1), channels)
    factor = max(1, SCALE_PIXELS // grid.shape[1])
    grid = grid.repeat(factor, axis=0).repeat(factor, axis=1)
    picture = Image.fromarray(grid[..., 0] if channels == 1 else grid)
    return _data_url(partial(picture.save, format="png"))


def _spectrum(card: Scorecard, reference: Reference) -> str:
    real, drawn = reference.spectrum, card.pictures.spectrum

    def draw(axes: Axes) -> None:
        axes.semilogy(real.frequencies, real.power, color="black", linewidth=1, label="real")
        axes.semilogy(drawn.frequencies, drawn.power, color="tab:red", linewidth=1.5, label="drawn")
        axes.set(xlabel="cycles / pixel", ylabel="power")

    return _plot(draw)


def _classes(card: Scorecard, reference: Reference) -> str:
    counts, labels = card.pictures.class_counts, reference.seen.labels
    if counts is None or labels is None:
        return ""
    real = np.bincount(labels, minlength=len(counts))
    place = np.arange(len(counts))

    def draw(axes: Axes) -> None:
        axes.bar(place, counts / counts.sum(), color="tab:red", alpha=0.7, label="drawn")
        axes.step(place, real / real.sum(), where="mid", color="black", linewidth=1, label="real")
        if len(counts) <= 20:
            names = [name[:NAME_LETTERS] for name in reference.seen.label_names]
            axes.set_xticks(place, names, rotation=45 if max(map(len, names)) > 2 else 0)
        axes.set(ylabel="share")

    return _plot(draw)


def _plot(draw: Callable[[Axes], None]) -> str:
    figure = Figure(figsize=(4.2, 3), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.legend()
    return _data_url(partial(figure.savefig, format="png", dpi=120))


def _data_url(save: Callable[[BinaryIO], None]) -> str:
    """save: writes a picture, as PNG."""
    png = io.BytesIO()
    save(png)
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
