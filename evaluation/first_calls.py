"""MKL's elementary functions, each called once by one thread before several share a call.

    import torch -> settle() -> every later call gives the same bits

oneMKL 2024.2, which torch's wheels are built with, looks for a function's kernel when it is first called. Where several of
torch's threads make that call together, as on a busy machine, one of them may compute its part with the kernel of lowest
accuracy for AVX2: of tanh it is off by 9.1e-5 instead of 6e-8, of images by 4.5e-5 of 255 (pytorch#188792). The second call
is right, so the same work done again shows nothing. onnxruntime does not use MKL.
"""

import torch

FUNCTIONS = (
    *(torch.acos, torch.asin, torch.atan, torch.cos, torch.cosh, torch.sin, torch.sinh, torch.tan, torch.tanh),
    *(torch.erf, torch.erfc, torch.erfinv, torch.exp, torch.expm1, torch.lgamma, torch.log, torch.log10, torch.log1p),
    *(torch.log2, torch.sqrt, torch.rsqrt, torch.sigmoid),
)
"""All that torch may leave to MKL's vector functions, on some processor."""

VALUES = 16
"""Too few for torch to share them among threads."""


def settle() -> None:
    """Call each function; torch's threads and random state stay as they are."""
    for dtype in (torch.float32, torch.float64):
        values = torch.full((VALUES,), 0.5, dtype=dtype)
        for function in FUNCTIONS:
            function(values)


settle()  # before whoever imports this can call one
