"""Encoded pictures in parquet files, as Hugging Face `datasets` writes them.

    shards -> one schema -> rows, some hundred at a time -> Source

Pictures are in the column `image` or `img`, binary or a struct with `bytes`; labels in the column `label` or `labels`, if it
is of integers. Classes are named by the schema's metadata, or else by their numbers. Decodes nothing.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.errors import DataError
from training.pictures import Picture, Source

ROWS_READ = 256
BYTES_READ = 2**20
"""Read at once, of all columns and of each: a whole row group may be larger than memory."""


class _Table(NamedTuple):
    """What all shards must have in common."""

    columns: dict[str, str]
    image: str
    label: str | None
    class_names: list[str]

    def __str__(self) -> str:
        columns = ", ".join(f"{name} {kind}" for name, kind in self.columns.items())
        return columns + (f" (classes {', '.join(self.class_names)})" if self.class_names else "")


def shards_source(shards: list[Path]) -> Source:
    """The pictures of `shards`, one after another.

    Raises: DataError, if one is not parquet, has no images or differs from the first; while pictures are read, if a shard
    is damaged.
    """
    table = _table(shards[0])
    for shard in shards[1:]:
        if (other := _table(shard)) != table:
            raise DataError(f"data: parquet files differ: {shards[0]} has {table}; {shard} has {other}")
    names = table.class_names
    if table.label and not names:
        names = [str(number) for number in range(1 + max(_highest(shard, table.label) for shard in shards))]
    return Source(shards, names, _pictures(shards, table))


def _table(path: Path) -> _Table:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"data: {path} is not a parquet file: {error}") from None
    columns = {field.name: str(field.type) for field in schema}
    image = next((name for name in ("image", "img") if name in columns), None)
    if image is None:
        raise DataError(f"data: {path} has no column 'image' or 'img'; its columns are {', '.join(columns)}")
    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(
            f"data: column {image!r} of {path} is {columns[image]}; allowed are binary and struct<bytes: binary>"
        )
    label = next((name for name in ("label", "labels") if _is_integer(schema, name)), None)
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return _Table(columns, image, label, features.get(label, {}).get("names") or [])


def _is_integer(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and bool(pa.types.is_integer(schema.field(name).type))


def _highest(shard: Path, label: str) -> int:
    """The highest label in `shard`; -1, if it has none."""
    try:
        with pq.ParquetFile(shard) as file:
            highest: int | None = pc.max(file.read([label])[label]).as_py()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"data: column {label!r} of {shard} cannot be read: {error}") from error
    return -1 if highest is None else highest


def _pictures(shards: list[Path], table: _Table) -> Iterator[Picture]:
    columns = [table.image] + ([table.label] if table.label else [])
    for shard in shards:
        row_number = 0
        try:
            with pq.ParquetFile(shard, buffer_size=BYTES_READ) as file:
                for batch in file.iter_batches(ROWS_READ, columns=columns):
                    for row in batch.to_pylist():
                        cell = row[table.image]
                        encoded = cell["bytes"] if isinstance(cell, dict) else cell
                        yield Picture(f"{shard} row {row_number}", encoded or b"", row.get(table.label))
                        row_number += 1
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"data: {shard} cannot be read beyond row {row_number}: {error}") from error
