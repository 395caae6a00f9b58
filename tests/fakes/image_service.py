"""A small real gRPC server for the client's tests: image `index` of `seed` is filled with (seed + index) % 256."""

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc
import numpy as np
from google.protobuf import any_pb2
from google.rpc import status_pb2

from figment.v1 import (
    image_service_pb2,
    image_service_pb2_grpc,
    images_pb2,
    manifest_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
)

HEIGHT, WIDTH, CHANNELS, LATENT_DIM = 8, 6, 1, 3
UNARY_IMAGES = 4
PIECE_IMAGES = 3

Refuse = Callable[[grpc.ServicerContext], None]


class Refusal(NamedTuple):
    """What grpc.ServicerContext.abort_with_status takes."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Any


def refusal(code: grpc.StatusCode, message: str, *details: Any) -> Refuse:
    """End a call with this google.rpc.Status and the request id "r-1"."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailers = (("x-request-id", "r-1"), ("grpc-status-details-bin", status.SerializeToString()))
    return lambda context: context.abort_with_status(Refusal(code, message, trailers))  # type: ignore[arg-type]


def batch(array: np.ndarray[Any, Any]) -> images_pb2.ImageBatch:
    count, height, width, channels = array.shape
    return images_pb2.ImageBatch(
        format=images_pb2.IMAGE_FORMAT_RAW,
        count=count,
        height=height,
        width=width,
        channels=channels,
        data=[array.tobytes()],
    )


def drawn(seed: int, first_index: int, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    values = [(seed + index) % 256 for index in range(first_index, first_index + count)]
    return np.tile(np.array(values, np.uint8)[:, None, None, None], (1, HEIGHT, WIDTH, CHANNELS))


def drawn_by(request: Any) -> dict[str, Any]:
    """What every reply says of the model, its engine and the time."""
    timing = images_pb2.Timing(queue_s=0.5, compute_s=0.25, encode_s=0.125, batch_size=64)
    return {"model": request.model, "version": request.version or "1", "engine": "ab12", "timing": timing}


def latents(array: np.ndarray[Any, Any]) -> images_pb2.LatentBatch:
    count, dim = array.shape
    return images_pb2.LatentBatch(count=count, dim=dim, values=array.astype("<f4").tobytes())


class Services(image_service_pb2_grpc.ImageServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Answers every request, unless `refusals` has something for it first; keeps what came in `requests`."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.refusals: list[Refuse] = []
        self.stream_answers: list[image_service_pb2.StreamGenerateResponse] | None = None
        self.stream_cancelled = threading.Event()
        self.endless = False

    def _arrived(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if self.refusals:
            self.refusals.pop(0)(context)

    def Generate(self, request: Any, context: Any) -> Any:
        self._arrived(request, context)
        return self._response(request, request.first_index, request.count)

    def _response(self, request: Any, first_index: int, count: int) -> image_service_pb2.GenerateResponse:
        seed = request.seed if request.HasField("seed") else 1000
        labels = [request.label] * count if request.HasField("label") else []
        images = batch(drawn(seed, first_index, count))
        return image_service_pb2.GenerateResponse(
            images=images, seed=seed, first_index=first_index, labels=labels, **drawn_by(request)
        )

    def StreamGenerate(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        context.add_callback(self.stream_cancelled.set)
        for message in requests:
            self._arrived(message, context)
            if self.stream_answers is not None:
                yield from self.stream_answers
                return
            done = 0
            while done < message.request.count:
                count = min(PIECE_IMAGES, message.request.count - done)
                response = self._response(message.request, message.request.first_index + done, count)
                done += count
                last = done == message.request.count
                yield image_service_pb2.StreamGenerateResponse(id=message.id, response=response, last=last)
                if self.endless:
                    self.stream_cancelled.wait(10)

    def Encode(self, request: Any, context: Any) -> Any:
        self._arrived(request, context)
        mean = np.arange(request.images.count * LATENT_DIM).reshape(-1, LATENT_DIM)
        return image_service_pb2.EncodeResponse(**drawn_by(request), mean=latents(mean), log_variance=latents(-mean))

    def Decode(self, request: Any, context: Any) -> Any:
        self._arrived(request, context)
        return image_service_pb2.DecodeResponse(**drawn_by(request), images=batch(drawn(0, 0, request.latents.count)))

    def Reconstruct(self, request: Any, context: Any) -> Any:
        self._arrived(request, context)
        return image_service_pb2.ReconstructResponse(
            **drawn_by(request), images=batch(drawn(0, 0, request.images.count))
        )

    def Interpolate(self, request: Any, context: Any) -> Any:
        self._arrived(request, context)
        return image_service_pb2.InterpolateResponse(**drawn_by(request), images=batch(drawn(0, 0, request.steps)))

    def ListModels(self, request: Any, context: Any) -> Any:
        self._arrived(request, context)
        ready = model_service_pb2.VersionStatus(version="1", state=model_service_pb2.VERSION_STATE_READY)
        failed = model_service_pb2.VersionStatus(
            version="2", state=model_service_pb2.VERSION_STATE_FAILED, reason="generator.onnx: [sha256] differs"
        )
        return model_service_pb2.ListModelsResponse(
            models=[
                model_service_pb2.ModelSummary(
                    name="digits", family="vae", default_version="1", versions=[failed, ready]
                ),
                model_service_pb2.ModelSummary(name="broken", versions=[failed]),
            ]
        )

    def GetModel(self, request: Any, context: Any) -> Any:
        self._arrived(request, context)
        manifest = manifest_pb2.Manifest(
            name=request.model, height=HEIGHT, width=WIDTH, channels=CHANNELS, labels=["zero", "one"]
        )
        limits = model_service_pb2.Limits(unary_images=UNARY_IMAGES)
        return model_service_pb2.GetModelResponse(manifest=manifest, limits=limits, default_version="1")


class FakeServer:
    """The services on a free port, from `with` to its end."""

    def __enter__(self) -> Self:
        self.services = Services()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        image_service_pb2_grpc.add_ImageServiceServicer_to_server(self.services, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self.services, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop(0).wait()
