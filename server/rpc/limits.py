"""How much one request may ask for, as numbers of images of a given size.

Knows the settings and byte sizes, not requests.
"""

from functools import cache

from figment.v1.model_service_pb2 import Limits as LimitsMessage
from server.settings import LimitSettings


class Limits:
    """The limits of one server."""

    def __init__(self, settings: LimitSettings, max_batch: int) -> None:
        self._settings = settings
        self._max_batch = max_batch
        self.unary_images = cache(self._unary_images)

    def _unary_images(self, row_bytes: int) -> int:
        """Images of a unary request whose reply takes `row_bytes` for each; one is allowed whatever its size."""
        settings = self._settings
        return max(1, min(settings.unary_images, self._queue_images, settings.unary_bytes // row_bytes))

    def uploaded_images(self, image_bytes: int) -> int:
        """Images of one upload: as many as a message of raw pixels holds, whatever they take as files; one is allowed."""
        return max(1, self._settings.receive_bytes // image_bytes)

    @property
    def decoded_bytes(self) -> int:
        """Of the decoded pictures of all uploads together."""
        return self._settings.received_bytes

    @property
    def _queue_images(self) -> int:
        """Images of one model that fit into an empty queue: more are no matter of waiting."""
        settings = self._settings
        return min(settings.queue_images, settings.model_queue_images or settings.queue_images)

    @property
    def stream_images(self) -> int:
        """Images of one request on a stream."""
        return self._settings.stream_images

    @property
    def stream_requests(self) -> int:
        """Requests in flight on one stream."""
        return self._settings.stream_requests

    @property
    def stream_chunk_bytes(self) -> int:
        """Raw bytes of one response on a stream; one image may be larger."""
        return self._settings.stream_chunk_bytes

    def piece_images(self, image_bytes: int) -> int:
        """Images of one response on a stream: what one run computes, unless the chunk holds less."""
        return max(1, min(self._max_batch, self._settings.stream_chunk_bytes // image_bytes))

    def message(self, image_bytes: int) -> LimitsMessage:
        """The limits for a model, as clients are told."""
        return LimitsMessage(
            unary_images=self.unary_images(image_bytes),
            stream_images=self._settings.stream_images,
            stream_chunk_bytes=self._settings.stream_chunk_bytes,
            stream_requests=self._settings.stream_requests,
            queue_images=self._settings.queue_images,
            receive_bytes=self._settings.receive_bytes,
        )
