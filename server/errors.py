"""Why a request fails: one tree, with the wire code on the class.

    ServingError
      InvalidArgument       INVALID_ARGUMENT     BadRequest: field, what came, what is allowed
      NotFound              NOT_FOUND            names the models or versions that there are
      FailedPrecondition    FAILED_PRECONDITION  the model's family cannot do it, or its version was refused
      Rejected              RESOURCE_EXHAUSTED   RetryInfo
      Expired               DEADLINE_EXCEEDED
      Unavailable           UNAVAILABLE          starting, draining or stopped
      EngineFailed          INTERNAL
    BundleRefused           not of a request: a version is not loaded, for this reason
    CannotStart             not of a request: a setting asks for what is not there
      AddressTaken
      DeviceMissing

Raised where the fault is known; made a google.rpc.Status once, at the edge.
"""

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from figment.v1.image_service_pb2 import Error

QUOTED = 100
"""Characters of what came that a message repeats; trailers have a size limit."""


def quote(value: object) -> str:
    """`value` for an error message, cut to QUOTED characters."""
    text = repr(value)
    return text if len(text) <= QUOTED else text[:QUOTED] + "..."


class ServingError(Exception):
    """A request ends with this instead of an answer."""

    code = StatusCode.UNKNOWN
    field = ""
    retry_after_s = 0.0

    def status(self) -> Status:
        """The error as gRPC carries it, details included."""
        status = Status(code=self.code.value[0], message=str(self))
        for detail in self._details():
            packed = Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status

    def message(self) -> Error:
        """The error as a stream carries it."""
        return Error(code=self.code.value[0], message=str(self), field=self.field, retry_after_s=self.retry_after_s)

    def _details(self) -> list[Message]:
        return []


class InvalidArgument(ServingError):
    """A field of the request holds something that is not allowed."""

    code = StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self._problem = problem

    def _details(self) -> list[Message]:
        violation = BadRequest.FieldViolation(field=self.field, description=self._problem)
        return [BadRequest(field_violations=[violation])]


class NotFound(ServingError):
    """There is no such model or version."""

    code = StatusCode.NOT_FOUND

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class FailedPrecondition(ServingError):
    """The model cannot do this, whatever the request says."""

    code = StatusCode.FAILED_PRECONDITION


class Rejected(ServingError):
    """Too many images or requests are admitted already; nothing was computed."""

    code = StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, problem: str, retry_after_s: float) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s

    def _details(self) -> list[Message]:
        delay = Duration()
        delay.FromNanoseconds(int(self.retry_after_s * 1e9))
        return [RetryInfo(retry_delay=delay)]


class Expired(ServingError):
    """The time that the request was given is over."""

    code = StatusCode.DEADLINE_EXCEEDED


class Unavailable(ServingError):
    """The server is starting, draining or stopped."""

    code = StatusCode.UNAVAILABLE


class EngineFailed(ServingError):
    """The engine raised an exception; the batch that it ran is lost, the queue is not."""

    code = StatusCode.INTERNAL


class BundleRefused(Exception):
    """A version is not loaded; the message says why."""


class CannotStart(Exception):
    """The server cannot start as it is set up; the message names the setting."""


class AddressTaken(CannotStart):
    """An address to listen on cannot be had."""


class DeviceMissing(CannotStart):
    """The device that was asked for cannot be had."""
