"""Raw images a second on a GPU: every setting of onnxruntime, then PyTorch's forms, each in a process of its own.

    files by variant, run folder -> processes one after the other, until the time is up -> Raw -> table

What fails or finds no time left is told and left out.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import gpu_graphs, gpu_torch
from benchmarks.gpu_graphs import IN_TURNS, Rates
from benchmarks.processes import CommandFailed, run
from benchmarks.tables import head, row

SIZES = (1, 4, 16, 64, 256)
CPU_SIZES = (1, 4)
"""For a try without a GPU."""

LEAST_S = 5.0
"""Seconds that must be left for one more process."""


@dataclass
class Raw:
    """Images/s by batch size; by variant and setting, by form of PyTorch."""

    sizes: tuple[int, ...]
    graphs: dict[str, Rates] = field(default_factory=dict)
    torch: dict[str, dict[int, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def measure(
    files: dict[str, Path], run_folder: Path | None, with_torch: bool, device: str, seconds: float, budget_s: float
) -> Raw:
    """All that can be measured within budget_s.

    files       ONNX files by variant
    run_folder  what PyTorch draws with; None: dcgan64
    with_torch  whether PyTorch can take part: not beside a bundle whose run is not there
    seconds     of each batch size
    """
    sizes = CPU_SIZES if device == "cpu" else SIZES
    raw, ends_s = Raw(sizes), time.monotonic() + budget_s
    for variant, file in files.items():
        for setting in gpu_graphs.settings():
            name = f"{variant}, {setting.name}"
            if answer := _answer(name, gpu_graphs.command(file, device, setting, sizes, seconds), ends_s, raw):
                raw.graphs[name] = gpu_graphs.rates(answer)
    for form in gpu_torch.forms() if with_torch else ():
        if answer := _answer(form.name, gpu_torch.command(run_folder, device, form, sizes, seconds), ends_s, raw):
            raw.torch[form.name] = {int(size): rate for size, rate in json.loads(answer).items()}
    return raw


def _answer(name: str, command: list[str], ends_s: float, raw: Raw) -> str:
    """The last line that a process printed, "" if there is none; the reason goes to raw.missing."""
    left_s = ends_s - time.monotonic()
    print(f"{name}: {left_s:.0f} s left", file=sys.stderr, flush=True)
    if left_s < LEAST_S:
        raw.missing[name] = "no time left"
        return ""
    try:
        return run(command, timeout_s=left_s).strip().splitlines()[-1]
    except CommandFailed as failure:
        raw.missing[name] = str(failure)
        return ""


def table(raw: Raw) -> Iterator[str]:
    """Images/s by batch size; what batches in turns take by what each takes alone; ratios of the best."""
    pair = " and ".join(map(str, IN_TURNS))
    columns = [*map(str, raw.sizes), f"{pair} in turns / alone", "in one session", "worst grey level off CPU"]
    yield from head("raw images/s, bound on the device", *columns)
    for name, rates in raw.graphs.items():
        others = [_ratio(rates.in_turns), _ratio(rates.in_turns_one_session), str(rates.worst_difference)]
        yield row(name, *_rates(rates.images_per_s, raw.sizes), *others)
    for name, images_per_s in raw.torch.items():
        yield row(name, *_rates(images_per_s, raw.sizes), "", "", "")
    ours = _best({name: rates.images_per_s for name, rates in raw.graphs.items()}, raw.sizes)
    for kind in ("torch eager", "torch.compile"):
        theirs = _best(raw.torch, raw.sizes, kind)
        ratios = [_ratio(our / their if their else None) for our, their in zip(ours, theirs, strict=True)]
        yield row(f"best of onnxruntime / best of {kind}", *ratios, "", "", "")
    if raw.missing:
        yield ""
    yield from (f"- {name}: {reason}" for name, reason in raw.missing.items())


def _best(rates: dict[str, dict[int, float]], sizes: Sequence[int], kind: str = "") -> list[float]:
    """The highest rate at each size among those whose name begins with `kind`, 0 where there is none."""
    chosen = [by_size for name, by_size in rates.items() if name.startswith(kind)]
    return [max((by_size[size] for by_size in chosen), default=0.0) for size in sizes]


def _rates(images_per_s: dict[int, float], sizes: Sequence[int]) -> list[str]:
    return [f"{images_per_s[size]:.0f}" for size in sizes]


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"
