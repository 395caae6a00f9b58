"""Whose rows run next: models in turn by the time that they took, callers in turn within a model.

    add(), remove() -> lanes: model -> graph -> caller -> requests -> take() -> pieces of one graph

A plain data structure that knows neither threads nor time; `Batcher` guards it. A request of more rows than it gets in
one turn goes on in the next ones, so its rows run in order and nobody waits for its end.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator

from server.models.graph import Graph
from server.scheduling.request import Piece, Request


class _Lane:
    """Requests that wait for one graph."""

    def __init__(self) -> None:
        self.rows = 0
        self.callers: OrderedDict[Hashable, deque[Request]] = OrderedDict()

    def take(self, rows: int) -> list[Piece]:
        """Pieces of at most `rows` rows together: each caller gets its equal share, the rest goes to who has more."""
        starts: dict[Request, int] = {}
        while rows and self.callers:
            share = max(1, rows // len(self.callers))
            for caller in list(self.callers):
                taken = self._take_from(caller, min(share, rows), starts)
                self.rows -= taken
                rows -= taken
                if not rows:
                    break
        return [Piece(request, start, request.taken) for request, start in starts.items()]

    def _take_from(self, caller: Hashable, rows: int, starts: dict[Request, int]) -> int:
        """Take rows of one caller's requests; where a request began is noted in `starts`."""
        requests, room = self.callers[caller], rows
        self.callers.move_to_end(caller)
        while requests and room:
            request = requests.popleft()
            if request.is_ended:
                continue
            starts.setdefault(request, request.taken)
            taken = min(room, request.count - request.taken)
            request.taken += taken
            room -= taken
            if request.taken < request.count:
                requests.append(request)
        if not requests:
            del self.callers[caller]
        return rows - room


class Turns:
    """All requests that wait.

    shares   weight of a model's turns, 1 where it is not named: a model of weight 2 gets twice the engine's time
    """

    def __init__(self, shares: dict[str, float] | None = None) -> None:
        self._shares = shares or {}
        self._lanes: OrderedDict[Graph, _Lane] = OrderedDict()
        self._spent_s: dict[str, float] = {}
        self._now_s = 0.0

    def add(self, request: Request) -> None:
        """Let a request wait for its first turn."""
        graph = request.graph
        lane = self._lanes.get(graph)
        if lane is None:
            lane = self._lanes[graph] = _Lane()
            # A model that had nothing to run has not saved up time.
            self._spent_s[graph.model] = max(self._now_s, self._spent_s.get(graph.model, 0.0))
        lane.rows += request.count
        requests = lane.callers.get(request.caller)
        if requests is None:
            requests = lane.callers[request.caller] = deque()
        requests.append(request)

    def remove(self, request: Request) -> None:
        """Forget the rows of an ended request that still wait; nothing happens to those that run."""
        request.is_ended = True
        lane = self._lanes.get(request.graph)
        if lane and request.taken < request.count:
            lane.rows -= request.count - request.taken
            if not lane.rows:
                del self._lanes[request.graph]

    def next_graph(self) -> tuple[Graph, int] | None:
        """The graph whose turn it is, and how many of its rows wait; None if nothing waits."""
        if not self._lanes:
            return None
        graph = min(self._lanes, key=lambda graph: self._spent_s[graph.model])
        return graph, self._lanes[graph].rows

    def take(self, graph: Graph, rows: int) -> list[Piece]:
        """The next at most `rows` rows that wait for `graph`, whose turn it is."""
        lane = self._lanes[graph]
        self._now_s = self._spent_s[graph.model]
        pieces = lane.take(rows)
        if lane.rows:
            self._lanes.move_to_end(graph)
        else:
            del self._lanes[graph]
        return pieces

    def spend(self, model: str, seconds: float) -> None:
        """Charge a model with the time that a run of it took."""
        self._spent_s[model] += seconds / self._shares.get(model, 1.0)

    def waiting_rows(self) -> Iterator[tuple[Graph, int]]:
        """Graphs that something waits for, and how many rows."""
        return ((graph, lane.rows) for graph, lane in self._lanes.items())

    def waiting(self) -> Iterator[Request]:
        """All requests with rows that wait."""
        for lane in self._lanes.values():
            for requests in lane.callers.values():
                yield from (request for request in requests if not request.is_ended)
