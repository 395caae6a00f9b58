"""The processes that train one model together, each on its share of every batch.

    torchrun -> World -> rows of a batch, means over processes

Every process holds all weights and draws all of a step's random numbers, of which it takes its rows: gradients are then
the mean of the processes', and a step is what one process would take from the same weights, but for the order of sums. That
order decides last bits, and they grow: a leaky ReLU meets its kink on one side or the other, Adam divides by the gradient's
size. So after some dozens of steps two processes have other weights than one, of the same quality but not of the same bytes;
the same number of processes on the same kind of machine gives the same bytes, stopped and continued too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import torch
import torch.distributed
from torch import Tensor

from training.errors import TrainingError


@dataclass(frozen=True)
class World:
    """The place of a process among `size`."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """The rows of a batch that are this process's."""
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def check(self, batch: int) -> None:
        """Raises: TrainingError, if a batch cannot be dealt out in even shares."""
        if self.size > 1 and batch % (2 * self.size):
            raise TrainingError(f"batch: got {batch}, {self.size} processes want a multiple of {2 * self.size}")

    def mean(self, value: Tensor) -> Tensor:
        """The mean of the processes' values; carries no gradient."""
        if self.size > 1:
            value = value.detach().clone()
            torch.distributed.all_reduce(value)
            value /= self.size
        return value

    def average_(self, gradients: Sequence[Tensor]) -> None:
        """Make each of `gradients` the mean of the processes', in place and in one message."""
        if self.size > 1:
            together = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
            parts = torch.split(together, [gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def agree(self, here: bool) -> bool:
        """Whether any process says so."""
        return bool(self.mean(torch.tensor(float(here), device=_meeting_device())) > 0) if self.size > 1 else here

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            on_gpus = torch.distributed.get_backend() == "nccl"
            torch.distributed.barrier(device_ids=[torch.cuda.current_device()] if on_gpus else None)


ALONE = World()


@contextmanager
def world(device: str) -> Iterator[tuple[World, str]]:
    """The world of this process, and the device that it works on: with CUDA a GPU for each process of a machine.

    torchrun tells who takes part; without it the process is alone. Worlds may be nested: a script that trains several
    models does so inside one, since processes that meet a second time may find each other's old addresses.
    """
    if not torch.distributed.is_torchelastic_launched():
        yield ALONE, device
        return
    with_cuda = torch.cuda.is_available() and device != "cpu"
    is_begun = torch.distributed.is_initialized()
    if not is_begun:
        # The first optimiser imports this. If a group is there by then, some default argument keeps it for good, and its
        # threads are still at work while the interpreter ends: now and then the process aborts after all is done.
        import_module("torch._dynamo")
        torch.distributed.init_process_group("nccl" if with_cuda else "gloo")
    try:
        if with_cuda:
            local = torch.distributed.get_node_local_rank()
            torch.cuda.set_device(local)
            device = f"cuda:{local}"
        here = World(torch.distributed.get_rank(), torch.distributed.get_world_size())
        yield here, device
        here.barrier()
    finally:
        if not is_begun:
            torch.distributed.destroy_process_group()


def _meeting_device() -> str:
    return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
