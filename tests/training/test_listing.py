"""What of a folder is a set: its classes and splits, and what is left out, which is always told."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from training.errors import DataError
from training.sources import load

RANDOM = np.random.default_rng(0)


def put(folder: Path, *names: str) -> None:
    """A picture of noise for each path below `folder`."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (16, 16), np.uint8)).save(folder / name)


def png() -> bytes:
    path = Path("picture.png")
    Image.fromarray(RANDOM.integers(0, 256, (16, 16), np.uint8)).save(path)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.mark.parametrize("left", [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".git", "lost+found"])
def test_what_systems_leave_behind_is_no_class_and_is_told(tmp_path: Path, caplog: Any, left: str) -> None:
    put(tmp_path / "set", "cat/1.png", "dog/1.png", f"{left}/1.png", "cat/._1.png")
    found = load(str(tmp_path / "set"), None)
    assert found.label_names == ["cat", "dog"]
    assert len(found) == 2
    assert "left out 2 hidden files or folders: " in caplog.text
    assert left in caplog.text
    assert "cat/._1.png" in caplog.text


def test_files_that_are_no_pictures_are_counted_by_ending(tmp_path: Path, caplog: Any) -> None:
    put(tmp_path / "set", "1.png")
    for name in ("a.heic", "b.HEIC", "notes.txt", "README"):
        (tmp_path / "set" / name).write_text("no picture")
    assert len(load(str(tmp_path / "set"), None)) == 1
    assert "left out 4 files of other endings: .heic (2), " in caplog.text
    assert "HEIC cannot be read, convert it to PNG or JPEG" in caplog.text


@pytest.mark.parametrize("ending", ["avif", "jfif", "ppm", "tiff", "jp2", "webp", "bmp", "gif", "tga"])
def test_what_pillow_reads_is_read(tmp_path: Path, ending: str) -> None:
    put(tmp_path / "set", "1.png")
    Image.open(tmp_path / "set" / "1.png").save(tmp_path / "set" / f"2.{ending}")
    assert len(load(str(tmp_path / "set"), None)) == 2


def test_a_class_that_is_a_link_is_a_class_and_circles_end(tmp_path: Path, caplog: Any) -> None:
    put(tmp_path, "set/cat/1.png", "dogs/1.png")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "dogs")
    (tmp_path / "set" / "cat" / "up").symlink_to(tmp_path / "set")
    found = load(str(tmp_path / "set"), None)
    assert found.label_names == ["cat", "dog"]
    assert len(found) == 2
    assert "left out 1 link to a folder: cat/up, read already" in caplog.text


def test_a_class_without_a_readable_picture_is_none(tmp_path: Path, caplog: Any) -> None:
    put(tmp_path / "set", "cat/1.png", "dog/1.png", "fox/1.png")
    (tmp_path / "set" / "dog" / "1.png").write_bytes(b"broken")
    found = load(str(tmp_path / "set"), None, skip_broken=True)
    assert found.label_names == ["cat", "fox"]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]
    assert "no class, as none of its pictures can be read: dog" in caplog.text


@pytest.mark.parametrize("layout", ["{split}/{label}", "{label}/{split}"])
@pytest.mark.parametrize("other", ["test", "val", "valid", "validation", "Test"])
def test_of_splits_train_is_taken_and_the_others_are_told(tmp_path: Path, caplog: Any, layout: str, other: str) -> None:
    for split in ("train", other):
        for label in ("cat", "dog"):
            put(tmp_path / "set", layout.format(split=split, label=label) + "/1.png")
    found = load(str(tmp_path / "set"), None)
    assert found.label_names == ["cat", "dog"]
    assert len(found) == 2
    assert f"read the split train (2 pictures), left out {other} (2 pictures)" in caplog.text
    assert len(load(str(tmp_path / "set"), None, splits=[other])) == 2
    assert len(load(str(tmp_path / "set"), None, splits=["all"])) == 4
    with pytest.raises(DataError, match=r"split: got dev2, .*allowed are these and all"):
        load(str(tmp_path / "set"), None, splits=["dev2"])


def test_splits_without_train_are_asked_about(tmp_path: Path) -> None:
    put(tmp_path / "set", "val/1.png", "test/1.png")
    with pytest.raises(
        DataError, match=r"has the splits test \(1 pictures\), val .*no train; choose, e.g. --split test"
    ):
        load(str(tmp_path / "set"), None)


def test_a_class_may_be_named_as_a_split_where_others_are_not(tmp_path: Path) -> None:
    put(tmp_path / "set", "car/1.png", "train/1.png", "plane/1.png")
    assert load(str(tmp_path / "set"), None).label_names == ["car", "plane", "train"]


def test_a_split_of_what_has_none_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "set", "1.png")
    for data in (str(tmp_path / "set"), "digits"):
        with pytest.raises(DataError, match=r"split: got test; .* no splits"):
            load(data, None, splits=["test"])


def shard(path: Path, columns: dict[str, Any], metadata: bytes = b"{}") -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata({b"huggingface": metadata}), path)


def test_shards_of_several_splits_are_not_merged(tmp_path: Path, caplog: Any) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        shard(tmp_path / "set" / f"{name}.parquet", {"image": [png()], "label": [0]})
    assert len(load(str(tmp_path / "set"), None)) == 2
    assert "left out test (1 shards)" in caplog.text
    assert len(load(str(tmp_path / "set"), None, splits=["test"])) == 1


@pytest.mark.parametrize(
    "metadata", [b"null", b"{", b'{"info": null}', b'{"info": {"features": null}}', b"[]", b"\xff"]
)
def test_metadata_that_say_nothing_leave_classes_without_names(tmp_path: Path, metadata: bytes) -> None:
    shard(tmp_path / "set" / "a.parquet", {"image": [png()] * 2, "label": [0, 1]}, metadata)
    assert len(load(str(tmp_path / "set"), None)) == 2


def test_a_row_without_bytes_is_the_file_of_its_path(tmp_path: Path) -> None:
    put(tmp_path / "set", "x/1.png")
    (tmp_path / "set" / "x").rename(tmp_path / "pictures")
    cells = [{"bytes": None, "path": "../pictures/1.png"}, {"bytes": png(), "path": None}]
    shard(tmp_path / "set" / "a.parquet", {"image": cells})
    assert len(load(str(tmp_path / "set"), None)) == 2
    shard(tmp_path / "set" / "a.parquet", {"image": [*cells, {"bytes": None, "path": "gone.png"}, None]})
    with pytest.raises(DataError, match=r"(?s)2 pictures .*row 2: there is no file .*gone\.png.*row 3: not an image"):
        load(str(tmp_path / "set"), None)


@pytest.mark.parametrize("label", [-1, 2**40])
def test_labels_that_are_none_matter_only_where_labels_are_taught(tmp_path: Path, caplog: Any, label: int) -> None:
    names = json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"]}}}}).encode()
    for metadata in (names, b"{}"):
        shard(tmp_path / "set" / "a.parquet", {"image": [png()] * 2, "label": [0, label]}, metadata)
        assert load(str(tmp_path / "set"), None).label_names == []
        assert "without labels: column 'label' has" in caplog.text
        with pytest.raises(DataError, match=str(label)):
            load(str(tmp_path / "set"), None, needs_labels=True)
        caplog.clear()


def test_one_class_alone_teaches_nothing(tmp_path: Path) -> None:
    put(tmp_path / "set", "cat/1.png", "cat/2.png")
    with pytest.raises(DataError, match=r"conditional: all 2 pictures of .* are of the class 'cat'"):
        load(str(tmp_path / "set"), None, needs_labels=True)


def test_a_class_whose_name_is_no_text_is_named_by_what_can_be_read_of_it(tmp_path: Path) -> None:
    put(tmp_path / "set", "cat/1.png", "dog/1.png")
    (tmp_path / "set" / "dog").rename(tmp_path / "set" / os.fsdecode(b"d\xffg"))
    assert load(str(tmp_path / "set"), None).label_names == ["cat", "d\ufffdg"]


def test_a_set_of_no_rows_is_told(tmp_path: Path) -> None:
    shard(tmp_path / "set" / "a.parquet", {"image": pa.array([], pa.binary())})
    with pytest.raises(DataError, match="there are no pictures"):
        load(str(tmp_path / "set"), None)
