"""Receiving: the bytes of messages that come in, counted from before they are here to the end of their calls.

    receipt() -> read(): room for the longest message -> its bytes -> room for what it took -> end of the call

gRPC holds back all but the first bytes of a message until it is read; from then on it takes in the whole message and shows
nothing of it before its end. So room is taken first, for the longest message, and whoever sends slowly gives way.
Rules: one connection has half of the room at most; connections take turns; a message has `message_s` to come, and
GIVE_WAY_S where others wait. Knows asyncio, not gRPC; belongs to the event loop.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from server.errors import Expired, Rejected
from server.rpc.heap import MUCH_BYTES, Heap

GIVE_WAY_S = 1.0
"""Seconds that a message has to come where others wait for its room."""


class Receiving:
    """Room for the messages of one server.

    total_bytes     all together
    message_bytes   of the longest
    message_s       seconds that one may take to come
    """

    def __init__(self, total_bytes: int, message_bytes: int, message_s: float) -> None:
        self.message_bytes = message_bytes
        self.message_s = message_s
        self.free_bytes = total_bytes
        self._total_bytes = total_bytes
        self._held_bytes: dict[str, int] = {}
        self._coming: OrderedDict[Receipt, float] = OrderedDict()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._heap = Heap(lambda: self.is_busy)
        self._untrimmed_bytes = 0

    @property
    def is_busy(self) -> bool:
        """Whether messages of some size are here or on their way."""
        return self._total_bytes - self.free_bytes >= self.message_bytes

    def receipt(self, connection: str) -> "Receipt":
        """Where the one message of a call over `connection` is read; use it as a context manager for the whole call."""
        return Receipt(self, connection)

    async def begin(self, receipt: "Receipt") -> None:
        """Take room for a message as soon as it is the connection's turn. Raises: Rejected, if that takes too long."""
        if receipt.connection in self._waiting or not self._fits(receipt.connection):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(receipt.connection, deque()).append(turn)
            self._look()
            try:
                async with asyncio.timeout(self.message_s):
                    await turn
            except (TimeoutError, asyncio.CancelledError) as error:
                if turn.done() and not turn.cancelled():  # its turn came at the same time, and `_next` took the room
                    self.change(receipt.connection, -self.message_bytes)
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise Rejected(
                    f"the messages of others are on their way: together they may have {self._total_bytes} bytes",
                    retry_after_s=GIVE_WAY_S,
                ) from None
        else:
            self.change(receipt.connection, self.message_bytes)
        self._coming[receipt] = asyncio.get_running_loop().time()
        if not self._timer:
            self._set_timer(self._coming[receipt])

    def end(self, receipt: "Receipt", received_bytes: int) -> None:
        """Note that a message is here, or will not come."""
        self._coming.pop(receipt, None)
        self._untrimmed_bytes += received_bytes
        if self._untrimmed_bytes >= MUCH_BYTES:
            self._untrimmed_bytes = 0
            self._heap.trim_later()

    def change(self, connection: str, more_bytes: int) -> None:
        """Count bytes in, or out, and let those in who wait."""
        self.free_bytes -= more_bytes
        held_bytes = self._held_bytes.get(connection, 0) + more_bytes
        if held_bytes:
            self._held_bytes[connection] = held_bytes
        else:
            self._held_bytes.pop(connection, None)
        if more_bytes < 0:
            self._next()

    def _fits(self, connection: str) -> bool:
        held_bytes = self._held_bytes.get(connection, 0)
        return self.free_bytes >= self.message_bytes and (
            not held_bytes or held_bytes + self.message_bytes <= self._total_bytes // 2
        )

    def _next(self) -> None:
        """Give room to those who wait, a connection after the other."""
        for connection in list(self._waiting):
            if self.free_bytes < self.message_bytes:
                return
            waiting = self._waiting[connection]
            while waiting and waiting[0].done():  # given up
                waiting.popleft()
            if waiting and self._fits(connection):
                self.free_bytes -= self.message_bytes
                self._held_bytes[connection] = self._held_bytes.get(connection, 0) + self.message_bytes
                waiting.popleft().set_result(None)
                self._waiting.move_to_end(connection)
            if not waiting:
                del self._waiting[connection]

    def _look(self) -> None:
        """End the messages whose time is over, and come back when the next one's is."""
        now_s = asyncio.get_running_loop().time()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        for receipt, started_s in list(self._coming.items()):
            if now_s - started_s < self._patience_s:
                self._set_timer(started_s)
                return
            receipt.give_up(is_wanted=bool(self._waiting))
            del self._coming[receipt]

    def _set_timer(self, started_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(started_s + self._patience_s, self._look)

    @property
    def _patience_s(self) -> float:
        return min(GIVE_WAY_S, self.message_s) if self._waiting else self.message_s


class Receipt:
    """One message on its way in, and the room that it has until the call ends."""

    def __init__(self, receiving: Receiving, connection: str) -> None:
        self.connection = connection
        self._receiving = receiving
        self._held_bytes = 0
        self._time = asyncio.timeout(None)
        self._is_wanted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hold(0)

    async def read(self, read: Callable[[], Awaitable[bytes]]) -> bytes:
        """What `read` returns, once there is room for it. Raises: Expired, Rejected, if it does not come in time."""
        receiving = self._receiving
        await receiving.begin(self)
        self._held_bytes = received_bytes = receiving.message_bytes  # of one that is given up nobody knows
        try:
            async with self._time:
                content = await read()
            received_bytes = len(content)
        except TimeoutError:
            if self._is_wanted:
                raise Rejected(
                    f"message: it did not come within {GIVE_WAY_S:g} s, and others wait to send theirs",
                    retry_after_s=GIVE_WAY_S,
                ) from None
            raise Expired(f"message: it did not come within {receiving.message_s:g} s") from None
        finally:
            receiving.end(self, received_bytes)
        self._hold(len(content))
        return content

    def give_up(self, *, is_wanted: bool) -> None:
        """Stop reading; `is_wanted` if only because others want the room."""
        self._is_wanted = is_wanted
        self._time.reschedule(0)

    def _hold(self, held_bytes: int) -> None:
        if change := held_bytes - self._held_bytes:
            self._held_bytes = held_bytes
            self._receiving.change(self.connection, change)
