"""What gRPC's transport is told, so that the server decides who is refused, and one connection cannot hold it.

settings -> options of grpc.aio.server

The names are those of grpc/impl/channel_arg_names.h.
"""

from server.settings import ServerSettings

PENDING_CALLS = 10_000
"""Calls that wait to be taken up. What one costs is bounded by that; a hundred and fifty connections can be full at once."""

WINDOW_BYTES = 64 * 1024
"""Bytes of a message that come before it is read; all of most."""

PING_INTERVAL_MS = 100
"""Clients may ping as often as this, in calls and without; gRPC's default, once in five minutes, cuts off those behind
load balancers."""

KEEPALIVE_MS = 60_000
KEEPALIVE_TIMEOUT_MS = 20_000
"""A client that is silent for the former and does not answer a ping within the latter is gone, and so are its calls."""

HANDSHAKE_MS = 10_000
"""What a new connection has to say that it speaks HTTP/2."""


def transport_options(settings: ServerSettings) -> list[tuple[str, int]]:
    """The options of the gRPC server."""
    limits = settings.limits
    return [
        ("grpc.so_reuseport", int(settings.gateways > 1)),
        ("grpc.max_receive_message_length", limits.receive_bytes),
        # A crowd waits in its own channel, not in front of others.
        ("grpc.max_concurrent_streams", limits.connection_calls),
        # gRPC would end calls of a crowd as CANCELLED beyond 1,000 that the server has not taken up yet, ...
        ("grpc.server.max_pending_requests", PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS),
        # ... and as UNAVAILABLE where calls that have been answered still wait to be freed. Admission decides.
        ("grpc.http.overload_protection", 0),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        # A probe of the connection's speed would let all of a message come before it is read.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
    ]
