"""The bundle folder: where versions lie, how one is put in its place, and the files that are not graphs.

    lock -> temporary folder -> graphs, manifest.json, golden.npz, samples.png -> one rename -> models/<name>/<version>/

A reader therefore sees a version whole or not at all, and one export at a time writes a model. The config.pbtxt beside
the versions lets Triton's onnxruntime backend load the same folder.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from google.protobuf import json_format

from export.errors import BundleError
from figment.bundles import NAME, NAME_RULE
from figment.v1.manifest_pb2 import Graph, Manifest

WRITING = ".writing"
"""How names of what is being written end; they begin with a dot."""

LOCK = ".lock"


@contextmanager
def model_folder(models: Path, name: str) -> Iterator[Path]:
    """The folder of model `name`, of this export alone while the block runs; it goes again if it stays empty.

    The lock is the kernel's and ends with its process, however that ends; what exports that were cut off left is removed.

    Raises: BundleError, if the name is not allowed, the folder cannot be written, or another export has it.
    """
    if not NAME.fullmatch(name):
        raise BundleError(f"name: got {name[:100]!r}, but {NAME_RULE}")
    folder = models / name
    had_models = models.exists()
    with _written(models):
        lock = _locked(folder)
    try:
        with _written(folder):
            for left in folder.glob(f".*{WRITING}"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield folder
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # it is not empty, or the next export is in it already
            folder.rmdir()
            if not had_models:
                models.rmdir()
        os.close(lock)


def _locked(folder: Path) -> int:
    """A descriptor that holds the lock of `folder`, which is made. Raises: BundleError, OSError."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # A file, opened for writing: on NFS the kernel makes a record lock of flock, which wants that.
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # the export before removed the folder
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The export before may have removed the file when it ended, and another made a new one.
            if os.path.samestat(os.fstat(lock), os.stat(folder / LOCK)):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise BundleError(
                f"{folder}: another export is writing it; wait for its end or choose another --name"
            ) from None
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(lock)
            problem = f"{folder}: its file system has no locks ({error.strerror})"
            raise BundleError(f"{problem}; export to another --models and copy the version's folder") from None
        os.close(lock)


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Raises: BundleError, if what the block does with files fails."""
    try:
        yield
    except OSError as error:
        who = f"; user {os.getuid()} may not write there" if isinstance(error, PermissionError) else ""
        raise BundleError(f"{folder}: nothing was published: {error}{who}") from error


@contextmanager
def new_version(folder: Path) -> Iterator[tuple[Path, str]]:
    """A temporary folder that becomes the next version of the model in `folder` when the block ends without an exception.

    folder: as `model_folder` gives it. Yields the temporary folder and the version that it will have.
    """
    version = str(1 + max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=0))
    temporary = folder / f".{version}{WRITING}"
    temporary.mkdir()
    try:
        yield temporary, version
        temporary.rename(folder / version)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def versions(folder: Path) -> list[int]:
    """Versions of the model in `folder`, ascending: none where it is no model's, or an export was cut off in it."""
    return sorted(int(path.parent.name) for path in folder.glob("*/manifest.json") if path.parent.name.isdecimal())


def graph_entry(path: Path, role: str, variant: str, opset: int) -> Graph:
    """The manifest's line about one ONNX file."""
    return Graph(role=role, variant=variant, opset=opset, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write manifest.json with the schema's own field names."""
    text = json_format.MessageToJson(
        manifest, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, sort_keys=True
    )
    _replace(folder / "manifest.json", text + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the version in `folder`.

    Raises: BundleError, if there is none.
    """
    try:
        return json_format.Parse((folder / "manifest.json").read_text(), Manifest(), ignore_unknown_fields=True)
    except (OSError, UnicodeDecodeError, json_format.ParseError) as error:
        raise BundleError(f"{folder} is no version of a model: manifest.json: {str(error)[:200]}") from None


def write_triton_config(manifest: Manifest, folder: Path) -> None:
    """Write config.pbtxt of the generator graph into the model's folder, replacing an older version's at once."""
    inputs = [_tensor("noise", "TYPE_FP32", [manifest.noise_dim])]
    if manifest.labels:
        inputs.append('  { name: "label" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } }')
    images = _tensor("images", "TYPE_UINT8", [manifest.height, manifest.width, manifest.channels])
    text = (
        f'name: "{manifest.name}"\n'
        'backend: "onnxruntime"\n'
        'default_model_filename: "generator.onnx"\n'
        "max_batch_size: 64\n"
        "input [\n" + ",\n".join(inputs) + "\n]\n"
        "output [\n" + images + "\n]\n"
        "dynamic_batching { }\n"
    )
    _replace(folder / "config.pbtxt", text)


def _replace(file: Path, text: str) -> None:
    """Write `text`, so that a reader sees the old file or the new one."""
    temporary = file.with_name(f".{file.name}{WRITING}")
    temporary.write_text(text)
    temporary.replace(file)


def _tensor(name: str, data_type: str, dims: list[int]) -> str:
    return f'  {{ name: "{name}" data_type: {data_type} dims: [ {", ".join(map(str, dims))} ] }}'
