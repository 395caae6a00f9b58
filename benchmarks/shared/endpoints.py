"""How each server is spoken to: the bytes of a request, and the images in a reply.

    images -> Endpoint.request() -> bytes -> [server] -> bytes -> Endpoint.images() -> raw pixels

Every request of n images is answered from the same noise, that of images 0 to n - 1 of SEED: in Figment's case the
server samples it, the others are sent it. Knows the messages, opens no connection but for `call`.
"""

import struct
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from benchmarks.shared.workloads import Graph
from export.golden import noise_of
from figment.v1.image_service_pb2 import GenerateRequest, GenerateResponse, StreamGenerateRequest

SEED = 7
STREAM_PATH = "/figment.v1.ImageService/StreamGenerate"
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


@dataclass(frozen=True)
class Endpoint:
    """A method of a server.

    request  images -> the message that asks for so many, without gRPC's frame
    images   a reply -> the raw pixels in it
    """

    path: str
    is_grpc: bool
    request: Callable[[int], bytes]
    images: Callable[[bytes], bytes]


def generate(model: str) -> Endpoint:
    """Figment's ImageService.Generate, asked by seed."""
    return Endpoint(
        "/figment.v1.ImageService/Generate",
        is_grpc=True,
        request=lambda images: _generate_request(model, images).SerializeToString(),
        images=lambda reply: GenerateResponse.FromString(reply).images.data[0],
    )


def stream_request(model: str, images: int, number: int) -> bytes:
    """A message on STREAM_PATH, with an id of its own."""
    return StreamGenerateRequest(id=str(number), request=_generate_request(model, images)).SerializeToString()


def raw_http(graph: Graph, path: str) -> Endpoint:
    """float32 noise (N, noise_dim) in the body of a POST, pixels in the body of the reply."""
    return Endpoint(path, False, lambda images: noise(graph, images).tobytes(), lambda reply: reply)


def model_infer(graph: Graph, model: str) -> Endpoint:
    """ModelInfer of the Open Inference Protocol (inference.GRPCInferenceService), tensors as raw contents."""
    messages = _triton_messages()

    def request(images: int) -> bytes:
        message = messages["ModelInferRequest"](model_name=model)
        message.inputs.add(name="noise", datatype="FP32", shape=[images, graph.noise_dim])
        message.raw_input_contents.append(noise(graph, images).tobytes())
        return bytes(message.SerializeToString())

    def images(reply: bytes) -> bytes:
        return bytes(messages["ModelInferResponse"].FromString(reply).raw_output_contents[0])

    return Endpoint("/inference.GRPCInferenceService/ModelInfer", True, request, images)


def _generate_request(model: str, images: int) -> GenerateRequest:
    return GenerateRequest(model=model, count=images, seed=SEED)


def noise(graph: Graph, images: int) -> npt.NDArray[np.float32]:
    """Noise (N, noise_dim) that request of `images` images is answered from."""
    return np.stack([noise_of(SEED, index, graph.noise_dim, 0)[0] for index in range(images)])


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, length, bytes."""
    return struct.pack(">BI", 0, len(message)) + message


def call(endpoint: Endpoint, port: int, images: int) -> bytes:
    """One call; returns the reply. Raises: grpc.RpcError, OSError, HTTPException."""
    request = endpoint.request(images)
    if endpoint.is_grpc:
        with grpc.insecure_channel(f"127.0.0.1:{port}", CHANNEL_OPTIONS) as channel:
            return bytes(channel.unary_unary(endpoint.path, bytes, bytes)(request, timeout=CALL_S))
    url, headers = f"http://127.0.0.1:{port}{endpoint.path}", {"Content-Type": "application/octet-stream"}
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
