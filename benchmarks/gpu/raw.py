"""Raw images a second on a GPU: onnxruntime's forms, then PyTorch's, each in a process of its own.

    files by variant, run folder -> processes one after the other, until the time is up -> Raw -> lines()

What fails or finds no time left is told and left out.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu import onnx_form, torch_form
from benchmarks.gpu.onnx_form import IN_TURNS, Rates
from benchmarks.shared.processes import Failed, in_subprocess
from benchmarks.shared.report import table

SIZES = (1, 4, 16, 64, 256)
CPU_SIZES = (1, 4)
"""For a try without a GPU."""

LEAST_S = 5.0
"""Seconds that must be left for one more process."""


@dataclass
class Raw:
    """Images/s by batch size; by variant and form of onnxruntime, by form of PyTorch."""

    sizes: tuple[int, ...]
    graphs: dict[str, Rates] = field(default_factory=dict)
    torch: dict[str, dict[int, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def measure(
    files: Mapping[str, Path], run_folder: Path | None, with_torch: bool, device: str, seconds: float, budget_s: float
) -> Raw:
    """All that can be measured within budget_s.

    files       ONNX files by variant
    run_folder  what PyTorch draws with; None: dcgan64
    with_torch  whether PyTorch can take part: not beside a bundle whose run is not there
    seconds     of each batch size
    """
    raw, ends_s = Raw(CPU_SIZES if device == "cpu" else SIZES), time.monotonic() + budget_s

    def attempt(name: str, found: dict[str, Any], function: Callable[..., Any], source: Path | None, form: Any) -> None:
        left_s = ends_s - time.monotonic()
        print(f"{name}: {left_s:.0f} s left", file=sys.stderr, flush=True)
        try:
            if left_s < LEAST_S:
                raise Failed("no time left")
            found[name] = in_subprocess(function, left_s, source, device, form, raw.sizes, seconds)
        except Failed as failure:
            raw.missing[name] = str(failure)

    for variant, file in files.items():
        for form in onnx_form.FORMS:
            attempt(f"{variant}, {form.name}", raw.graphs, onnx_form.measure, file, form)
    for torch_s in torch_form.FORMS if with_torch else ():
        attempt(torch_s.name, raw.torch, torch_form.measure, run_folder, torch_s)
    return raw


def lines(raw: Raw) -> Iterator[str]:
    """Images/s by batch size; what batches in turns take by what each takes alone; ratios of the best."""
    pair = " and ".join(map(str, IN_TURNS))
    columns = [*map(str, raw.sizes), f"{pair} in turns / alone", "in one session", "worst grey level off CPU"]
    yield from table(["raw images/s, bound on the device", *columns], _rows(raw))
    if raw.missing:
        yield ""
    yield from (f"- {name}: {reason}" for name, reason in raw.missing.items())


def _rows(raw: Raw) -> Iterator[list[str]]:
    for name, rates in raw.graphs.items():
        others = [_ratio(rates.in_turns), _ratio(rates.in_turns_one_session), str(rates.worst_difference)]
        yield [name, *(f"{rates.images_per_s[size]:.0f}" for size in raw.sizes), *others]
    for name, images_per_s in raw.torch.items():
        yield [name, *(f"{images_per_s[size]:.0f}" for size in raw.sizes), "", "", ""]
    ours = best({name: rates.images_per_s for name, rates in raw.graphs.items()}, raw.sizes)
    for kind in ("torch eager", "torch.compile"):
        theirs = best({name: rates for name, rates in raw.torch.items() if name.startswith(kind)}, raw.sizes)
        ratios = [_ratio(our / their if their else None) for our, their in zip(ours, theirs, strict=True)]
        yield [f"best of onnxruntime / best of {kind}", *ratios, "", "", ""]


def best(rates: Mapping[str, Mapping[int, float]], sizes: Sequence[int]) -> list[float]:
    """The highest rate at each size, 0 where there is none."""
    return [max((by_size[size] for by_size in rates.values()), default=0.0) for size in sizes]


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"
