"""The connection to a server: tried again, told from a silent one, and direct where the server is on this machine.

address -> options -> grpc.Channel

The names of options are those of grpc/impl/channel_arg_names.h.
"""

import ipaddress
import json
import re

import grpc

ADDRESSES = "host:port, such as 127.0.0.1:50051 or [::1]:50051, or a name of gRPC's, such as dns:///host:50051"
_SCHEMES = ("dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:", "vsock:", "xds:")

SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}
"""Every method draws or reads and changes nothing, so each may be tried again. Deadlines are each call's own. A server that
stops ends calls as CANCELLED that come while it says goodbye; what the caller cancels is not tried again."""

KEEPALIVE = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
]
"""In a call, a server that is silent for the first time is asked for a sign of life, and is gone if it gives none within the
second: then calls end, also those without a deadline."""

DIRECT = [("grpc.enable_http_proxy", 0)]

_TARGET = re.compile(
    r"(?:(?:dns|ipv4|ipv6):(?://[^/]*/)?)?(?:\[(?P<ipv6>[^\]]*)\]|(?P<host>[^:/]*))(?::\d+)?", re.ASCII
)


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """A channel to host:port, or whatever gRPC takes for a target; connected to on the first call."""
    options = [("grpc.service_config", json.dumps(SERVICE_CONFIG)), *KEEPALIVE, *(DIRECT if is_here(address) else [])]
    if credentials:
        return grpc.secure_channel(address, credentials, options)
    return grpc.insecure_channel(address, options)


def is_here(address: str) -> bool:
    """Whether a server at `address` is on this machine, which no proxy of the environment reaches."""
    target = _TARGET.fullmatch(address)
    if target is None:
        return address.startswith("unix")
    host = target["ipv6"] or target["host"] or ""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return found.is_loopback or found.is_unspecified


def is_address(address: str) -> bool:
    """Whether gRPC could connect to it: host:port, or a name in one of gRPC's own schemes."""
    if address.startswith(_SCHEMES):
        return True
    host, _, port = address.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535
    is_host = host.startswith("[") and host.endswith("]") if ":" in host else bool(host) and "/" not in host
    return is_port and is_host and not any(letter.isspace() for letter in address)
