"""What to measure and for how long: the command line.

    arguments -> Plan

The default takes about half an hour; `--quick` six or seven minutes, with figures to match.
"""

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.turns import Span
from benchmarks.shared.workloads import RESULTS
from figment.machine import usable_cpus

GRAPHS = ("small28", "dcgan64")
IMAGES = ("1", "16")
PARTS = ("closed", "single", "open", "bulk", "start", "soak")
WITHOUT_FIGMENT = ("closed", "single", "start")
PEERS = ("mosec", "pytriton", "litserve")
EVERYONE = ("figment", "stream", "nothing", "alone", *PEERS)

QUICK = {
    "rounds": 2, "seconds": 1.5, "open_seconds": 4.0, "open_fractions": (0.7,), "bulk_seconds": 4.0, "starts": 2,
    "soak_requests": 20_000,
}  # fmt: skip


class Plan(argparse.Namespace):
    """Everything that decides what is done: the options, and what is derived from them.

    contenders      who takes part in the closed loop; servers in the open loop and alone likewise
    variants        Figments by name, with their options
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
    open_seconds: float
    open_fractions: tuple[float, ...]
    bulk_seconds: float
    starts: int
    soak_requests: int
    out: Path

    @property
    def peers(self) -> tuple[str, ...]:
        """The peers that take part."""
        return tuple(name for name in PEERS if name in self.contenders)


def read(arguments: Sequence[str] | None = None) -> Plan:
    """The plan of a command line, sys.argv's by default; ends the program where it is wrong."""
    parser = _parser()
    if parser.parse_args(arguments).quick:
        parser.set_defaults(**QUICK)
    options = parser.parse_args(arguments)
    variants = {"figment": tuple(shlex.split(options.options))}
    for text in options.variant:
        name, equals, words = text.partition("=")
        if not equals or not name or name in EVERYONE or name in variants:
            parser.error(f"--variant: got {text!r}, allowed is NAME=OPTIONS with a name that is not taken")
        variants[name] = tuple(shlex.split(words))
    contenders = tuple(name for name in options.contenders if options.peer_servers or name not in PEERS)
    parts = tuple(part for part in options.parts if options.open_loop or part != "open")
    if "figment" not in contenders:
        parts = tuple(part for part in parts if part in WITHOUT_FIGMENT)
    derived: dict[str, Any] = {
        "images": tuple(map(int, options.images)),
        "variants": variants,
        "contenders": contenders,
        "parts": parts,
        "span": Span(warm_s=0.7, window_s=options.seconds),
    }
    return Plan(**{**vars(options), **derived})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.serving", description="Figment's server beside its peers.")
    parser.set_defaults(open_fractions=(0.5, 0.7, 0.9), bulk_seconds=20.0, starts=5)
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--quick", action="store_true", help="short windows, two rounds, one rate in the open loop")
    add("--rounds", type=int, default=5, help="turns of each contender (default 5)")
    add("--seconds", type=float, default=3.0, help="seconds of each measurement (default 3); more where needed")
    add("--graphs", type=_list_of(GRAPHS), default=GRAPHS, help=f"of {','.join(GRAPHS)}")
    add("--images", type=_list_of(IMAGES), default=IMAGES, help=f"images a request: of {','.join(IMAGES)}")
    add("--contenders", type=_list_of(EVERYONE), default=EVERYONE, help=f"of {','.join(EVERYONE)}")
    add("--peers", dest="peer_servers", action=switch, default=True, help="other people's servers")
    add("--parts", type=_list_of(PARTS), default=PARTS, help=f"of {','.join(PARTS)}")
    add("--open-loop", action=switch, default=True, help="same as part open")
    add("--open-seconds", type=float, default=12.0, help="seconds of each rate of the open loop (default 12)")
    add("--soak-requests", type=int, default=200_000, help="requests of the soak (default 200000)")
    add("--threads", type=int, default=usable_cpus(), help="engine threads of every server")
    add("--connections", type=int, choices=(1, 2, 4, 8, 16, 32), default=4, help="to gRPC servers")
    add("--options", default="", help="further options of figment serve, in one argument")
    add("--variant", action="append", default=[], metavar="NAME=OPTIONS", help="another figment beside it")
    add("--out", type=Path, default=RESULTS, help="folder of results.json, tables.md, plots")
    return parser


def _list_of(names: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def read_list(text: str) -> tuple[str, ...]:
        found = tuple(part for part in text.split(",") if part)
        if not found or set(found) - set(names):
            raise argparse.ArgumentTypeError(f"got {text!r}, allowed are {', '.join(names)}, with commas between")
        return found

    return read_list
