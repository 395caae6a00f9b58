"""All servers of one graph, up at the same time, ended together.

    Plan, graph -> Fleet(figments, nothing, peers) ... -> stopped

A server that cannot be set up or started is left out, and the reason kept.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.serving.bare import Bare, Shape
from benchmarks.serving.contenders import Streaming, Unary
from benchmarks.serving.load import FLIGHT
from benchmarks.serving.plan import Plan
from benchmarks.serving.report import NOTHING, Results
from benchmarks.shared import servers
from benchmarks.shared.processes import Failed
from benchmarks.shared.servers import Figment, Server
from benchmarks.shared.turns import Contender
from benchmarks.shared.workloads import BUNDLES, GRAPHS, Graph, onnx_file

S = TypeVar("S", bound=Server)


@dataclass(frozen=True)
class Fleet:
    """The servers that run; `figments` has one for each variant."""

    graph: Graph
    figments: list[Figment]
    nothing: list[Figment]
    peers: list[Server]

    @property
    def all(self) -> list[Server]:
        """Those that draw the graph's images."""
        return [*self.figments, *self.peers]

    def contenders(self, plan: Plan, images: int, alone: Shape) -> Iterator[Contender]:
        """Who takes turns with `images` images a request."""
        for server in self.figments:
            yield Unary(server, images, plan.connections)
            if "stream" in plan.contenders:
                yield Streaming(server, images, plan.connections)
        for server in self.nothing:
            yield Unary(server, images, plan.connections)
        if "alone" in plan.contenders:
            yield Bare(onnx_file(BUNDLES, self.graph), alone)
        for peer in self.peers:
            yield Unary(peer, images, plan.connections)


@contextmanager
def fleet(plan: Plan, graph: Graph, results: Results) -> Iterator[Fleet]:
    """Start what the plan wants for `graph`; what is missing goes to results.missing."""
    limits = ("--limits.stream-requests", str(FLIGHT // plan.connections))

    def figment(name: str, variant: str, graph: Graph) -> Figment:
        return Figment(name, graph, BUNDLES, plan.threads, (*limits, *plan.variants[variant]))

    with ExitStack() as stack:

        def up(names: Iterable[str], make: Callable[[str], S]) -> Iterator[S]:
            for name in names:
                try:
                    server = stack.enter_context(make(name).running())
                except Failed as failure:
                    results.miss(f"{name}, {graph.name}", f"cannot be started: {failure}")
                    continue
                results.idle_cores[name] = max(server.idle_cores, results.idle_cores.get(name, 0.0))
                print(f"  {name} is up after {server.start_s:.1f} s", flush=True)
                yield server

        ours = tuple(plan.variants) if "figment" in plan.contenders else ()
        figments = list(up(ours, lambda name: figment(name, name, graph)))
        idle = (f"figment, {NOTHING}",) if "nothing" in plan.contenders else ()
        nothing = list(up(idle, lambda name: figment(name, "figment", GRAPHS[graph.nothing])))
        peers = list(up(plan.peers, lambda name: servers.peer(name, graph, BUNDLES, plan.threads)))
        yield Fleet(graph, figments, nothing, peers)
