"""Client: one server's models as method calls on arrays.

    arguments -> requests -> stub -> replies -> arrays; grpc.RpcError -> errors

Owns the channel and one fact for each model, how many images a unary call may ask for. Safe to share between threads.
"""

import os
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Literal, Self, TypeVar

import grpc
import numpy.typing as npt
from google.protobuf.message import Message

from figment.images import Images
from figment.v1 import image_service_pb2, image_service_pb2_grpc, model_service_pb2, model_service_pb2_grpc
from figment_client import errors, replies, requests
from figment_client.connection import open_channel
from figment_client.models import Model
from figment_client.reasons import Asked, described
from figment_client.replies import Encoding
from figment_client.requests import End, ImageSource

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply")

DEFAULT_ADDRESS = "127.0.0.1:50051"
ADDRESS_VARIABLE = "FIGMENT_ADDRESS"
STATE_S = 5.0
"""Seconds to wait for what gRPC answers at once."""


class Client:
    """A connection to one server; use it as a context manager or call close().

    address   host:port; None = what the variable FIGMENT_ADDRESS says, else 127.0.0.1:50051; connected to on the first call
    timeout_s seconds that one call may take, tries included
    credentials   of a TLS server; None = no encryption

    Raises: InvalidArgument, if the address or timeout_s is none.
    """

    def __init__(
        self, address: str | None = None, *, timeout_s: float = 60.0, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        field = "address" if address else ADDRESS_VARIABLE
        address = requests.server_address(field, address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS)
        self.address = address
        self.timeout_s = requests.seconds("timeout_s", timeout_s)
        self._channel = open_channel(address, credentials)
        self._images = image_service_pb2_grpc.ImageServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._unary_images: dict[tuple[str, str], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way end with Cancelled."""
        self._channel.close()

    def generate(
        self,
        model: str,
        count: int = 1,
        *,
        seed: int | None = None,
        first_index: int = 0,
        label: int | None = None,
        truncation: float = 1.0,
        version: str = "",
    ) -> Images:
        """Draw images first_index to first_index + count - 1 of a seed; any number that memory holds.

        seed: None = the server draws one; the reply's `.seed` tells it. label: None on a conditional model = one drawn
        for each image. truncation: in (0, 1], smaller is more typical and less varied.

        Returns (N, H, W, C) uint8. Raises: FigmentError.
        """
        request = requests.generate_request(model, version, count, seed, first_index, label, truncation)
        if request.count <= self._unary_limit(model, version):
            try:
                return replies.read_generated(self._call(self._images.Generate, request))
            except errors.InvalidArgument:
                # The limit may be that of a version that is no longer the default: ask again next time.
                self._unary_images.pop((model, version), None)
                raise
        return replies.joined(self._pieces(request, self.timeout_s), request.count)

    def stream(
        self,
        model: str,
        count: int,
        *,
        seed: int | None = None,
        first_index: int = 0,
        label: int | None = None,
        truncation: float = 1.0,
        version: str = "",
        timeout_s: float | None = None,
    ) -> Iterator[Images]:
        """Draw as generate() does and hand the images over piece by piece, in index order, holding only one piece.

        A slow reader slows the server down, so timeout_s, which covers the reader's own time too, is None = endless by
        default; reaching the server has the client's own timeout_s. Leaving the loop early and dropping the iterator cancels
        the rest.

        Yields (n, H, W, C) uint8, each with its own first_index and labels. Raises: FigmentError.
        """
        request = requests.generate_request(model, version, count, seed, first_index, label, truncation)
        return self._pieces(request, None if timeout_s is None else requests.seconds("timeout_s", timeout_s))

    def encode(self, model: str, images: ImageSource, labels: Sequence[int] = (), *, version: str = "") -> Encoding:
        """Map images, arrays (N, H, W, C) uint8 or files, to the Gaussians of their latents.

        labels: one for all or one each on a conditional model. Raises: FigmentError; OSError for an unreadable file.
        """
        request = requests.mapping_request(
            image_service_pb2.EncodeRequest, model, version, labels, images=requests.image_batch(images)
        )
        return replies.read_encoding(self._call(self._images.Encode, request))

    def decode(self, model: str, latents: npt.ArrayLike, labels: Sequence[int] = (), *, version: str = "") -> Images:
        """Map latents, (N, Z) floating point, to images.

        labels: one for all or one each on a conditional model. Returns (N, H, W, C) uint8. Raises: FigmentError.
        """
        request = requests.mapping_request(
            image_service_pb2.DecodeRequest, model, version, labels, latents=requests.latent_batch(latents)
        )
        return replies.read_mapped(self._call(self._images.Decode, request), list(request.labels))

    def reconstruct(self, model: str, images: ImageSource, labels: Sequence[int] = (), *, version: str = "") -> Images:
        """Map images to the images decoded from the means of their latents.

        images and labels: as in encode(). Returns (N, H, W, C) uint8. Raises: as encode().
        """
        request = requests.mapping_request(
            image_service_pb2.ReconstructRequest, model, version, labels, images=requests.image_batch(images)
        )
        return replies.read_mapped(self._call(self._images.Reconstruct, request), list(request.labels))

    def interpolate(
        self,
        model: str,
        start: End,
        end: End,
        steps: int = 16,
        *,
        method: Literal["lerp", "slerp"] = "lerp",
        label: int | None = None,
        version: str = "",
    ) -> Images:
        """Draw `steps` images on the way between two latents, both ends included.

        start, end: a seed, a tuple (seed, index), or a latent of shape (Z,). Returns (steps, H, W, C) uint8.
        Raises: FigmentError.
        """
        request = requests.interpolate_request(model, version, start, end, steps, method, label)
        labels = [] if label is None else [request.label] * steps
        return replies.read_mapped(self._call(self._images.Interpolate, request), labels)

    def models(self) -> list[Model]:
        """The models that the server holds, those that failed to load included. Raises: FigmentError."""
        reply = self._call(self._models.ListModels, model_service_pb2.ListModelsRequest())
        return [Model.from_message(message) for message in reply.models]

    def model(self, name: str, version: str = "") -> model_service_pb2.GetModelResponse:
        """One version's manifest, the states of all, and the server's limits. Raises: FigmentError."""
        request = model_service_pb2.GetModelRequest(
            model=requests.model_name(name), version=requests.version_name(version)
        )
        return self._call(self._models.GetModel, request)

    def _unary_limit(self, model: str, version: str) -> int:
        limit = self._unary_images.get((model, version))
        if limit is None:
            limit = self._unary_images[model, version] = self.model(model, version).limits.unary_images
        return limit

    def _call(self, method: "grpc.UnaryUnaryMultiCallable[Request, Reply]", request: Request) -> Reply:
        asked = Asked(described(request), self.address, self.timeout_s)
        try:
            return method(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise errors.from_rpc(error, asked, self._is_connected) from error
        except ValueError as error:  # gRPC's answer of a channel that was closed before.
            raise errors.Cancelled(f"{asked.what} was given up: {error}") from error

    def _pieces(self, request: image_service_pb2.GenerateRequest, timeout_s: float | None) -> Iterator[Images]:
        message = image_service_pb2.StreamGenerateRequest(id="0", request=request)
        piece: Images | None = None
        if timeout_s is None:  # A server that cannot be reached is not waited for without end.
            self._unary_limit(request.model, request.version)
        next_index, left = request.first_index, request.count
        try:
            call = self._images.StreamGenerate(iter([message]), timeout=timeout_s)
        except ValueError as error:
            raise errors.Cancelled(f"{described(request)} was given up: {error}") from error
        try:
            for response in call:
                if response.HasField("error"):
                    raise errors.from_message(response.error)
                if response.HasField("response"):
                    piece = replies.next_piece(response.response, next_index, left, piece)
                    next_index, left = next_index + len(piece), left - len(piece)
                    yield piece
                if response.last and left:
                    raise errors.Internal(f"the server's stream ended with {left} images missing")
                if response.last:
                    return
        except grpc.RpcError as error:
            what = described(request) + (f", of which {request.count - left} came" if piece is not None else "")
            raise errors.from_rpc(error, Asked(what, self.address, timeout_s), self._is_connected) from error
        finally:
            call.cancel()
        raise errors.Unavailable("the server ended the stream before the last image; it may be draining, try again")

    def _is_connected(self) -> bool:
        """Whether there is a connection now; gRPC tells it to subscribers only."""
        states: SimpleQueue[grpc.ChannelConnectivity] = SimpleQueue()
        self._channel.subscribe(states.put)
        try:
            return states.get(timeout=STATE_S) is grpc.ChannelConnectivity.READY
        finally:
            self._channel.unsubscribe(states.put)
