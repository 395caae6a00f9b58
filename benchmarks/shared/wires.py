"""How each server is spoken to: the bytes of a request, and the images in a reply.

    images -> Wire.request() -> bytes -> [server] -> bytes -> Wire.images() -> raw pixels

Every request of n images is answered from the same noise, that of images 0 to n - 1 of SEED: in Figment's case the
server samples it, the others are sent it. Knows the messages, opens no connection but for `call`.
"""

import struct
import urllib.request
from typing import Any, Protocol

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from benchmarks.shared.workloads import Graph
from export.golden import noise_of
from figment.v1.image_service_pb2 import GenerateRequest, GenerateResponse, StreamGenerateRequest

SEED = 7
CALL_S = 60.0
CHANNEL_OPTIONS = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]

TRITON_PROTO = """
name: "benchmarks_triton.proto" package: "inference" syntax: "proto3"
message_type {
  name: "Tensor"
  field { name: "name" number: 1 type: TYPE_STRING }
  field { name: "datatype" number: 2 type: TYPE_STRING }
  field { name: "shape" number: 3 type: TYPE_INT64 label: LABEL_REPEATED }
}
message_type {
  name: "ModelInferRequest"
  field { name: "model_name" number: 1 type: TYPE_STRING }
  field { name: "inputs" number: 5 type: TYPE_MESSAGE type_name: ".inference.Tensor" label: LABEL_REPEATED }
  field { name: "raw_input_contents" number: 7 type: TYPE_BYTES label: LABEL_REPEATED }
}
message_type {
  name: "ModelInferResponse"
  field { name: "raw_output_contents" number: 6 type: TYPE_BYTES label: LABEL_REPEATED }
}
"""


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
    """One call; returns the reply. Raises: grpc.RpcError, OSError, HTTPException."""
    request = wire.request(images)
    if wire.is_grpc:
        with grpc.insecure_channel(f"127.0.0.1:{port}", CHANNEL_OPTIONS) as channel:
            return bytes(channel.unary_unary(wire.path, bytes, bytes)(request, timeout=CALL_S))
    url, headers = f"http://127.0.0.1:{port}{wire.path}", {"Content-Type": "application/octet-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, request, headers), timeout=CALL_S) as reply:
        body: bytes = reply.read()
    return body


def _triton_messages() -> dict[str, Any]:
    """The fields of the protocol that are used, so that no package of generated code is needed."""
    file = text_format.Parse(TRITON_PROTO, descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    messages = (pool.FindMessageTypeByName(f"inference.{message.name}") for message in file.message_type)
    return {message.name: message_factory.GetMessageClass(message) for message in messages}
