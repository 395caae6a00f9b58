"""The pulse of an event loop: whether it still runs, as others can tell.

    start() -> beat, once a second, in the loop ... silent_s, read by any thread

A loop that hangs in a bug, or whose process was stopped, beats no more; its threads, or other processes, say so.
"""

import asyncio
import time
from collections.abc import Callable

BEAT_S = 1.0

STUCK_S = 5.0
"""Silence after which an event loop counts as stuck. Nothing that a server does in its loop takes a tenth of a second."""


class Heartbeat:
    """Beats in the event loop that starts it.

    on_beat   called by each beat
    """

    def __init__(self, on_beat: Callable[[], None] = lambda: None) -> None:
        self._on_beat = on_beat
        self._timer: asyncio.TimerHandle | None = None
        self._last_s: float | None = None

    def start(self) -> None:
        """Beat now, and go on."""
        self._last_s = time.monotonic()
        # Set before the beat, which may raise: the next one comes all the same.
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self.start)
        self._on_beat()

    def stop(self) -> None:
        """Beat no more."""
        if self._timer:
            self._timer.cancel()
        self._last_s = None

    def problem(self) -> str:
        """What is wrong with the loop, for any thread to ask; "" if it runs, or is not to."""
        silent_s = 0.0 if self._last_s is None else time.monotonic() - self._last_s
        return f"the event loop has not run for {silent_s:.0f} s" if silent_s > STUCK_S else ""
