"""What can go wrong when a server is asked for images.

    FigmentError             any code that has no class below
      InvalidArgument        the request is wrong or too large; `field` names the part at fault. Also raised before sending
      NotFound               no such model or version
      FailedPrecondition     the model cannot do this: it has no encoder
      Exhausted              the server is full; try again after `retry_after_s`
      DeadlineExceeded       no answer in time
      Unavailable            the server cannot be reached, is starting or is draining
      Cancelled              given up before the answer
      Unauthenticated        the server wants credentials
      PermissionDenied       these credentials are not enough
      Unimplemented          the server does not know this method
      Internal               a bug on one of the two sides

    grpc.RpcError, or a stream's figment.v1.Error -> one of these

The wire code is on the class, the server's request id on the error. What no server has said is put in words by `reasons`.
"""

from collections.abc import Callable
from typing import ClassVar, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from figment.v1 import image_service_pb2
from figment_client.reasons import Asked, in_words

_CLASS_OF: dict[grpc.StatusCode, type["FigmentError"]] = {}


class FigmentError(Exception):
    """The server, or a check before it, refused; the message says what is wrong, what came and what is allowed."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init_subclass__(cls, code: grpc.StatusCode) -> None:
        cls.code = code
        _CLASS_OF[code] = cls

    def __init__(self, message: str, *, request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.message} (request {self.request_id})" if self.request_id else self.message


class InvalidArgument(FigmentError, code=grpc.StatusCode.INVALID_ARGUMENT):
    """The request is wrong; `field` names the part at fault, "" where the server named none."""

    def __init__(self, message: str, *, field: str = "", request_id: str = "") -> None:
        super().__init__(message, request_id=request_id)
        self.field = field


class NotFound(FigmentError, code=grpc.StatusCode.NOT_FOUND):
    """There is no such model or version."""


class FailedPrecondition(FigmentError, code=grpc.StatusCode.FAILED_PRECONDITION):
    """The model cannot do this."""


class Exhausted(FigmentError, code=grpc.StatusCode.RESOURCE_EXHAUSTED):
    """The server is full; `retry_after_s` is its advice in seconds, 0 where it gave none."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0, request_id: str = "") -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(FigmentError, code=grpc.StatusCode.DEADLINE_EXCEEDED):
    """No answer in time."""


class Unavailable(FigmentError, code=grpc.StatusCode.UNAVAILABLE):
    """The server cannot be reached, is starting or is draining."""


class Cancelled(FigmentError, code=grpc.StatusCode.CANCELLED):
    """The call was given up before the answer."""


class Unauthenticated(FigmentError, code=grpc.StatusCode.UNAUTHENTICATED):
    """The server wants credentials."""


class PermissionDenied(FigmentError, code=grpc.StatusCode.PERMISSION_DENIED):
    """These credentials are not enough."""


class Unimplemented(FigmentError, code=grpc.StatusCode.UNIMPLEMENTED):
    """The server does not know this method."""


class Internal(FigmentError, code=grpc.StatusCode.INTERNAL):
    """A bug on one of the two sides."""


_CODE_OF_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc(error: grpc.RpcError, asked: Asked, is_connected: Callable[[], bool]) -> FigmentError:
    """The error of a call that failed: what the server says, with its google.rpc.Status details, else what gRPC met.

    is_connected: whether there is a connection; called only where the deadline has passed.
    """
    call = cast(grpc.Call, error)
    code, message = call.code(), call.details() or ""
    field, retry_after_s = "", 0.0
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # A proxy rewrote code or message and left the details: they are no longer about this error.
        status = None
    for detail in status.details if status else ():
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad_request = error_details_pb2.BadRequest()
            detail.Unpack(bad_request)
            field = next((violation.field for violation in bad_request.field_violations), "")
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry_info = error_details_pb2.RetryInfo()
            detail.Unpack(retry_info)
            retry_after_s = retry_info.retry_delay.ToTimedelta().total_seconds()
    request_id = next((value for key, value in call.trailing_metadata() or () if key == "x-request-id"), "")
    if not request_id and not status:
        code, message = in_words(code, message, asked, is_connected)
    return _built(code, message, field, retry_after_s, str(request_id))


def from_message(error: image_service_pb2.Error) -> FigmentError:
    """The error of one request on a stream that goes on."""
    code = _CODE_OF_NUMBER.get(error.code, grpc.StatusCode.UNKNOWN)
    return _built(code, error.message, error.field, error.retry_after_s, "")


def _built(code: grpc.StatusCode, message: str, field: str, retry_after_s: float, request_id: str) -> FigmentError:
    message = message or code.name
    kind = _CLASS_OF.get(code)
    if kind is InvalidArgument:
        return InvalidArgument(message, field=field, request_id=request_id)
    if kind is Exhausted:
        return Exhausted(message, retry_after_s=retry_after_s, request_id=request_id)
    if kind:
        return kind(message, request_id=request_id)
    return FigmentError(f"{code.name}: {message}", request_id=request_id)
