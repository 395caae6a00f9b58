"""Connections whose clients take their calls back as fast as they make them are closed.

A call that is taken back costs its client a few bytes and the server a task, so one connection can keep a server from all
others. gRPC's own protection refuses honest crowds as well, and its Python has no way to close one connection; the system has.
"""

import ctypes
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import structlog

WINDOW_S = 5.0
"""A client that takes back `most` calls within this time does nothing else."""

DESCRIPTORS = Path("/proc/self/fd")

NOWHERE = bytes(16)
"""An address of the family AF_UNSPEC; to connect to it ends a connection at once (connect(2))."""

log = structlog.get_logger()


def close_connection(peer: str) -> bool:
    """Close this process's connection to a peer as gRPC names it, "ipv4:127.0.0.1:2000"; returns whether there was one."""
    kind, _, address = peer.partition(":")
    host, _, port = unquote(address).rpartition(":")
    if kind not in ("ipv4", "ipv6") or not DESCRIPTORS.exists():
        return False
    endpoint = (ipaddress.ip_address(host.strip("[]")), int(port))
    for descriptor in DESCRIPTORS.iterdir():
        try:
            connection = socket.socket(fileno=os.dup(int(descriptor.name)))
        except OSError:  # no socket, or closed meanwhile
            continue
        with connection:
            try:
                if _peer_of(connection) == endpoint:
                    # As `shutdown`, but whatever waits to be read or sent is dropped: who does not read would never end.
                    return bool(ctypes.CDLL(None).connect(connection.fileno(), NOWHERE, len(NOWHERE)) == 0)
            except OSError:  # not connected
                continue
    return False


def _peer_of(connection: socket.socket) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int] | None:
    """Whom a connection leads to. Raises: OSError, if to nobody."""
    name = connection.getpeername()
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    address = ipaddress.ip_address(name[0].partition("%")[0])
    # gRPC listens for both kinds on one socket, where an IPv4 address is written as an IPv6 one.
    return getattr(address, "ipv4_mapped", None) or address, name[1]


class Resets:
    """Counts the calls that clients take back, by connection; not those whose time was over.

    most   calls within WINDOW_S
    """

    def __init__(
        self, most: int, close: Callable[[str], bool] = close_connection, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._close = close
        self._clock = clock
        self._window_began_s = clock()
        self._counts: dict[str, int] = {}

    def count(self, peer: str) -> None:
        """One more call was taken back."""
        if self._clock() - self._window_began_s > WINDOW_S:
            self._window_began_s = self._clock()
            self._counts.clear()
        self._counts[peer] = self._counts.get(peer, 0) + 1
        if self._counts[peer] == self._most and self._close(peer):
            log.warning(
                "connection closed: its client takes its calls back", peer=peer, calls=self._most, seconds=WINDOW_S
            )
