"""The export that needs no thought: torch.onnx.export with its defaults, a dynamic batch axis, one file.

    run folder -> Drawing -> ONNX

Run as `python -m benchmarks.export.naive RUN FILE`, so that who measures needs no torch.
"""

import sys
from pathlib import Path

import torch

from benchmarks.shared.drawing import drawing_of
from training.model import Model


def export(run: Path, file: Path) -> None:
    """Write the generator of `run`. Raises: RunFolderError, OnnxExporterError."""
    model = Model.load(run)
    example = {"noise": torch.zeros(2, model.noise_dim)}
    if model.label_names:
        example["label"] = torch.zeros(2, dtype=torch.int64)
    batch = torch.export.Dim("N", min=1)
    torch.onnx.export(
        drawing_of(model),
        tuple(example.values()),
        file,
        input_names=list(example),
        output_names=["images"],
        dynamic_shapes=tuple({0: batch} for _ in example),
        external_data=False,
    )


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
