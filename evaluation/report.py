"""One page that shows how good models are, and the figures of it for machines.

    Columns -> quality.json, report.html

The page stands alone: pictures and plots are inside it. One column is an evaluation, several a comparison.
"""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from evaluation.scorecard import STEPS, Judge, Scorecard
from evaluation.subject import Images

SCALE_PIXELS = 512
"""Width that sheets are enlarged to, about, by whole factors."""


NAME_LETTERS = 12
"""Letters of a class's name under a plot, which longer ones would leave no room for."""


class Row(NamedTuple):
    """A figure in the table. better: which values are, in a few words."""

    key: str
    title: str
    better: str
    digits: int = 3


GROUPS: dict[str, tuple[Row, ...]] = {
    "fidelity": (
        Row("fid", "FID", "lower"),
        Row("fid_clf", "Frechet distance, classifier", "lower"),
        Row("frechet_random", "Frechet distance, random features", "lower", 5),
        Row("precision", "precision", "higher"),
        Row("density", "density", "about 1"),
    ),
    "diversity": (
        Row("recall", "recall", "higher"),
        Row("coverage", "coverage", "higher"),
        Row("classes_missing", "classes missing", "0", 0),
        Row("class_kl_nats", "KL of the classes, nats", "lower", 4),
    ),
    "blur": (Row("detail", "energy above 0.25 cycles/pixel, by the real images'", "1"),),
    "latent structure": (
        Row("reconstruction_psnr_db", "reconstructions, PSNR in dB", "higher", 2),
        Row("reconstruction_ssim", "reconstructions, SSIM", "higher"),
        Row("probe_accuracy", "labels by a linear probe, accuracy", "higher"),
        Row("active_units", "active latent units", "", 0),
        Row("iwae_nats", "bound on log p(x), nats", "higher", 2),
        Row("interpolation_detour", "interpolation: way by its chord", "lower"),
        Row("interpolation_jump", "interpolation: largest step by the mean one", "lower"),
    ),
}
"""The rows of the table, by what they tell."""

FACTS = {"training": "stability: losses", "held_out": "images held out", "speed": "speed"}


@dataclass(frozen=True)
class Column:
    """A model on the page. facts: what its figures do not tell, by key of FACTS."""

    card: Scorecard
    facts: Mapping[str, str]


def write_report(
    folder: Path, columns: Sequence[Column], judge: Judge, data: Mapping[str, str | None] | None = None
) -> Path:
    """Write quality.json and report.html into `folder`; data: what the real images are known by. Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "judged_by": judge.judged_by,
        "features": {features.name: features.hash for features in judge.features},
        "images": judge.images,
        "seed": judge.seed,
        "real": {
            "seen": len(judge.seen),
            "held_out": len(judge.held_out),
            "shape": list(judge.seen.images.shape[1:]),
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
        template.render(columns=columns, judge=judge, tables=_tables(columns), shown=_shown(columns, judge))
    )
    return page


def _record(card: Scorecard) -> dict[str, float | str]:
    """Figures as JSON takes them; those that are not finite as in protobuf's."""
    names = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return {key: value if math.isfinite(value) else names.get(value, "NaN") for key, value in card.figures.items()}


def _tables(columns: Sequence[Column]) -> dict[str, list[tuple[str, str, list[str]]]]:
    """Rows of title, which is better, and a cell for each column; figures that no column has are left out."""
    tables = {}
    for group, rows in GROUPS.items():
        cells = [
            (row.title, row.better, [_cell(column.card.figures.get(row.key), row.digits) for column in columns])
            for row in rows
            if any(row.key in column.card.figures for column in columns)
        ]
        tables[group] = cells
    tables["training and speed"] = [
        (title, "", [column.facts.get(key, "unknown") for column in columns]) for key, title in FACTS.items()
    ]
    return tables


def _cell(figure: float | None, digits: int) -> str:
    return "-" if figure is None else f"{figure:.{digits}f}"


def _shown(columns: Sequence[Column], judge: Judge) -> list[tuple[str, list[str]]]:
    """Headings, and a picture for each column: data URLs, "" where a model has none."""
    pictures = [column.card.pictures for column in columns]
    real = judge.held_out.images[: len(pictures[0].samples)]
    shown = [("Samples", [_sheet(each.samples, 8) for each in pictures])]
    if any(each.originals is not None for each in pictures):
        pairs = [
            ""
            if each.originals is None or each.reconstructions is None
            else _sheet(np.concatenate([each.originals[:8], each.reconstructions[:8]]), 8)
            for each in pictures
        ]
        shown.append(("Held-out images above, their reconstructions below", pairs))
    shown.append(("Ways through the latent space", [_sheet(each.paths, STEPS) for each in pictures]))
    shown.append(("Power spectrum", [_spectrum(column.card, judge) for column in columns]))
    if any(each.class_counts is not None for each in pictures):
        shown.append(("Classes drawn", [_classes(column.card, judge) for column in columns]))
    shown.append(("Real images", [_sheet(real, 8)]))
    return shown


def _sheet(images: Images, columns: int) -> str:
    """Images (N, H, W, C) row by row, enlarged by a whole factor."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height + 1, width + 1, channels), np.uint8)
    sheet[:count, :height, :width] = images
    sheet = sheet.reshape(rows, columns, height + 1, width + 1, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + 1), columns * (width + 1), channels)
    factor = max(1, SCALE_PIXELS // sheet.shape[1])
    sheet = sheet.repeat(factor, axis=0).repeat(factor, axis=1)
    return _url(Image.fromarray(sheet[..., 0] if channels == 1 else sheet))


def _spectrum(card: Scorecard, judge: Judge) -> str:
    figure = Figure(figsize=(4.2, 3), layout="constrained")
    axes = figure.subplots()
    real = judge.spectrum
    axes.semilogy(real.frequencies, real.power, color="black", linewidth=1, label="real")
    drawn = card.pictures.spectrum
    axes.semilogy(drawn.frequencies, drawn.power, color="tab:red", linewidth=1.5, label="drawn")
    axes.set(xlabel="cycles / pixel", ylabel="power")
    axes.legend()
    return _plot(figure)


def _classes(card: Scorecard, judge: Judge) -> str:
    counts = card.pictures.class_counts
    if counts is None or judge.seen.labels is None:
        return ""
    figure = Figure(figsize=(4.2, 3), layout="constrained")
    axes = figure.subplots()
    real = np.bincount(judge.seen.labels, minlength=len(counts))
    place = np.arange(len(counts))
    axes.bar(place, counts / counts.sum(), color="tab:red", alpha=0.7, label="drawn")
    axes.step(place, real / real.sum(), where="mid", color="black", linewidth=1, label="real")
    if len(counts) <= 20:
        names = [name[:NAME_LETTERS] for name in judge.seen.label_names]
        axes.set_xticks(place, names, rotation=45 if max(map(len, names)) > 2 else 0)
    axes.set(ylabel="share")
    axes.legend()
    return _plot(figure)


def _plot(figure: Figure) -> str:
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=120)
    return _data_url(encoded.getvalue())


def _url(picture: Image.Image) -> str:
    encoded = io.BytesIO()
    picture.save(encoded, "png")
    return _data_url(encoded.getvalue())


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
