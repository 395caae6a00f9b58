"""Encoded pictures in parquet files, as Hugging Face `datasets` writes them.

    shards -> those of one split -> one schema -> rows, some hundred at a time -> Source

Pictures are in the column `image` or `img`, binary or a struct with `bytes`, or with a `path` where these are null; labels in
the column `label` or `labels`, if it is of integers. Classes are named by the schema's metadata, or else by their numbers.
Decodes nothing.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.errors import DataError
from training.pictures import Picture, Source
from training.splits import KINDS, are_splits, taken

ROWS_READ = 256
BYTES_READ = 2**20
"""Read at once, of all columns and of each: a whole row group may be larger than memory."""

CLASSES = 2**16
"""Classes of labels without names at most: what goes beyond is a number of something else."""


class _Table(NamedTuple):
    """What all shards must have in common."""

    columns: dict[str, str]
    image: str
    label: str | None
    class_names: list[str]

    def __str__(self) -> str:
        columns = ", ".join(f"{name} {kind}" for name, kind in self.columns.items())
        return columns + (f" (classes {', '.join(self.class_names)})" if self.class_names else "")


class _Labels(NamedTuple):
    """The labels of some shards. lowest, highest: of those that are not missing, 0 and -1 of none."""

    lowest: int
    highest: int
    missing: int


def shards_source(shards: list[Path], splits: Sequence[str], data: str, needs_labels: bool) -> Source:
    """The pictures of `shards`, one after another.

    splits: the ones to read; without any, train where the names of the shards tell it from others.
    needs_labels: rows without a proper label are told one by one; else one such row leaves the set without labels.

    Raises: DataError, if a split is not there, or a shard is not parquet, has no images or differs from the first; while
    pictures are read, if a shard is damaged.
    """
    shards, notes = _of_splits(shards, splits, data)
    table, said = _table(shards[0])
    for shard in shards[1:]:
        if (other := _table(shard)[0]) != table:
            raise DataError(f"data: parquet files differ: {shards[0]} has {table}; {shard} has {other}")
    names, unlabelled = _class_names(shards, table, needs_labels)
    if table.label is None and (others := [name for name in ("label", "labels") if name in table.columns]):
        unlabelled = f"column {others[0]!r} is {table.columns[others[0]]}, allowed are integers"
    files = [*shards, *(path for shard in shards for path in _paths(shard, table))]
    return Source(files, names, _pictures(shards, table), notes + said, unlabelled)


def _of_splits(shards: list[Path], splits: Sequence[str], data: str) -> tuple[list[Path], list[str]]:
    words = [_word(shard) for shard in shards]
    if not are_splits(words):
        if splits:
            raise DataError(
                f"split: got {', '.join(splits)}; {data} has no splits, which are shards named train, test ..."
            )
        return shards, []
    chosen, note = taken(words, splits, data, "shards")
    is_all = len(set(words)) == 1 and not splits
    return [shard for shard, word in zip(shards, words, strict=True) if word in chosen], [] if is_all else [note]


def _word(shard: Path) -> str:
    """The split that a shard is of by its name, or by its folder's; else its name."""
    first = re.split(r"[^A-Za-z]", shard.stem)[0]
    return next((word for word in (first, shard.parent.name) if word.lower() in KINDS), shard.stem)


def _table(path: Path) -> tuple[_Table, list[str]]:
    """What the shard holds, and what there is to tell of it."""
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
    metadata = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        names = _inside(json.loads(metadata), "info", "features", label or "", "names")
    except ValueError as error:
        return _Table(columns, image, label, []), [
            f"the metadata of {path} are no JSON, its classes have no names: {error}"
        ]
    is_names = label and isinstance(names, list) and all(isinstance(name, str) for name in names)
    return _Table(columns, image, label, list(names) if is_names else []), []


def _inside(value: Any, *keys: str) -> Any:
    """What lies under `keys` in JSON that anybody may have written; None where something else is on the way."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_integer(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and bool(pa.types.is_integer(schema.field(name).type))


def _class_names(shards: list[Path], table: _Table, needs_labels: bool) -> tuple[list[str], str]:
    """The names of the classes; or none, and why the labels are no classes."""
    if not table.label:
        return [], ""
    found = [_labels(shard, table.label) for shard in shards]
    lowest, highest = min(each.lowest for each in found), max(each.highest for each in found)
    missing = sum(each.missing for each in found)
    if not table.class_names and highest >= CLASSES:
        return [], f"column {table.label!r} has numbers up to {highest}, allowed are classes from 0 to {CLASSES - 1}"
    names = table.class_names or [str(number) for number in range(1 + highest)]
    wrong = []
    if lowest < 0 or highest >= len(names):
        allowed = f"the classes {', '.join(names)[:100]} are 0 to {len(names) - 1}" if names else "there is no class"
        wrong.append(f"column {table.label!r} has labels from {lowest} to {highest}, {allowed}")
    if missing:
        wrong.append(f"{missing} rows have no label")
    is_hopeless = lowest < 0 and highest < 0
    return ([] if wrong and (is_hopeless or not needs_labels) else names), "; ".join(wrong)


def _labels(shard: Path, label: str) -> _Labels:
    try:
        with pq.ParquetFile(shard) as file:
            column = file.read([label])[label]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"data: column {label!r} of {shard} cannot be read: {error}") from error
    found = pc.min_max(column).as_py()
    if found["min"] is None:
        return _Labels(0, -1, column.null_count)
    return _Labels(found["min"], found["max"], column.null_count)


def _paths(shard: Path, table: _Table) -> Iterator[Path]:
    """Files beside the shard that stand for rows without bytes."""
    if not re.search(r"\bpath: (large_)?string", table.columns[table.image]):
        return
    try:
        with pq.ParquetFile(shard, buffer_size=BYTES_READ) as file:
            if _has_all_bytes(file.metadata, f"{table.image}.bytes"):
                return
            for batch in file.iter_batches(ROWS_READ, columns=[f"{table.image}.path"]):
                for cell in batch.column(0).to_pylist():
                    if cell and cell["path"] and (path := shard.parent / cell["path"]).is_file():
                        yield path
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"data: column {table.image!r} of {shard} cannot be read: {error}") from error


def _has_all_bytes(metadata: Any, column: str) -> bool:
    """Whether the footer of a shard says that no value of `column` is null."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    statistics = [chunk.statistics for chunk in chunks if chunk.path_in_schema == column]
    return all(each is not None and each.has_null_count and each.null_count == 0 for each in statistics)


def _pictures(shards: list[Path], table: _Table) -> Iterator[Picture]:
    columns = [table.image] + ([table.label] if table.label else [])
    for shard in shards:
        row_number = 0
        try:
            with pq.ParquetFile(shard, buffer_size=BYTES_READ) as file:
                for batch in file.iter_batches(ROWS_READ, columns=columns):
                    for row in batch.to_pylist():
                        encoded = _encoded(row[table.image], shard)
                        yield Picture(f"{shard} row {row_number}", encoded, row.get(table.label))
                        row_number += 1
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"data: {shard} cannot be read beyond row {row_number}: {error}") from error


def _encoded(cell: Any, shard: Path) -> Path | bytes:
    """The bytes of a cell, or where it has none the file that it names, relative to the shard."""
    if not isinstance(cell, dict):
        return cell or b""
    return cell["bytes"] or (shard.parent / cell["path"] if cell.get("path") else b"")
