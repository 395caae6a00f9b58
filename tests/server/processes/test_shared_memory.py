"""The memory that two processes share: nobody gets what somebody has, and everything comes back."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import allocation as room
from server.errors import CannotStart
from server.processes.shared_memory import STEP_BYTES, OutOfSharedMemory, SharedMemoryPool, make_shared_memory

SIZE = 1 << 16


@contextmanager
def shared_file(size: int = SIZE) -> Iterator[int]:
    descriptor = make_shared_memory(size)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def memory_that_ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine that gives so many bytes, the first entry, and no more."""
    left, give = [1 << 40], os.pwrite

    def pwrite(descriptor: int, content: bytes, offset: int) -> int:
        if len(content) > left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= len(content)
        return give(descriptor, content, offset)

    monkeypatch.setattr(room.os, "pwrite", pwrite)
    return left


@given(st.lists(st.tuples(st.integers(1, SIZE // 3), st.booleans(), st.integers(0, 50)), max_size=60))
def test_what_is_taken_is_nobody_elses_and_what_is_given_back_is_whole(steps: list[tuple[int, bool, int]]):
    with shared_file() as descriptor:
        take_and_give(SharedMemoryPool(descriptor), steps)


def take_and_give(memory: SharedMemoryPool, steps: list[tuple[int, bool, int]]) -> None:
    held = []
    for size, takes, which in steps:
        if takes or not held:
            offset = memory.alloc(size)
            if offset is not None:
                assert offset + size <= SIZE
                assert all(offset + size <= start or start + length <= offset for start, length in held)
                held.append((offset, size))
        else:
            memory.free(*held.pop(which % len(held)))
    for block in held:
        memory.free(*block)
    assert memory.alloc(SIZE) == 0


def test_a_full_arena_says_so():
    with shared_file() as descriptor:
        memory = SharedMemoryPool(descriptor)
        assert memory.alloc(SIZE) == 0
        assert memory.alloc(1) is None


def test_both_ends_see_the_same_bytes():
    with shared_file() as descriptor:
        here, there = SharedMemoryPool(descriptor), SharedMemoryPool(descriptor)
        here.array(128, np.float32, (2, 3))[...] = np.arange(6).reshape(2, 3)
        assert there.array(128, np.float32, (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_memory_is_there_before_it_is_handed_out_and_only_once_it_is(memory_that_ends: list[int]):
    with shared_file(8 * STEP_BYTES) as descriptor:
        memory = SharedMemoryPool(descriptor)
        assert os.fstat(descriptor).st_blocks * 512 == STEP_BYTES
        memory.alloc(3 * STEP_BYTES - 64)
        assert os.fstat(descriptor).st_blocks * 512 == 3 * STEP_BYTES
        memory_that_ends[0] = 0
        assert memory.alloc(1) is not None
        with pytest.raises(OutOfSharedMemory, match="cannot grow beyond 3145728 bytes: No space left on device"):
            memory.alloc(STEP_BYTES)
        memory_that_ends[0] = STEP_BYTES
        assert memory.alloc(STEP_BYTES) is not None


def test_memory_that_grows_keeps_what_is_in_it():
    with shared_file(4 * STEP_BYTES) as descriptor:
        memory = SharedMemoryPool(descriptor)
        first = memory.array(memory.alloc(STEP_BYTES), np.uint8, (STEP_BYTES,))
        first[...] = 7
        memory.alloc(2 * STEP_BYTES)
        assert (first == 7).all()


def test_a_machine_without_memory_is_told_at_the_start(memory_that_ends: list[int]):
    memory_that_ends[0] = 4096
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CannotStart, match=r"no memory to share.*No space left on device.*--engines own"):
        make_shared_memory()
    assert len(os.listdir("/proc/self/fd")) == before
