"""Admission: room for images, from the moment that a request is let in to its end.

    reserve() -> Reservation ... -> release()

Counts images, not requests, all together and of each model; a request that does not fit is refused at once, and its room
is free again as soon as it is released, whatever ended it. Knows neither the queue nor gRPC; belongs to the event loop.
"""

from types import TracebackType
from typing import Self

from server.errors import Rejected, Unavailable
from server.scheduling.request import Request
from server.telemetry.metrics import Metrics


class Admission:
    """The images that are admitted at one time.

    queue_images         all together
    model_queue_images   of one model
    """

    def __init__(self, metrics: Metrics, queue_images: int, model_queue_images: int) -> None:
        self._metrics = metrics
        self._queue_images = queue_images
        self._model_queue_images = model_queue_images
        self.images = 0
        """Images that are admitted now."""
        self._model_images: dict[str, int] = {}
        self._closed: str | None = None
        self._images_per_s = 1000.0
        metrics.queue_limit_images.set(queue_images)
        metrics.on_scrape(self._report)

    def reserve(self, model: str, images: int, *, is_continued: bool = False) -> "Reservation":
        """Reserve room for `images` images of one request, all or none.

        A request that comes back for its next images, `is_continued`, was admitted with its first: it is not refused.

        Raises: Rejected, if they do not fit; Unavailable, once `close` was called.
        """
        if is_continued:
            return Reservation(self, model, images)
        if self._closed:
            self._metrics.rejected.labels(model, "draining").inc(1)
            raise Unavailable(self._closed)
        model_images = self._model_images.get(model, 0)
        if self.images + images > self._queue_images:
            raise self._refusal(model, "", self.images, self._queue_images, images)
        if model_images + images > self._model_queue_images:
            raise self._refusal(model, f" of {model}", model_images, self._model_queue_images, images)
        return Reservation(self, model, images)

    def close(self, reason: str) -> None:
        """Admit nothing more; what was admitted goes on."""
        self._closed = reason

    def count(self, model: str, images: int) -> None:
        """Count images in, or out where they are fewer than none."""
        self.images += images
        self._model_images[model] = self._model_images.get(model, 0) + images

    def learn_rate(self, request: Request) -> None:
        """Learn from a request that was run how fast runs are, which tells a refused client when to come again."""
        images_per_s = max(request.count, request.batch_size) / max(request.compute_s, 1e-6)
        self._images_per_s += 0.1 * (images_per_s - self._images_per_s)

    def _report(self) -> None:
        for model, images in list(self._model_images.items()):
            self._metrics.queue_images.labels(model).set(images)

    def _refusal(self, model: str, whose: str, admitted: int, limit: int, images: int) -> Rejected:
        self._metrics.rejected.labels(model, "queue_full").inc(1)
        return Rejected(
            f"the queue is full: {admitted} of {limit} images{whose} are admitted, {images} more do not fit",
            retry_after_s=max(0.01, admitted / self._images_per_s),
        )


class Reservation:
    """Room for some images of one request, until it is released, at the latest at the end of its `with` block."""

    def __init__(self, admission: Admission, model: str, images: int) -> None:
        self._admission = admission
        self._model = model
        self._images = images
        admission.count(model, images)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Free the room; nothing happens the second time."""
        self._admission.count(self._model, -self._images)
        self._images = 0
