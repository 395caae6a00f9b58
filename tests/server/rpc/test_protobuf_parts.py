"""Messages put together from parts are those that protobuf itself would serialise."""

from collections.abc import Sequence

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileOptions, UninterpretedOption
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from figment.v1.image_service_pb2 import GenerateResponse, StreamGenerateResponse
from figment.v1.images_pb2 import ImageBatch, ImageFormat, Timing
from figment.v1.manifest_pb2 import Manifest
from server.models.graph import Graph
from server.models.registry import LoadedModel
from server.rpc import codecs
from server.rpc.pipeline import Pipeline
from server.rpc.protobuf_parts import Parts, joined, nested
from server.scheduling.request import Request
from tests.fakes.admission import PatientQueue, admitting

LENGTHS_AROUND_A_DIGIT = [0, 1, 127, 128, 129, 16_383, 16_384, 2**21 - 1, 2**21]
"""A length takes one more byte from 2^7, 2^14 and 2^21 on."""


def content(size: int) -> bytes:
    """Bytes that look like tags and lengths too."""
    return np.resize(np.arange(251, dtype=np.uint8), size).tobytes()


def same(parts: Parts, expected: Message) -> bool:
    """Whether the parts are `expected` and not a byte more than protobuf would take."""
    serialised = joined(parts)
    return type(expected).FromString(serialised) == expected and len(serialised) == expected.ByteSize()


def on_a_stream(batch: ImageBatch, data: Sequence[Parts], response: GenerateResponse, request_id: str) -> Parts:
    images = nested(batch, "data", *data)
    answer = StreamGenerateResponse(id=request_id, last=True)
    return nested(answer, "response", nested(response, "images", images))


@pytest.mark.parametrize("size", LENGTHS_AROUND_A_DIGIT)
def test_images_of_any_length_arrive_whole(size: int):
    parts = nested(ImageBatch(count=3), "data", [content(size)])
    assert same(parts, ImageBatch(count=3, data=[content(size)]))


@pytest.mark.parametrize("size", LENGTHS_AROUND_A_DIGIT)
def test_a_message_around_a_message_of_any_length_arrives_whole(size: int):
    batch, response = ImageBatch(count=3), GenerateResponse(seed=5, model="gan")
    parts = on_a_stream(batch, [[content(size)]], response, "1")
    batch.data.append(content(size))
    response.images.CopyFrom(batch)
    assert same(parts, StreamGenerateResponse(id="1", last=True, response=response))


@given(
    sizes=st.lists(st.one_of(st.integers(0, 300), st.integers(16_000, 17_000)), max_size=6),
    request_id=st.text(max_size=128),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**64 - 1),
            "first_index": st.integers(0, 2**64 - 1),
            "labels": st.lists(st.integers(0, 2**32 - 1), max_size=40),
            "model": st.text(max_size=20),
            "engine": st.text(max_size=12),
            "timing": st.builds(Timing, queue_s=st.floats(0, 1e9), batch_size=st.integers(0, 1024)),
        },
    ),
)
@settings(max_examples=60, deadline=None, database=None)
def test_any_answer_on_a_stream_is_what_protobuf_would_serialise(
    sizes: list[int], request_id: str, fields: dict[str, object]
):
    about = {"format": ImageFormat.IMAGE_FORMAT_PNG, "count": len(sizes), "height": 28, "width": 300, "channels": 1}
    data = [content(size) for size in sizes]
    expected = StreamGenerateResponse(
        id=request_id, response=GenerateResponse(images=ImageBatch(**about, data=data), **fields), last=True
    )
    parts = on_a_stream(ImageBatch(**about), [[file] for file in data], GenerateResponse(**fields), request_id)
    assert same(parts, expected)


@given(st.lists(st.integers(0, 200), max_size=5))
@settings(max_examples=30, deadline=None, database=None)
def test_the_pieces_of_one_content_are_one_entry(sizes: list[int]):
    pieces: Parts = [memoryview(content(size)) for size in sizes]
    assert same(nested(ImageBatch(), "data", pieces), ImageBatch(data=[b"".join(pieces)]))


def test_a_message_without_contents_is_the_message():
    assert same(nested(ImageBatch(count=7), "data"), ImageBatch(count=7))


def test_an_empty_message_in_a_field_is_there():
    parts = nested(StreamGenerateResponse(id="a"), "response", nested(GenerateResponse(), "images", []))
    expected = StreamGenerateResponse(id="a", response=GenerateResponse(images=ImageBatch()))
    assert same(parts, expected)
    assert StreamGenerateResponse.FromString(joined(parts)).response.HasField("images")


def test_a_field_number_of_several_bytes_is_a_tag_of_several_bytes():
    option = UninterpretedOption(identifier_value="x" * 200)
    parts = nested(FileOptions(go_package="a"), "uninterpreted_option", *[[option.SerializeToString()]] * 2)
    assert same(parts, FileOptions(go_package="a", uninterpreted_option=[option, option]))


def raw(images: np.ndarray) -> Parts:
    """What a reply holds of images that nobody wants as files."""
    admission = admitting()
    run = Request(Graph("m", "1", "generator"), {}, len(images), "me", print, 0.0, outputs={"images": images})
    model = LoadedModel(Manifest(name="m"), "engine", "fp32")
    return Pipeline(PatientQueue(), admission, admission.metrics).encode_inline(model, run, codecs.RAW)[0]


def test_images_are_laid_beside_the_message_and_not_copied():
    images = np.zeros((4, 8, 8, 3), np.uint8)
    views = [part for part in raw(images) if isinstance(part, memoryview)]
    assert len(views) == 1
    assert np.shares_memory(np.asarray(views[0]), images)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 8, 6, 1), (3, 64, 64, 3)])
def test_raw_images_are_what_protobuf_would_serialise(shape: tuple[int, int, int, int]):
    images = np.frombuffer(content(int(np.prod(shape))), np.uint8).reshape(shape)
    count, height, width, channels = shape
    expected = ImageBatch(
        format=codecs.RAW, count=count, height=height, width=width, channels=channels, data=[images.tobytes()]
    )
    assert same(raw(images), expected)
    strided = np.repeat(images, 2, axis=0)[::2]
    assert same(raw(strided), expected)
