"""A generator in PyTorch on a GPU: eager or compiled, in a process that prints JSON.

    module -> fp32 or fp16, contiguous or channels_last, as it is or by torch.compile -> images a second by batch size

Run as `python -m benchmarks.gpu_torch '{"run": ...}'`; without a run the module is dcgan64's. Noise and images stay on the
device, as in `gpu_graphs`. TF32 is allowed, as it is in onnxruntime.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.drawing import Drawing, drawing_of
from benchmarks.graphs import SEED, Dcgan
from benchmarks.workloads import GRAPHS
from training.model import Model

WARM_RUNS = 4
"""Before the clock starts; torch.compile's CUDA graphs are captured in the second and third."""


@dataclass(frozen=True)
class Form:
    """How PyTorch runs the module; mode is torch.compile's, "" is eager."""

    precision: str
    layout: str
    mode: str = ""

    @property
    def name(self) -> str:
        """Such as "torch.compile max-autotune, fp16, channels_last"."""
        return f"{f'torch.compile {self.mode}' if self.mode else 'torch eager'}, {self.precision}, {self.layout}"


def forms() -> Iterator[Form]:
    """All that are worth a try; those that take long to compile last."""
    for precision in ("fp32", "fp16"):
        for layout in ("contiguous", "channels_last"):
            yield Form(precision, layout)
    for mode in ("reduce-overhead", "max-autotune"):
        for precision in ("fp32", "fp16"):
            yield Form(precision, "channels_last", mode)


def command(run: Path | None, device: str, form: Form, sizes: Sequence[int], seconds: float) -> list[str]:
    """The process that measures one form and prints images/s by batch size."""
    what = {"run": str(run) if run else None, "device": device, "form": asdict(form)}
    order = {**what, "sizes": list(sizes), "seconds": seconds}
    return [sys.executable, "-m", "benchmarks.gpu_torch", json.dumps(order)]


@torch.inference_mode()
def measure(run: Path | None, device: str, form: Form, sizes: Sequence[int], seconds: float) -> dict[int, float]:
    """Images/s of each batch size, run again and again for `seconds`."""
    torch.set_float32_matmul_precision("high")
    dtype = {"fp32": torch.float32, "fp16": torch.float16}[form.precision]
    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[form.layout]
    drawing, noise_dim, is_conditional = _dcgan64() if run is None else _trained(run)
    drawing.to(device=device, dtype=dtype).to(memory_format=layout)  # type: ignore[call-overload]
    draw: Callable[..., Tensor] = torch.compile(drawing, mode=form.mode, dynamic=False) if form.mode else drawing
    found = {}
    for size in sizes:
        inputs = [torch.randn(size, noise_dim, device=device, dtype=dtype)]
        if is_conditional:
            inputs.append(torch.zeros(size, device=device, dtype=torch.int64))
        for _ in range(WARM_RUNS):
            draw(*inputs)
        _wait(device)
        runs, started_s = 0, time.perf_counter()
        while (passed_s := time.perf_counter() - started_s) < seconds or not runs:
            draw(*inputs)
            _wait(device)
            runs += 1
        found[size] = runs * size / passed_s
    return found


def _dcgan64() -> tuple[Drawing, int, bool]:
    torch.manual_seed(SEED)
    noise_dim = GRAPHS["dcgan64"].noise_dim
    return Drawing(Dcgan(noise_dim)).eval(), noise_dim, False


def _trained(run: Path) -> tuple[Drawing, int, bool]:
    model = Model.load(run)
    return drawing_of(model), model.noise_dim, bool(model.label_names)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def main() -> None:
    """Measure one form, print it."""
    order = json.loads(sys.argv[1])
    run = Path(order["run"]) if order["run"] else None
    form = Form(**order["form"])
    print(json.dumps(measure(run, order["device"], form, order["sizes"], order["seconds"])))


if __name__ == "__main__":
    main()
