"""The check that a loaded version gives what its bundle says it must.

golden noise -> generator -> prior -> decoder -> encoder; images are compared with the golden ones
"""

import numpy as np
import numpy.typing as npt

from server.arrays import Arrays
from server.errors import BundleRefused
from server.models.bundle import Bundle
from server.runtime.sessions import Sessions


def self_test(sessions: dict[str, Sessions], bundle: Bundle, max_size: int) -> dict[str, Arrays]:
    """Run every role, in batches of at most `max_size`, on the golden noise and what follows from it.

    Returns the inputs of each role.

    Raises: BundleRefused, if a graph cannot be run or the images are not the golden ones.
    """
    golden, manifest = bundle.golden, bundle.manifest
    count = len(golden.noise)
    expected: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {"images": (golden.images.shape, np.uint8)}
    expected |= dict.fromkeys(("latent", "mean", "log_variance"), ((count, manifest.latent_dim), np.float32))
    arrays: Arrays = {"noise": golden.noise}
    if golden.labels is not None:
        arrays["label"] = golden.labels
    inputs: dict[str, Arrays] = {}
    # In this order each role's inputs are known from those before it.
    for role in ("generator", "prior", "decoder", "encoder"):
        if role not in sessions:
            continue
        try:
            inputs[role] = {name: arrays[name] for name in sessions[role].inputs}
            outputs = _run(sessions[role], inputs[role], count, max_size)
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise BundleRefused(f"{role}: onnxruntime cannot run the graph: {str(error)[:300]}") from None
        for name, array in outputs.items():
            shape, dtype = expected[name]
            if array.shape != shape or array.dtype != dtype:
                required = f"{np.dtype(dtype)} {shape}"
                raise BundleRefused(f"{role}: {name} is {array.dtype} {array.shape}, must be {required}")
        if "images" in outputs:
            worst = int(np.abs(outputs["images"].astype(np.int16) - golden.images).max())
            if worst > golden.tolerance:
                allowed = f"{golden.tolerance:g}"
                raise BundleRefused(f"{role}: off the golden images by {worst} grey levels, allowed {allowed}")
        arrays |= outputs
    return inputs


def _run(sessions: Sessions, inputs: Arrays, rows: int, max_size: int) -> Arrays:
    starts = range(0, rows, max_size)
    parts = [sessions.run([{n: a[start : start + max_size] for n, a in inputs.items()}])[0] for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
