"""Whose rows run next: weighted fair queueing between models, by engine time, and round robin between a model's callers.

    add(), remove() -> flows: model -> graph -> caller -> requests -> next_graph(), take() -> pieces of one graph

The model of the least virtual time is next; a run advances it by its seconds over the model's weight (start-time fair
queueing, Goyal et al. 1996). A request of more rows than one batch takes goes on in the next ones, so its rows run in order
and nobody waits for its end. A plain data structure that knows neither threads nor clocks; `Batcher` guards it.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator

from server.models.graph import Graph
from server.scheduling.request import Piece, Request


class _Flow:
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


class FairQueue:
    """All requests that wait.

    shares   weight of a model, 1 where it is not named: a model of weight 2 gets twice the engine's time
    """

    def __init__(self, shares: dict[str, float] | None = None) -> None:
        self._shares = shares or {}
        self._flows: OrderedDict[Graph, _Flow] = OrderedDict()
        self._virtual_time_s: dict[str, float] = {}
        self._virtual_now_s = 0.0

    def add(self, request: Request) -> None:
        """Queue a request."""
        graph = request.graph
        flow = self._flows.get(graph)
        if flow is None:
            flow = self._flows[graph] = _Flow()
            # A model that had nothing to run has not saved up time.
            self._virtual_time_s[graph.model] = max(self._virtual_now_s, self._virtual_time_s.get(graph.model, 0.0))
        flow.rows += request.count
        requests = flow.callers.get(request.caller)
        if requests is None:
            requests = flow.callers[request.caller] = deque()
        requests.append(request)

    def remove(self, request: Request) -> None:
        """End a request whose rows may still wait, and forget those; nothing happens to rows that run."""
        request.is_ended = True
        flow = self._flows.get(request.graph)
        if flow and request.taken < request.count:
            flow.rows -= request.count - request.taken
            if not flow.rows:
                del self._flows[request.graph]

    def next_graph(self) -> tuple[Graph, int] | None:
        """The graph whose model has the least virtual time, and how many of its rows wait; None if nothing waits."""
        if not self._flows:
            return None
        graph = min(self._flows, key=lambda graph: self._virtual_time_s[graph.model])
        return graph, self._flows[graph].rows

    def take(self, graph: Graph, rows: int) -> list[Piece]:
        """The next at most `rows` rows that wait for `graph`, which `next_graph` named."""
        flow = self._flows[graph]
        self._virtual_now_s = self._virtual_time_s[graph.model]
        pieces = flow.take(rows)
        if flow.rows:
            self._flows.move_to_end(graph)
        else:
            del self._flows[graph]
        return pieces

    def charge(self, model: str, seconds: float) -> None:
        """Advance a model's virtual time by a run of it that took `seconds`."""
        self._virtual_time_s[model] += seconds / self._shares.get(model, 1.0)

    def waiting_rows(self) -> Iterator[tuple[Graph, int]]:
        """Graphs that something waits for, and how many rows."""
        return ((graph, flow.rows) for graph, flow in self._flows.items())

    def waiting(self) -> Iterator[Request]:
        """All requests with rows that wait."""
        for flow in self._flows.values():
            for requests in flow.callers.values():
                yield from (request for request in requests if not request.is_ended)
