"""The memory that two processes share: nobody gets what somebody has, and everything comes back."""

import os

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.arena import ARENA_BYTES, Arena, make_shared_file


def arena() -> Arena:
    descriptor = make_shared_file()
    try:
        return Arena(descriptor)
    finally:
        os.close(descriptor)


@given(st.lists(st.tuples(st.integers(1, ARENA_BYTES // 3), st.booleans(), st.integers(0, 50)), max_size=60))
def test_what_is_taken_is_nobody_elses_and_what_is_given_back_is_whole(steps: list[tuple[int, bool, int]]):
    memory, held = arena(), []
    for size, takes, which in steps:
        if takes or not held:
            offset = memory.take(size)
            if offset is not None:
                assert offset + size <= ARENA_BYTES
                assert all(offset + size <= start or start + length <= offset for start, length in held)
                held.append((offset, size))
        else:
            memory.give(*held.pop(which % len(held)))
    for block in held:
        memory.give(*block)
    assert memory.take(ARENA_BYTES) == 0


def test_a_full_arena_says_so():
    memory = arena()
    assert memory.take(ARENA_BYTES) == 0
    assert memory.take(1) is None


def test_both_ends_see_the_same_bytes():
    descriptor = make_shared_file()
    here, there = Arena(descriptor), Arena(descriptor)
    os.close(descriptor)
    here.array(128, np.float32, (2, 3))[...] = np.arange(6).reshape(2, 3)
    assert there.array(128, np.float32, (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
