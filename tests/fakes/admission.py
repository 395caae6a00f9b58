"""Admission of few images, what it lets in and shows, and a queue that leaves everything to the test."""

from collections.abc import Callable, Hashable

from server.arrays import Arrays
from server.errors import Rejected, ServingError
from server.models.graph import Graph
from server.scheduling.admission import Admission
from server.scheduling.request import Request
from server.telemetry.metrics import Metrics


class PatientQueue:
    """Takes requests and leaves them to the test."""

    def __init__(self) -> None:
        self.submitted: list[Request] = []
        self.cancelled: list[Request] = []

    def submit(self, graph: Graph, inputs: Arrays, caller: Hashable, finish: Callable[[Request], None]) -> Request:
        request = Request(graph, inputs, len(inputs["x"]), caller, finish, 0.0)
        self.submitted.append(request)
        return request

    def cancel(self, request: Request) -> None:
        if not request.is_ended:
            request.is_ended = True
            self.cancelled.append(request)

    def end(self, number: int, outcome: Arrays | ServingError) -> None:
        """End the request that came as number `number`."""
        request = self.submitted[number]
        request.is_ended = True
        if isinstance(outcome, ServingError):
            request.error = outcome
        else:
            request.outputs = outcome
        request.finish(request)


class WatchedAdmission(Admission):
    """Admission with metrics of its own."""

    def __init__(self, queue_images: int, model_queue_images: int) -> None:
        self.metrics = Metrics()
        super().__init__(self.metrics, queue_images, model_queue_images)


def admitting(queue_images: int = 4, model_queue_images: int | None = None) -> WatchedAdmission:
    return WatchedAdmission(queue_images, model_queue_images or queue_images)


def value(admission: WatchedAdmission, name: str, **labels: str) -> float | None:
    return admission.metrics.registry.get_sample_value(f"figment_{name}", labels)


def fits(admission: Admission, images: int, model: str = "a") -> bool:
    """Whether a request would be let in now."""
    try:
        with admission.reserve(model, images):
            return True
    except Rejected:
        return False
