"""Messages of any content end in an answer or an error that names a field: never INTERNAL or UNKNOWN."""

from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub

MODELS = ("vae", "gan", "hybrid", "labelled-gan", "labelled-vae", "none", "")
MESSAGES = 400
ALLOWED = frozenset({"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"})
NUMBERS = (0, 1, 2, 3, 7, 16, 65, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
FLOATS = (0.0, -0.0, 1.0, 0.5, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))
INTEGERS = {
    FieldDescriptor.CPPTYPE_UINT32: 2**32,
    FieldDescriptor.CPPTYPE_INT32: 2**31,
    FieldDescriptor.CPPTYPE_UINT64: 2**64,
    FieldDescriptor.CPPTYPE_INT64: 2**63,
}


def value(random: np.random.Generator, field: FieldDescriptor) -> Any:
    """One that the field can hold."""
    if field.cpp_type in INTEGERS:
        return int(NUMBERS[random.integers(len(NUMBERS))]) % INTEGERS[field.cpp_type]
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return FLOATS[random.integers(len(FLOATS))]
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return int(random.integers(0, 7))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return random.bytes(int(random.choice([0, 1, 64, 256, 1024, 3072])))
    if field.name == "model":
        return MODELS[random.integers(len(MODELS))]
    return ("", "1", "2", "\0", "1" * 3000)[random.integers(5)]


def fill(random: np.random.Generator, message: Message) -> None:
    """Set some fields of a message to anything."""
    for field in message.DESCRIPTOR.fields:
        if random.random() < (0.05 if field.name in ("model", "version") else 0.35):
            continue
        if field.message_type is not None:
            fill(random, getattr(message, field.name))
        elif field.is_repeated:
            getattr(message, field.name).extend(value(random, field) for _ in range(int(random.integers(0, 4))))
        elif field.name != "version" or random.random() < 0.1:
            setattr(message, field.name, value(random, field))


@pytest.mark.parametrize("method", ["Generate", "Encode", "Decode", "Reconstruct", "Interpolate"])
def test_any_message_has_an_answer_or_an_error_in_words(images: ImageServiceStub, method: str) -> None:
    random = np.random.default_rng(0)
    call = getattr(images, method)
    codes = set()
    for _ in range(MESSAGES):
        request = getattr(pb, f"{method}Request")()
        fill(random, request)
        try:
            call(request, timeout=60)
        except grpc.RpcError as error:
            codes.add(error.code().name)
        else:
            codes.add("OK")
    assert codes <= ALLOWED
    assert "INVALID_ARGUMENT" in codes
