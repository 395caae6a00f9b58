"""What to measure and for how long: the command line.

    arguments -> Plan

The default takes about half an hour; `--quick` six or seven minutes, with figures to match.
"""

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders import Span
from benchmarks.machine import usable_cores
from benchmarks.workloads import IMAGES, MEASURED

HOME = Path(__file__).parent / ".bench"
"""Environments, bundles, logs and results; git ignores it."""

PARTS = ("closed", "single", "open", "bulk", "start", "soak")
PEERS = ("mosec", "pytriton", "litserve")
OURS = ("figment", "stream", "nothing", "alone")


@dataclass(frozen=True)
class Plan:
    """Everything that decides what is done.

    contenders      who takes part in the closed loop: of OURS and PEERS; servers in the open loop and alone likewise
    variants        further Figments by name, with their options
    open_fractions  rates of the open loop, parts of Figment's capacity
    """

    graphs: tuple[str, ...]
    images: tuple[int, ...]
    parts: tuple[str, ...]
    contenders: tuple[str, ...]
    variants: dict[str, tuple[str, ...]]
    threads: int
    connections: int
    rounds: int
    span: Span
    open_s: float
    open_fractions: tuple[float, ...]
    bulk_s: float
    starts: int
    soak_requests: int
    out: Path

    @property
    def peers(self) -> tuple[str, ...]:
        """The peers that take part."""
        return tuple(name for name in PEERS if name in self.contenders)


def read(arguments: list[str] | None = None) -> Plan:
    """The plan of a command line, sys.argv's by default; ends the program where it is wrong."""
    parser = argparse.ArgumentParser("python -m benchmarks.serving", description="Figment's server beside its peers.")
    parser.add_argument("--quick", action="store_true", help="short windows, two rounds, one rate in the open loop")
    parser.add_argument("--rounds", type=int, help="turns of each contender (default 5)")
    parser.add_argument("--seconds", type=float, help="seconds of each measurement (default 3); more where needed")
    parser.add_argument("--graphs", type=_list_of(MEASURED), default=MEASURED, help=f"of {','.join(MEASURED)}")
    parser.add_argument("--images", type=_list_of([str(images) for images in IMAGES]), help="images a request: of 1,16")
    everyone = (*OURS, *PEERS)
    parser.add_argument("--contenders", type=_list_of(everyone), default=everyone, help=f"of {','.join(everyone)}")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="other people's servers")
    parser.add_argument("--parts", type=_list_of(PARTS), default=PARTS, help=f"of {','.join(PARTS)}")
    parser.add_argument("--open-loop", action=argparse.BooleanOptionalAction, default=True, help="same as part open")
    parser.add_argument("--open-seconds", type=float, help="seconds of each rate of the open loop (default 12)")
    parser.add_argument("--soak-requests", type=int, help="requests of the soak (default 200000)")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="engine threads of every server")
    parser.add_argument("--connections", type=int, choices=(1, 2, 4, 8, 16, 32), default=4, help="to gRPC servers")
    parser.add_argument("--options", default="", help="further options of figment serve, in one argument")
    parser.add_argument(
        "--variant", action="append", default=[], metavar="NAME=OPTIONS", help="another figment beside it"
    )
    parser.add_argument("--out", type=Path, default=HOME / "results", help="folder of results.json, tables.md, plots")
    given = parser.parse_args(arguments)
    variants = {"figment": tuple(shlex.split(given.options))}
    for text in given.variant:
        name, equals, options = text.partition("=")
        if not equals or not name or name in everyone or name in variants:
            parser.error(f"--variant: got {text!r}, allowed is NAME=OPTIONS with a name that is not taken")
        variants[name] = tuple(shlex.split(options))
    kept = [name for name in given.contenders if given.peers or name not in PEERS]
    plan = Plan(
        graphs=given.graphs,
        images=tuple(map(int, given.images or IMAGES)),
        parts=tuple(part for part in given.parts if given.open_loop or part != "open"),
        contenders=tuple(kept),
        variants=variants,
        threads=given.threads,
        connections=given.connections,
        rounds=given.rounds or (2 if given.quick else 5),
        span=Span(warm_s=0.7, window_s=given.seconds or (1.5 if given.quick else 3.0)),
        open_s=given.open_seconds or (4.0 if given.quick else 12.0),
        open_fractions=(0.7,) if given.quick else (0.5, 0.7, 0.9),
        bulk_s=4.0 if given.quick else 20.0,
        starts=2 if given.quick else 5,
        soak_requests=given.soak_requests or (20_000 if given.quick else 200_000),
        out=given.out,
    )
    if not plan.contenders or "figment" not in plan.contenders:
        plan = replace(plan, parts=tuple(part for part in plan.parts if part in ("closed", "single", "start")))
    return plan


def _list_of(names: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def read_list(text: str) -> tuple[str, ...]:
        found = tuple(part for part in text.split(",") if part)
        if not found or set(found) - set(names):
            raise argparse.ArgumentTypeError(f"got {text!r}, allowed are {', '.join(names)}, with commas between")
        return found

    return read_list
