"""Messages that carry images, put together without copying the images more than once.

    message, images (N, H, W, C) uint8 -> parts -> joined() -> serialised message

A serialised message is its fields one after the other, in any order, and a message in a field is its bytes after tag and
length (Protocol Buffers, Encoding). So the small fields are serialised by protobuf, and the large one is laid beside
them; only the join copies it.
"""

from functools import lru_cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

Parts = list[bytes | memoryview]
"""A serialised message in pieces."""

joined = b"".join
"""Parts of a message -> the serialised message."""

_LENGTH_DELIMITED = 2


def nested(message: Message, field: str, *contents: Parts) -> Parts:
    """`message` with `contents` as the entries of its empty bytes or message field `field`."""
    parts: Parts = [message.SerializeToString()]
    for content in contents:
        parts.append(header(message.DESCRIPTOR, field, sum(map(len, content))))
        parts.extend(content)
    return parts


@lru_cache(maxsize=4096)
def header(kind: Descriptor, field: str, size: int) -> bytes:
    """What stands before an entry of `size` bytes in the bytes or message field `field` of a `kind` of message."""
    return _varint(kind.fields_by_name[field].number << 3 | _LENGTH_DELIMITED) + _varint(size)


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
