"""All servers of one graph, up at the same time, ended together.

    Plan, graph -> Fleet(figments, nothing, peers) ... -> stopped

A server that cannot be set up or started is left out, and the reason kept.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks import servers
from benchmarks.bare import Shape
from benchmarks.contenders import Bare, Contender, Streaming, Unary
from benchmarks.environments import SetUpFailed
from benchmarks.plan import HOME, Plan
from benchmarks.processes import StartFailed
from benchmarks.results import Results
from benchmarks.servers import Figment, Server
from benchmarks.workloads import FLIGHT, GRAPHS, Graph

BUNDLES, LOGS, ENVIRONMENTS = HOME / "bundles", HOME / "logs", HOME / "environments"


@dataclass(frozen=True)
class Fleet:
    """The servers that run, by name; `figments` has one for each variant."""

    graph: Graph
    figments: dict[str, Figment]
    nothing: Figment | None
    peers: dict[str, Server]

    @property
    def all(self) -> dict[str, Server]:
        """Those that draw the graph's images."""
        return {**self.figments, **self.peers}

    def contenders(self, plan: Plan, images: int, alone: Shape) -> list[Contender]:
        """Who takes turns with `images` images a request."""
        found: list[Contender] = []
        for server in self.figments.values():
            found.append(Unary(server, images, plan.connections))
            if "stream" in plan.contenders:
                found.append(Streaming(server, images, plan.connections))
        if self.nothing:
            found.append(Unary(self.nothing, images, plan.connections))
        if "alone" in plan.contenders:
            found.append(Bare(servers.onnx_file(BUNDLES, self.graph), alone))
        return [*found, *(Unary(server, images, plan.connections) for server in self.peers.values())]


@contextmanager
def fleet(plan: Plan, graph: Graph, results: Results) -> Iterator[Fleet]:
    """Start what the plan wants for `graph`; what is missing goes to results.missing."""
    limits = ("--limits.stream-requests", str(FLIGHT // plan.connections))
    with ExitStack() as stack:
        figments = {}
        for name, options in plan.variants.items() if "figment" in plan.contenders else ():
            server = Figment(name, graph, BUNDLES, LOGS, plan.threads, (*limits, *options))
            if _started(server, results, stack):
                figments[name] = server
        nothing = None
        if "nothing" in plan.contenders:
            options = (*limits, *plan.variants["figment"])
            server = Figment("figment, nothing computed", GRAPHS[graph.nothing], BUNDLES, LOGS, plan.threads, options)
            nothing = server if _started(server, results, stack) else None
        peers = {}
        for name in plan.peers:
            try:
                peer = servers.peer(name, graph, BUNDLES, ENVIRONMENTS, LOGS, plan.threads)
            except SetUpFailed as failure:
                _miss(results, name, f"cannot be set up: {failure}")
                continue
            if _started(peer, results, stack):
                peers[name] = peer
        yield Fleet(graph, figments, nothing, peers)


def _started(server: Server, results: Results, stack: ExitStack) -> bool:
    try:
        server.start()
    except StartFailed as failure:
        _miss(results, f"{server.name}, {server.graph.name}", f"cannot be started: {failure}")
        return False
    stack.callback(server.stop)
    results.idle_cores[server.name] = max(server.idle_cores, results.idle_cores.get(server.name, 0.0))
    print(f"  {server.name} is up after {server.start_s:.1f} s", flush=True)
    return True


def _miss(results: Results, name: str, reason: str) -> None:
    results.missing[name] = reason
    print(f"  {name}: {reason}", flush=True)
