"""Whose rows run next: sentences on callers and models, and random histories beside a slow, obvious `SlowFairQueue`."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.models.graph import Graph
from server.scheduling.fair_queue import FairQueue
from server.scheduling.request import Piece, Request

A, A2, B = Graph("a", "1", "generator"), Graph("a", "1", "encoder"), Graph("b", "1", "generator")
MANY = 1_000_000


def wish(count: int, caller: Hashable = "me", graph: Graph = A) -> Request:
    """A request that nobody waits for."""
    return Request(graph, {"x": np.empty(count, np.int8)}, count, caller, lambda outcome: None, 0.0)


def waiting(*requests: Request, shares: dict[str, float] | None = None) -> FairQueue:
    fair_queue = FairQueue(shares)
    for request in requests:
        fair_queue.add(request)
    return fair_queue


def rows_of(pieces: Sequence[Piece]) -> list[tuple[Request, int]]:
    return [(request, row) for request, start, stop in pieces for row in range(start, stop)]


def callers_of(pieces: Sequence[Piece]) -> dict[Hashable, int]:
    """Rows by caller."""
    return Counter(request.caller for request, _ in rows_of(pieces))


def models_in_turn(fair_queue: FairQueue, runs: int, seconds: dict[str, float]) -> Iterator[str]:
    """The models of the next runs of one row, each of which takes its model's `seconds`."""
    for _ in range(runs):
        turn = fair_queue.next_graph()
        assert turn
        fair_queue.take(turn[0], 1)
        fair_queue.charge(turn[0].model, seconds[turn[0].model])
        yield turn[0].model


def test_callers_share_a_batch_equally():
    fair_queue = waiting(wish(50, "a"), wish(50, "b"), wish(50, "c"))
    assert callers_of(fair_queue.take(A, 12)) == {"a": 4, "b": 4, "c": 4}


def test_a_caller_of_many_requests_gets_no_more_than_one_of_few():
    fair_queue = waiting(*(wish(1, "many") for _ in range(50)), wish(50, "one"))
    assert callers_of(fair_queue.take(A, 10)) == {"many": 5, "one": 5}


def test_who_asks_for_more_gets_what_others_leave():
    fair_queue = waiting(wish(100, "bulk"), wish(1, "small"), wish(3, "medium"))
    assert callers_of(fair_queue.take(A, 16)) == {"bulk": 12, "small": 1, "medium": 3}


def test_a_row_that_cannot_be_shared_goes_to_another_caller_each_time():
    fair_queue = waiting(wish(50, "a"), wish(50, "b"), wish(50, "c"))
    assert [callers_of(fair_queue.take(A, 4)) for _ in range(3)] == [
        {"a": 2, "b": 1, "c": 1},
        {"a": 1, "b": 2, "c": 1},
        {"a": 1, "b": 1, "c": 2},
    ]


def test_more_callers_than_rows_are_served_in_turn():
    fair_queue = waiting(*(wish(2, caller) for caller in range(6)))
    assert [sorted(callers_of(fair_queue.take(A, 4))) for _ in range(3)] == [[0, 1, 2, 3], [0, 1, 4, 5], [2, 3, 4, 5]]


def test_a_bulk_caller_cannot_keep_a_small_request_out_of_the_next_batch():
    fair_queue = waiting(*(wish(1000, "bulk") for _ in range(20)))
    fair_queue.take(A, 4)
    small = wish(2, "small")
    fair_queue.add(small)
    assert Piece(small, 0, 2) in fair_queue.take(A, 4)


def test_a_small_request_of_a_bulk_caller_does_not_wait_for_the_end_of_its_large_one():
    bulk, small = wish(1000), wish(1)
    fair_queue = waiting(bulk, small)
    assert [fair_queue.take(A, 4) for _ in range(2)] == [[Piece(bulk, 0, 4)], [Piece(small, 0, 1), Piece(bulk, 4, 7)]]


def test_the_rows_of_a_request_are_taken_in_order():
    request = wish(10)
    fair_queue = waiting(request)
    assert [fair_queue.take(A, rows) for rows in (4, 1, 3, 99)] == [
        [Piece(request, 0, 4)],
        [Piece(request, 4, 5)],
        [Piece(request, 5, 8)],
        [Piece(request, 8, 10)],
    ]
    assert fair_queue.next_graph() is None


def test_the_rows_that_wait_are_counted():
    fair_queue = waiting(wish(3, "a"), wish(4, "b"))
    assert fair_queue.next_graph() == (A, 7)
    fair_queue.take(A, 2)
    assert fair_queue.next_graph() == (A, 5)


def test_a_removed_request_frees_its_rows_and_is_never_taken():
    gone, begun, kept = wish(5, "a"), wish(5, "b"), wish(5, "c")
    fair_queue = waiting(gone, begun, kept)
    fair_queue.take(A, 3)
    fair_queue.remove(gone)
    fair_queue.remove(begun)
    assert fair_queue.next_graph() == (A, 4)
    assert list(fair_queue.waiting()) == [kept]
    assert fair_queue.take(A, 99) == [Piece(kept, 1, 5)]
    assert fair_queue.next_graph() is None


def test_nothing_waits_once_everything_is_removed():
    requests = [wish(3, caller) for caller in range(3)]
    fair_queue = waiting(*requests)
    for request in requests:
        fair_queue.remove(request)
    assert fair_queue.next_graph() is None
    assert not list(fair_queue.waiting())


def test_removing_a_request_that_was_taken_whole_takes_no_rows_from_others():
    done, other = wish(2, "a"), wish(2, "b")
    fair_queue = waiting(done, other)
    fair_queue.take(A, 3)
    fair_queue.remove(done)
    assert fair_queue.next_graph() == (A, 1)
    assert fair_queue.take(A, 9) == [Piece(other, 1, 2)]


def test_graphs_of_one_model_take_turns():
    fair_queue = waiting(wish(9, graph=A), wish(9, graph=A2))
    roles = []
    for _ in range(6):
        graph, _ = fair_queue.next_graph() or (A, 0)
        fair_queue.take(graph, 1)
        fair_queue.charge("a", 1.0)
        roles.append(graph.role)
    assert roles == ["generator", "encoder"] * 3


def test_models_get_equal_time_and_not_equal_runs():
    fair_queue = waiting(wish(MANY, graph=A), wish(MANY, graph=B))
    assert Counter(models_in_turn(fair_queue, 110, {"a": 0.125, "b": 1.25})) == {"a": 100, "b": 10}


def test_a_model_of_share_two_gets_twice_the_time():
    fair_queue = waiting(wish(MANY, graph=A), wish(MANY, graph=B), shares={"a": 2.0})
    assert Counter(models_in_turn(fair_queue, 300, {"a": 1.0, "b": 1.0})) == {"a": 200, "b": 100}


def test_a_model_gets_no_more_time_by_spreading_over_graphs():
    fair_queue = waiting(wish(MANY, graph=A), wish(MANY, graph=A2), wish(MANY, graph=B))
    assert Counter(models_in_turn(fair_queue, 200, {"a": 1.0, "b": 1.0})) == {"a": 100, "b": 100}


def test_a_model_that_was_away_has_not_saved_up_time():
    fair_queue = waiting(wish(MANY, graph=B))
    assert Counter(models_in_turn(fair_queue, 100, {"b": 1.0})) == {"b": 100}
    fair_queue.add(wish(MANY, graph=A))
    assert Counter(models_in_turn(fair_queue, 20, {"a": 1.0, "b": 1.0})) in ({"a": 10, "b": 10}, {"a": 11, "b": 9})


def test_a_model_that_comes_back_has_not_saved_up_time_either():
    fair_queue = waiting(wish(1, graph=A), wish(MANY, graph=B))
    assert Counter(models_in_turn(fair_queue, 100, {"a": 1.0, "b": 1.0})) == {"a": 1, "b": 99}
    fair_queue.add(wish(MANY, graph=A))
    assert Counter(models_in_turn(fair_queue, 20, {"a": 1.0, "b": 1.0})) in ({"a": 10, "b": 10}, {"a": 11, "b": 9})


def test_a_model_that_ran_alone_has_no_debt():
    fair_queue = waiting(wish(100, graph=A))
    assert Counter(models_in_turn(fair_queue, 100, {"a": 1.0})) == {"a": 100}
    for graph in (A, B):
        fair_queue.add(wish(MANY, graph=graph))
    assert set(models_in_turn(fair_queue, 3, {"a": 1.0, "b": 1.0})) == {"a", "b"}


@given(st.lists(st.tuples(st.sampled_from([0.25, 0.5, 1.0, 4.0]), st.sampled_from([0.25, 1.0, 2.0])), max_size=60))
@settings(max_examples=60, deadline=None, database=None)
def test_models_that_always_wait_are_never_further_apart_than_one_run(seconds: list[tuple[float, float]]):
    shares = {"a": 2.0, "b": 1.0}
    fair_queue = waiting(wish(MANY, graph=A), wish(MANY, graph=B), shares=shares)
    spent = {"a": 0.0, "b": 0.0}
    for seconds_a, seconds_b in seconds:
        [model] = models_in_turn(fair_queue, 1, {"a": seconds_a, "b": seconds_b})
        spent[model] += {"a": seconds_a, "b": seconds_b}[model] / shares[model]
        assert abs(spent["a"] - spent["b"]) <= 2.0


@dataclass(eq=False)
class SlowRequest:
    """A request of the oracle: the rows that still wait."""

    name: int
    graph: Graph
    caller: int
    rows: list[int]
    is_removed: bool = False


class SlowFairQueue:
    """The rules on flat lists, row by row.

    requests   in line: who got some of its rows goes to the end; who is removed is skipped when its turn comes
    callers    in line: who had a turn goes to the end, and leaves with its last request
    graphs     in line: who had a turn goes to the end, and leaves with its last row
    """

    def __init__(self, shares: dict[str, float]) -> None:
        self.shares = shares
        self.requests: list[SlowRequest] = []
        self.callers: list[tuple[Graph, int]] = []
        self.graphs: list[Graph] = []
        self.spent_s = dict.fromkeys(("a", "b"), 0.0)
        self.now_s = 0.0

    def add(self, request: SlowRequest) -> None:
        if request.graph not in self.graphs:
            self.graphs.append(request.graph)
            self.spent_s[request.graph.model] = max(self.now_s, self.spent_s[request.graph.model])
        if (request.graph, request.caller) not in self.callers:
            self.callers.append((request.graph, request.caller))
        self.requests.append(request)

    def remove(self, request: SlowRequest) -> None:
        request.is_removed = True
        self.forget_if_empty(request.graph)

    def forget_if_empty(self, graph: Graph) -> None:
        if graph in self.graphs and not self.waiting(graph):
            self.graphs.remove(graph)
            self.callers = [line for line in self.callers if line[0] != graph]
            self.requests = [request for request in self.requests if request.graph != graph]

    def waiting(self, graph: Graph) -> list[tuple[int, int]]:
        return [(r.name, row) for r in self.requests if r.graph == graph and not r.is_removed for row in r.rows]

    def next_graph(self) -> tuple[Graph, int] | None:
        if not self.graphs:
            return None
        least = min(self.spent_s[graph.model] for graph in self.graphs)
        graph = next(graph for graph in self.graphs if self.spent_s[graph.model] == least)
        return graph, len(self.waiting(graph))

    def take(self, graph: Graph, limit: int) -> list[tuple[int, int]]:
        self.now_s = self.spent_s[graph.model]
        self.graphs.remove(graph)
        self.graphs.append(graph)
        taken: list[tuple[int, int]] = []
        while len(taken) < limit and self.waiting(graph):
            callers = [line for line in self.callers if line[0] == graph]
            share = max(1, (limit - len(taken)) // len(callers))
            for line in callers:
                if len(taken) < limit:
                    self.callers.remove(line)
                    taken += self.turn_of(line, min(share, limit - len(taken)))
                    if any((request.graph, request.caller) == line for request in self.requests):
                        self.callers.append(line)
        self.forget_if_empty(graph)
        return taken

    def turn_of(self, line: tuple[Graph, int], share: int) -> list[tuple[int, int]]:
        taken: list[tuple[int, int]] = []
        for request in [request for request in self.requests if (request.graph, request.caller) == line]:
            if len(taken) == share:
                break
            self.requests.remove(request)
            while request.rows and len(taken) < share and not request.is_removed:
                taken.append((request.name, request.rows.pop(0)))
            if request.rows and not request.is_removed:
                self.requests.append(request)
        return taken

    def charge(self, model: str, seconds: float) -> None:
        self.spent_s[model] += seconds / self.shares.get(model, 1.0)


ADD = st.tuples(st.just("add"), st.sampled_from([A, A2, B]), st.integers(0, 3), st.integers(1, 12))
REMOVE = st.tuples(st.just("remove"), st.integers(0, 99))
TAKE = st.tuples(st.just("take"), st.integers(1, 20), st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]))
HISTORIES = st.lists(st.one_of(ADD, ADD, REMOVE, TAKE), max_size=40)


@given(HISTORIES, st.sampled_from([{}, {"a": 2.0}, {"a": 0.5, "b": 4.0}]))
@example([("add", A, 0, 1), ("add", A, 1, 9), ("remove", 0), ("add", A, 0, 9), ("take", 3, 0.0)], {})
@example([("add", A, c, 9) for c in range(4)] + [("remove", 1), ("remove", 2), ("take", 9, 0.0)], {})
@settings(max_examples=300, deadline=None, database=None)
def test_any_history_is_that_of_the_slow_rules(history: list[tuple], shares: dict[str, float]):
    fair_queue, slow = FairQueue(shares), SlowFairQueue(shares)
    requests: list[Request] = []
    slow_requests: list[SlowRequest] = []
    for kind, *how in history:
        if kind == "add":
            graph, caller, count = how
            requests.append(wish(count, caller, graph))
            slow_requests.append(SlowRequest(len(slow_requests), graph, caller, list(range(count))))
            fair_queue.add(requests[-1])
            slow.add(slow_requests[-1])
        elif kind == "remove" and requests:
            number = how[0] % len(requests)
            if not requests[number].is_ended:
                fair_queue.remove(requests[number])
                slow.remove(slow_requests[number])
        elif kind == "take" and (turn := fair_queue.next_graph()):
            limit, seconds = how
            pieces = fair_queue.take(turn[0], limit)
            taken = slow.take(turn[0], limit)
            assert [(requests.index(request), row) for request, row in rows_of(pieces)] == grouped(taken)
            fair_queue.charge(turn[0].model, seconds)
            slow.charge(turn[0].model, seconds)
        assert fair_queue.next_graph() == slow.next_graph()
        assert {requests.index(request) for request in fair_queue.waiting()} == {
            name for graph in (A, A2, B) for name, _ in slow.waiting(graph)
        }


def grouped(taken: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Rows of one request side by side, where its first one was."""
    names = [name for name, _ in taken]
    return sorted(taken, key=lambda row: (names.index(row[0]), row[1]))


@given(HISTORIES)
@settings(max_examples=200, deadline=None, database=None)
def test_whatever_happens_rows_are_taken_once_in_order_and_shared_fairly(history: list[tuple]):
    fair_queue = FairQueue()
    requests: list[Request] = []
    left: dict[Request, int] = {}
    got: dict[Request, list[int]] = {}

    def take(limit: int, seconds: float) -> None:
        turn = fair_queue.next_graph()
        if turn is None:
            assert not left
            return
        graph, rows = turn
        wanted = Counter[Hashable]()
        for request, count in left.items():
            if request.graph == graph:
                wanted[request.caller] += count
        assert rows == wanted.total()
        pieces = fair_queue.take(graph, limit)
        taken = rows_of(pieces)
        assert len(taken) == min(limit, rows), "a batch is full if enough rows wait"
        assert len(pieces) == len({piece.request for piece in pieces}), "one piece of each request"
        for request, row in taken:
            assert request.graph == graph
            assert request in left, "removed or taken whole before"
            got[request].append(row)
            left[request] -= 1
            if not left[request]:
                del left[request]
        given = callers_of(pieces)
        for caller in wanted:
            assert all(given[caller] <= given[other] + 1 for other in wanted if given[other] < wanted[other])
        fair_queue.charge(graph.model, seconds)

    for kind, *how in history:
        if kind == "add":
            graph, caller, count = how
            requests.append(wish(count, caller, graph))
            left[requests[-1]], got[requests[-1]] = count, []
            fair_queue.add(requests[-1])
        elif kind == "remove" and requests and not (request := requests[how[0] % len(requests)]).is_ended:
            fair_queue.remove(request)
            left.pop(request, None)
        elif kind == "take":
            take(*how)
    while fair_queue.next_graph():
        take(7, 1.0)
    assert not left
    for request in requests:
        assert got[request] == list(range(len(got[request]))), "in order, none twice"
        assert request.is_ended or len(got[request]) == request.count
