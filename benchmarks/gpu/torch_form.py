"""A generator in PyTorch on a GPU, by one of its forms: eager or compiled.

    module -> fp32 or fp16, contiguous or channels_last, as it is or by torch.compile -> images a second by batch size

Noise and images stay on the device, as in `onnx_form`. TF32 is allowed, as it is in onnxruntime.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.shared.drawing import LAYOUTS, Drawing, drawing_of
from benchmarks.shared.graphs import SEED, Dcgan
from benchmarks.shared.timing import repeat
from benchmarks.shared.workloads import GRAPHS
from training.model import Model

WARM_RUNS = 4
"""Before the clock starts; torch.compile's CUDA graphs are captured in the second and third."""

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


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


FORMS = (
    *(Form(precision, layout) for precision in DTYPES for layout in LAYOUTS),
    *(Form(precision, "channels_last", mode) for mode in ("reduce-overhead", "max-autotune") for precision in DTYPES),
)
"""All that are worth a try; those that take long to compile last."""


@torch.inference_mode()
def measure(run: Path | None, device: str, form: Form, sizes: Sequence[int], seconds: float) -> dict[int, float]:
    """Images/s of each batch size, run again and again for `seconds`; without a run the module is dcgan64's."""
    torch.set_float32_matmul_precision("high")
    drawing, noise_dim, is_conditional = _dcgan64() if run is None else _trained(run)
    dtype = DTYPES[form.precision]
    drawing.to(device=device, dtype=dtype).to(memory_format=LAYOUTS[form.layout])  # type: ignore[call-overload]
    draw: Callable[..., Tensor] = torch.compile(drawing, mode=form.mode, dynamic=False) if form.mode else drawing
    found = {}
    for size in sizes:
        inputs = [torch.randn(size, noise_dim, device=device, dtype=dtype)]
        if is_conditional:
            inputs.append(torch.zeros(size, device=device, dtype=torch.int64))

        def step(inputs: list[Tensor] = inputs) -> None:
            draw(*inputs)
            if device != "cpu":
                torch.cuda.synchronize()

        found[size] = size / repeat(step, seconds, WARM_RUNS).seconds_a_step
    return found


def _dcgan64() -> tuple[Drawing, int, bool]:
    torch.manual_seed(SEED)
    noise_dim = GRAPHS["dcgan64"].noise_dim
    return Drawing(Dcgan(noise_dim)).eval(), noise_dim, False


def _trained(run: Path) -> tuple[Drawing, int, bool]:
    model = Model.load(run)
    return drawing_of(model), model.noise_dim, bool(model.label_names)
