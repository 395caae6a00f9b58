"""Two pictures: bars of the closed loop, curves of the open one.

    Results -> closed_loop.png, open_loop.png

Blue is Figment in the bars; the curves' full lines are the 99th percentile, the broken ones the median.
"""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.serving.plan import PEERS
from benchmarks.serving.report import NOTHING, Closed, Results

DPI = 120
FILL = {"p50_s": "none", "p99_s": "full"}
OTHERS = (*PEERS, "onnxruntime alone")


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the pictures of what was measured; returns their paths."""
    drawn = []
    if any(turns.good for closed in results.closed for turns in closed.turns.values()):
        drawn.append(_draw_closed(results.closed, folder / "closed_loop.png"))
    if results.open:
        drawn.append(_draw_open(results, folder / "open_loop.png"))
    return drawn


def _draw_closed(workloads: list[Closed], path: Path) -> Path:
    figure, rows = plt.subplots(len(workloads), 2, figsize=(11, 2.6 * len(workloads)), squeeze=False)
    for closed, (rate, cpu) in zip(workloads, rows, strict=True):
        turns = {name: each for name, each in closed.turns.items() if each.good}
        # A graph that computes nothing has a rate that leaves the others no room.
        _bars(rate, {name: each.median("images_per_s") for name, each in turns.items() if NOTHING not in name})
        _bars(cpu, {name: each.median("cpu_us_per_image") for name, each in turns.items()})
        rate.set_title(f"{closed.graph}, n = {closed.images}: images a second")
        cpu.set_title("CPU microseconds an image")
    return _saved(figure, path)


def _bars(axes: Axes, values: dict[str, float]) -> None:
    names = list(values)[::-1]
    colours = ["tab:grey" if name in OTHERS else "tab:blue" for name in names]
    bars = axes.barh(names, [values[name] for name in names], color=colours)
    axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
    axes.margins(x=0.15)
    axes.tick_params(labelsize=8)


def _draw_open(results: Results, path: Path) -> Path:
    graphs = list(dict.fromkeys(point.graph for point in results.open))
    figure, rows = plt.subplots(1, len(graphs), figsize=(5.5 * len(graphs), 4), squeeze=False)
    for graph, axes in zip(graphs, rows[0], strict=True):
        points = [point for point in results.open if point.graph == graph]
        for number, server in enumerate(dict.fromkeys(point.server for point in points)):
            for key, style in (("p50_s", "--"), ("p99_s", "-")):
                measured = [each for each in points if each.server == server and getattr(each.outcome, key)]
                rates = [each.images_per_s for each in measured]
                times_ms = [getattr(each.outcome, key) * 1e3 for each in measured]
                look = {"color": f"C{number}", "fillstyle": FILL[key]}
                axes.plot(rates, times_ms, f"o{style}", label=f"{server} {key[:3]}", **look)
        axes.set(title=f"{graph}, mixed sizes, open loop", xlabel="images a second", ylabel="ms from intended arrival")
        axes.set_xlim(left=0)
        axes.set_yscale("log")
        axes.legend(fontsize=7)
    return _saved(figure, path)


def _saved(figure: Figure, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    return path
