"""Room in memory or on a disk that is taken before it is used.

Pages of a file that were only promised, by `truncate`, are found when they are first touched; where there is no room left,
that ends the process with SIGBUS, and nobody says why. What is written is there, or raises OSError.
"""

import os

_ZEROS = bytes(1 << 16)


def allocate(descriptor: int, start: int, end: int) -> None:
    """Fill bytes `start` to `end` of a file with zeros.

    Raises: OSError, if there is no room for them.
    """
    while start < end:
        start += os.pwrite(descriptor, _ZEROS[: end - start], start)
