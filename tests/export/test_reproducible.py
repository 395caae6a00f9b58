"""Unrounded images are the same bits in any process: the quick form of `make stress`, and what torch is made to do for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.export.reproducible import stress

pytestmark = pytest.mark.slow

FIRST_CALLS = """
import torch

called = {{}}


def counted(name, function):
    def call(values, *others, **named):
        called.setdefault(name, values.numel())
        return function(values, *others, **named)

    return call


for name in ("exp", "log", "sqrt", "tanh", "sigmoid", "erf", "sin", "cos"):
    setattr(torch, name, counted(name, getattr(torch, name)))
import {module}
assert set(called.values()) == {{16}} and len(called) == 8, called
"""


def test_processes_beside_each_other_compute_the_same_bits(runs: Path, monkeypatch: pytest.MonkeyPatch):
    """onnxruntime at any batch size, alignment of its inputs and number of threads; torch with its own threads."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # of `make test`
    processes, moved = stress([runs / "labelled-gan"], seconds=0, together=2)
    assert processes == 3
    assert not moved


def test_functions_of_mkl_are_called_by_one_thread_before_networks_can_call_them():
    """16 values are too few for torch to share among threads."""
    for module in ("training.networks", "evaluation.features"):
        subprocess.run(
            [sys.executable, "-c", FIRST_CALLS.format(module=module)], cwd=Path(__file__).parents[2], check=True
        )
