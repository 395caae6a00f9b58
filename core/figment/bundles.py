"""The format of bundles: what export writes and the server reads, as far as no message of figment.v1 says it.

models/<name>/<version>/ manifest.json, golden.npz, <role>.onnx, <role>.<variant>.onnx
"""

import re
from typing import Literal, get_args

FORMAT = 1
"""Of manifest.json; a server refuses others."""

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Names of models."""

NAME_RULE = "a name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit"

Role = Literal["decoder", "encoder", "generator", "prior"]

ROLES: tuple[Role, ...] = get_args(Role)
"""What a graph of a model does."""

FP32 = "fp32"
"""The exact form of a graph."""

LossyVariant = Literal["fp16", "int8"]

LOSSY_VARIANTS: tuple[LossyVariant, ...] = get_args(LossyVariant)
"""Forms that are quicker somewhere; what makes one is a module of the export of that name."""

VARIANTS = (FP32, *LOSSY_VARIANTS)
