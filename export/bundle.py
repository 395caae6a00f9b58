"""The bundle folder: where versions lie, how one is put in its place, and the files that are not graphs.

    temporary folder -> graphs, manifest.json, golden.npz, samples.png -> one rename -> models/<name>/<version>/

A reader therefore sees a version whole or not at all. The config.pbtxt beside the versions lets Triton's onnxruntime
backend load the same folder.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf import json_format

from export.errors import BundleError
from figment.v1.manifest_pb2 import Graph, Manifest

FORMAT = 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@contextmanager
def new_version(models: Path, name: str) -> Iterator[tuple[Path, str]]:
    """A temporary folder that becomes the next version of model `name` when the block ends without an exception.

    Yields the folder and the version that it will have; another export of the same name at the same time is an error.

    Raises: BundleError, if the name is not allowed or the version appeared meanwhile.
    """
    if not NAME.fullmatch(name):
        raise BundleError(f"name: got {name[:100]!r}, allowed are 1 to 64 of a-z 0-9 . _ - beginning with a-z or 0-9")
    folder = models / name
    folder.mkdir(parents=True, exist_ok=True)
    version = str(1 + max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=0))
    temporary = folder / f".{version}.writing"
    try:
        temporary.mkdir()
    except FileExistsError:
        raise BundleError(
            f"{temporary} exists: another export is writing it, or one was cut off: then remove it"
        ) from None
    try:
        yield temporary, version
        temporary.rename(folder / version)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def graph_entry(path: Path, role: str, variant: str, opset: int) -> Graph:
    """The manifest's line about one ONNX file."""
    return Graph(role=role, variant=variant, opset=opset, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write manifest.json with the schema's own field names."""
    text = json_format.MessageToJson(
        manifest, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, sort_keys=True
    )
    temporary = folder / ".manifest.json.writing"
    temporary.write_text(text + "\n")
    temporary.replace(folder / "manifest.json")


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
    temporary = folder / ".config.pbtxt.writing"
    temporary.write_text(text)
    temporary.replace(folder / "config.pbtxt")


def _tensor(name: str, data_type: str, dims: list[int]) -> str:
    return f'  {{ name: "{name}" data_type: {data_type} dims: [ {", ".join(map(str, dims))} ] }}'
