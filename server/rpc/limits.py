"""How much one request may ask for, as numbers of images of a given size.

Knows the settings and byte sizes, not requests.
"""

from functools import cache

from figment.v1.model_service_pb2 import Limits as LimitsMessage
from server.settings import LimitSettings


class Limits:
    """The limits of one server."""

    def __init__(self, settings: LimitSettings, max_batch: int) -> None:
        self.settings = settings
        self._max_batch = max_batch
        self.unary_images = cache(self._unary_images)

    def _unary_images(self, row_bytes: int) -> int:
        """Images of a unary request whose reply takes `row_bytes` for each; one is allowed whatever its size."""
        settings = self.settings
        return max(1, min(settings.unary_images, self._queue_images, settings.unary_bytes // row_bytes))

    def uploaded_images(self, image_bytes: int) -> int:
        """Images of one upload: as many as a message of raw pixels holds, whatever they take as files; one is allowed."""
        return max(1, self.settings.receive_bytes // image_bytes)

    @property
    def _queue_images(self) -> int:
        """Images of one model that fit into an empty queue: more are no matter of waiting."""
        settings = self.settings
        return min(settings.queue_images, settings.model_queue_images or settings.queue_images)

    def piece_images(self, image_bytes: int) -> int:
        """Images of one response on a stream: what one run computes, unless the chunk holds less."""
        return max(1, min(self._max_batch, self.settings.stream_chunk_bytes // image_bytes))

    def message(self, image_bytes: int) -> LimitsMessage:
        """The limits for a model, as clients are told."""
        return LimitsMessage(
            unary_images=self.unary_images(image_bytes),
            stream_images=self.settings.stream_images,
            stream_chunk_bytes=self.settings.stream_chunk_bytes,
            stream_requests=self.settings.stream_requests,
            queue_images=self.settings.queue_images,
            receive_bytes=self.settings.receive_bytes,
        )
