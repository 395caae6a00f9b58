"""A window's bytes go to those who asked first, and to nobody who has gone."""

from collections.abc import Callable

from server.rpc.flow_control import FlowControl


def test_bytes_are_taken_first_come_first_served():
    free, taken = FlowControl(10), []

    def take(name: str) -> Callable[[int], None]:
        return lambda wanted: taken.append((name, wanted))

    gone = take("gone")
    free.acquire(6, take("first"))
    free.acquire(8, take("large"))
    free.acquire(1, gone)
    free.acquire(2, take("small"))
    assert taken == [("first", 6)]
    free.forget(gone)
    free.release(6)
    assert taken[1:] == [("large", 8), ("small", 2)]
    free.release(10)
    free.acquire(1000, take("all"))
    assert taken[3:] == [("all", 10)]


def test_who_waits_behind_one_that_has_gone_has_his_turn():
    free, taken = FlowControl(10), []
    free.acquire(6, taken.append)

    def gone(_: int) -> None:
        raise AssertionError("it has gone")

    free.acquire(8, gone)
    free.acquire(3, taken.append)
    assert taken == [6]
    free.forget(gone)
    assert taken == [6, 3]
