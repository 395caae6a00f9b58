"""How each server is spoken to: the bytes of a request, and the images in a reply.

    images -> Wire.request() -> bytes -> [server] -> bytes -> Wire.images() -> raw pixels

Every request of n images is answered from the same noise, that of images 0 to n - 1 of SEED: in Figment's case the
server samples it, the others are sent it. Knows the messages, opens no connection but for `call`.
"""

import http.client
import struct
from typing import Any, Protocol

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from benchmarks.workloads import Graph
from export.golden import noise_of
from figment.v1.image_service_pb2 import GenerateRequest, GenerateResponse, StreamGenerateRequest

SEED = 7
CALL_S = 60.0
MAX_REPLY_BYTES = 64 * 1024 * 1024


class Wire(Protocol):
    """A server's protocol."""

    is_grpc: bool
    path: str

    def request(self, images: int) -> bytes:
        """The message that asks for `images` images; without gRPC's frame."""

    def images(self, reply: bytes) -> bytes:
        """The raw pixels in a reply."""


class FigmentWire:
    """ImageService.Generate."""

    is_grpc = True
    path = "/figment.v1.ImageService/Generate"
    stream_path = "/figment.v1.ImageService/StreamGenerate"

    def __init__(self, model: str) -> None:
        self._model = model

    def request(self, images: int) -> bytes:
        """A GenerateRequest of the fixed seed."""
        return GenerateRequest(model=self._model, count=images, seed=SEED).SerializeToString()

    def images(self, reply: bytes) -> bytes:
        """The one entry of a RAW reply."""
        return GenerateResponse.FromString(reply).images.data[0]

    def stream_request(self, images: int, number: int) -> bytes:
        """A StreamGenerateRequest with an id of its own."""
        request = GenerateRequest(model=self._model, count=images, seed=SEED)
        return StreamGenerateRequest(id=str(number), request=request).SerializeToString()


class RawHttpWire:
    """float32 noise in the body of a POST, pixels in the body of the reply."""

    is_grpc = False

    def __init__(self, graph: Graph, path: str) -> None:
        self.path = path
        self._graph = graph

    def request(self, images: int) -> bytes:
        """Noise (N, noise_dim) float32, little-endian."""
        return noise(self._graph, images).tobytes()

    def images(self, reply: bytes) -> bytes:
        """The body itself."""
        return reply


class TritonWire:
    """ModelInfer of the Open Inference Protocol (inference.GRPCInferenceService), tensors as raw contents."""

    is_grpc = True
    path = "/inference.GRPCInferenceService/ModelInfer"

    def __init__(self, graph: Graph, model: str) -> None:
        self._graph = graph
        self._model = model
        self._messages = _triton_messages()

    def request(self, images: int) -> bytes:
        """A ModelInferRequest with the noise in raw_input_contents."""
        request = self._messages["ModelInferRequest"](model_name=self._model)
        request.inputs.add(name="noise", datatype="FP32", shape=[images, self._graph.noise_dim])
        request.raw_input_contents.append(noise(self._graph, images).tobytes())
        return bytes(request.SerializeToString())

    def images(self, reply: bytes) -> bytes:
        """raw_output_contents of a ModelInferResponse."""
        return bytes(self._messages["ModelInferResponse"].FromString(reply).raw_output_contents[0])


def noise(graph: Graph, images: int) -> npt.NDArray[np.float32]:
    """Noise (N, noise_dim) that request of `images` images is answered from."""
    return np.stack([noise_of(SEED, index, graph.noise_dim, 0)[0] for index in range(images)])


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, length, bytes."""
    return struct.pack(">BI", 0, len(message)) + message


def call(wire: Wire, port: int, images: int) -> bytes:
    """One call; returns the reply. Raises: grpc.RpcError, OSError, http.client.HTTPException."""
    request = wire.request(images)
    if wire.is_grpc:
        options = [("grpc.max_receive_message_length", MAX_REPLY_BYTES)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            return bytes(channel.unary_unary(wire.path, bytes, bytes)(request, timeout=CALL_S))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_S)
    try:
        connection.request("POST", wire.path, request, {"Content-Type": "application/octet-stream"})
        reply = connection.getresponse()
        body = reply.read()
    finally:
        connection.close()
    if reply.status != http.HTTPStatus.OK:
        raise http.client.HTTPException(f"HTTP status {reply.status}: {body[:200]!r}")
    return body


def _triton_messages() -> dict[str, Any]:
    """The fields of the protocol that are used, so that no package of generated code is needed."""
    file = descriptor_pb2.FileDescriptorProto(name="benchmarks_triton.proto", package="inference", syntax="proto3")
    text, number, raw, message = 9, 3, 12, 11  # FieldDescriptorProto.Type
    fields = {
        "Tensor": [("name", 1, text, ""), ("datatype", 2, text, ""), ("shape", 3, number, "many")],
        "ModelInferRequest": [
            ("model_name", 1, text, ""),
            ("inputs", 5, message, "many"),
            ("raw_input_contents", 7, raw, "many"),
        ],
        "ModelInferResponse": [("model_name", 1, text, ""), ("raw_output_contents", 6, raw, "many")],
    }
    for name, members in fields.items():
        kind = file.message_type.add(name=name)
        for member, tag, what, many in members:
            label = 3 if many else 1  # repeated, optional
            of = ".inference.Tensor" if what == message else None
            kind.field.add(name=member, number=tag, type=what, label=label, type_name=of)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in fields}
