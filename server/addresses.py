"""Addresses to listen on: host:port, [IPv6]:port, checked at birth; why one cannot be had.

"[::1]:9464" -> ("::1", 9464) -> socket -> AddressTaken with the true reason
"""

import errno
import ipaddress
import re
import socket
from typing import Annotated

from pydantic import AfterValidator

from server.errors import AddressTaken

EXAMPLES = "such as 127.0.0.1:50051, [::1]:50051 or localhost:50051"
MAX_PORT = 65535
FIRST_FREE_PORT = 1024

_HOST = re.compile(r"[A-Za-z0-9_.-]+")


def split(address: str) -> tuple[str, int]:
    """Host, without brackets, and port. Raises: ValueError, if the address is none."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()):
        raise ValueError(f"got {address[:100]!r}, allowed is host:port, {EXAMPLES}")
    if int(port) > MAX_PORT:
        raise ValueError(f"got port {port[:20]}, allowed are 0, any free one, to {MAX_PORT}")
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), int(port)
        except ValueError:
            raise ValueError(f"got {address[:100]!r}, whose brackets hold no IPv6 address; {EXAMPLES}") from None
    if ":" in host and "/" not in host:
        raise ValueError(f"got {address[:100]!r}: an IPv6 address stands in brackets, {EXAMPLES}")
    if not _HOST.fullmatch(host):
        raise ValueError(f"got {address[:100]!r}, allowed is host:port, {EXAMPLES}")
    return host, int(port)


def joined(host: str, port: int) -> str:
    """host:port, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(address: str) -> str:
    """Where a client on this machine finds who listens on an address, of all interfaces too."""
    host, port = split(address)
    return joined({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104  # only looked for


def is_here(host: str) -> bool:
    """Whether a host is this machine itself, which no proxy reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bound(setting: str, address: str, *, reuses_port: bool = False) -> socket.socket:
    """A socket that has an address, and does not listen yet. Raises: AddressTaken."""
    host, port = split(address)
    try:
        family, kind, _, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuses_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(resolved)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise unavailable(setting, address, error) from None
    return listener


def unavailable(setting: str, address: str, error: OSError) -> AddressTaken:
    """What to say of an address that the system refuses for `error`."""
    host, port = split(address)
    reasons = {
        errno.EADDRINUSE: f"port {port} is in use; is a server running there? Port 0 takes any free one",
        errno.EACCES: f"this user may not listen on port {port}; ports from {FIRST_FREE_PORT} on are everybody's",
        errno.EADDRNOTAVAIL: f"no interface of this machine has the address {host}; 0.0.0.0 and [::] mean all",
        errno.EAFNOSUPPORT: f"this machine has no such kind of address as {host}",
    }
    if isinstance(error, socket.gaierror):
        reason = f"the host {host!r} is unknown ({error.strerror})"
    else:
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
    return AddressTaken(f"{setting}: cannot listen on {address}: {reason}")


def why_unavailable(setting: str, address: str) -> AddressTaken:
    """The reason why somebody who tells none could not listen on an address: try it."""
    try:
        with bound(setting, address) as alone:
            alone.listen()
    except AddressTaken as reason:
        return reason
    except OSError as error:
        return unavailable(setting, address, error)
    return AddressTaken(f"{setting}: cannot listen on {address}, though its port is free now: try again")


def _checked(address: str) -> str:
    split(address)
    return address


Address = Annotated[str, AfterValidator(_checked)]
"""A setting that is an address to listen on."""
