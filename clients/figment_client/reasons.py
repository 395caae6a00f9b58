"""Why a call got no answer from a Figment server, in words that say what to do.

    what gRPC says, what was asked of whom -> in_words() -> (class of error, message)

gRPC's own words name neither the call nor a way out, and the codes of several causes are one. Knows gRPC's texts, which are
no contract: what is not recognised is told as it came, beside what was asked. What a server says for itself is not for here.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import grpc
from google.protobuf.message import Message

from figment.v1 import image_service_pb2
from figment_client.connection import is_here

CODE = grpc.StatusCode
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
BYPASS_VARIABLES = ("no_grpc_proxy", "no_proxy")
"""In the order in which gRPC looks at them."""

_LAST = re.compile(r"failed to connect to all addresses; last error: (?:\w+: )?(.*)", re.DOTALL)
_REMOVED = re.compile(r"Stream removed \((.*)\)", re.DOTALL)
_TOO_LARGE = re.compile(r"(SERVER|CLIENT): (Received|Sent) message larger than max \((\d+) vs\. (\d+)\)")
_BROKEN = re.compile(
    r"socket closed|connection reset|broken pipe|goaway|too_many_pings|ping timeout|keepalive|endpoint", re.I
)


@dataclass(frozen=True)
class Asked:
    """A call: its method and what it is about, the server's address, and the seconds that it may take, None = any."""

    what: str
    address: str
    timeout_s: float | None


def in_words(
    code: grpc.StatusCode, details: str, asked: Asked, is_connected: Callable[[], bool]
) -> tuple[grpc.StatusCode, str]:
    """The code that is meant, and what to do about it.

    is_connected: whether there is a connection; called only where the deadline has passed.
    """
    if removed := _REMOVED.fullmatch(details):
        details = removed[1]
    if code is CODE.DEADLINE_EXCEEDED and details == "Deadline Exceeded":
        if is_connected():
            return code, f"no answer from {asked.address} within {asked.timeout_s:g} s to {asked.what}"
        missing = f"no connection to {asked.address} within {asked.timeout_s:g} s, for {asked.what}"
        return code, f"{missing}: nothing answers there as a gRPC server does{_by_proxy(asked.address)}"
    if size := _TOO_LARGE.search(details):
        side, way, got, allowed = size.groups()
        if (side, way) == ("CLIENT", "Received"):
            got_allowed = f"got a reply of {int(got):,} bytes, allowed are {int(allowed):,}"
            return CODE.INVALID_ARGUMENT, f"{asked.what}: {got_allowed}; ask for fewer images at a time"
        got_allowed = f"got a message of {int(got):,} bytes, allowed are {int(allowed):,}"
        return CODE.INVALID_ARGUMENT, f"{asked.what}: {got_allowed}; send fewer images at a time, or smaller files"
    if "serializing request" in details:
        return CODE.INVALID_ARGUMENT, f"{asked.what}: got more than a message can hold, 2 GiB; send less at a time"
    if code is CODE.UNIMPLEMENTED:
        other = f"{asked.address} does not know {asked.what.partition(' ')[0]}: another version of Figment, or another server"
        return code, other if details == "Method not found!" else f"{other} ({details})"
    if code is CODE.UNAVAILABLE:
        return code, _unavailable(details, asked)
    if code is CODE.CANCELLED:
        return code, f"{asked.what} was given up: {details}"
    if code in (CODE.INTERNAL, CODE.UNKNOWN):
        return code, f"{asked.what}, asked of {asked.address}: {details}"
    return code, details


def _unavailable(details: str, asked: Asked) -> str:
    address = asked.address
    if connecting := _LAST.match(details):
        return _not_connected(re.sub(r"^(ipv[46]|unix):\S+: ", "", connecting[1]), address)
    if "resolving" in details or "DNS resolution failed" in details or "lookup" in details:
        return f"no address is known for {address}: is the name right? allowed is host:port ({details})"
    if "http2 header with status" in details or "content-type" in details:
        return f"what listens at {address} is no gRPC server, but speaks HTTP ({details})"
    if _BROKEN.search(details):
        return f"the connection to {address} was lost during {asked.what}; try again, a seed draws the same ({details})"
    return f"{asked.what}, asked of {address}: {details}"


def _not_connected(reason: str, address: str) -> str:
    if proxy := _by_proxy(address):
        return f"no connection to {address}: {reason}{proxy}"
    if "Connection refused" in reason or "No such file" in reason:
        return (
            f"nothing listens at {address}: start a server with `figment serve --models models` or `make serve`, "
            "or name another (--address, FIGMENT_ADDRESS)"
        )
    if "HTTP/2" in reason or "http1" in reason:
        return f"what listens at {address} is no gRPC server; the page of metrics has a port of its own ({reason})"
    if "WRONG_VERSION_NUMBER" in reason:
        return f"the server at {address} speaks no TLS, or is no gRPC server: leave out the credentials ({reason})"
    if "Tls" in reason or "Hostname Verification" in reason or "certificate" in reason:
        return f"the certificate of {address} is not accepted ({reason})"
    if "SETTINGS" in reason or "timed out" in reason or "timeout" in reason.lower():
        return f"no connection to {address}: nothing answers there as a gRPC server does ({reason})"
    if _BROKEN.search(reason):
        return f"{address} closed the connection at once: it wants TLS, or is no gRPC server ({reason})"
    return f"no connection to {address}: {reason}"


def _by_proxy(address: str) -> str:
    """What to know of a proxy that connections to the address go through, "" where they go through none."""
    host = address.rpartition("/")[2].rpartition(":")[0].strip("[]")
    variable = next((name for name in PROXY_VARIABLES if os.environ.get(name)), None)
    if variable is None or not host or is_here(address):
        return ""
    bypassed = next((os.environ[name] for name in BYPASS_VARIABLES if os.environ.get(name)), None)
    if bypassed and proxy_bypass_environment(host, {"no": bypassed}):
        return ""
    proxy = urlsplit(os.environ[variable])
    return (
        f"; connections go through the proxy {proxy.hostname}:{proxy.port} of {variable}, no_proxy={host} leaves it out"
    )


def described(request: Message) -> str:
    """What a request asks for, in words: "Generate of 64 images of digits-gan"."""
    count = ""
    if isinstance(request, image_service_pb2.DecodeRequest):
        count = f" of {_counted(request.latents.count, 'latent')}"
    elif isinstance(request, image_service_pb2.EncodeRequest | image_service_pb2.ReconstructRequest):
        count = f" of {_counted(request.images.count, 'image')}"
    elif isinstance(request, image_service_pb2.GenerateRequest):
        count = f" of {_counted(request.count, 'image')}"
    elif isinstance(request, image_service_pb2.InterpolateRequest):
        count = f" of {_counted(request.steps, 'image')}"
    model = getattr(request, "model", "")
    return request.DESCRIPTOR.name.removesuffix("Request") + count + (f" of {model}" if model else "")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
