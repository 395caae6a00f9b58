"""Reading a bundle: a version's folder, checked from its manifest to the hash of every graph.

    models/<name>/<version>/ -> manifest -> facts, files, hashes -> Bundle

Trusts nothing in the folder: file names are plain, graphs are whole, nothing is unpickled. Knows no onnxruntime.
"""

import hashlib
import io
import os
import stat
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format

from figment.bundles import FORMAT, FP32, ROLES, VARIANTS
from figment.v1.manifest_pb2 import Graph, Manifest
from server.errors import BundleRefused, quote
from server.models.variants import files_of, resolve
from server.settings import Choice

MAX_PIXELS = 4096 * 4096
MAX_TOLERANCE = 8
"""Grey levels by which golden images may be off at most, whatever a bundle says."""
MAX_MANIFEST_BYTES = 1 << 24


@dataclass(frozen=True)
class Golden:
    """Images that the generator must give: noise (N, noise_dim), labels (N,) or None, images (N, H, W, C) uint8."""

    noise: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None
    images: npt.NDArray[np.uint8]
    tolerance: float
    """In grey levels: other processors round differently."""


@dataclass(frozen=True)
class Bundle:
    """One version of a model on disk, found in order."""

    manifest: Manifest
    variant: str
    """The variant that is served."""
    graphs: dict[str, bytes]
    """ONNX files of the served variant by role, as they were hashed."""
    golden: Golden
    """Of the served variant."""


def read_bundle(folder: Path, choice: Choice = "fp32", provider: str = "") -> Bundle:
    """Read and check the bundle in `folder`, named <model>/<version>.

    choice     variant to serve
    provider   execution provider of onnxruntime; "auto" takes the variant that is the fastest there

    Raises: BundleRefused, with what is wrong.
    """
    manifest = _read_manifest(folder)
    variant = resolve(manifest, choice, provider)
    files = {file: _read_graph(folder, file, graph) for file, graph in manifest.graphs.items()}
    graphs = {role: files[file] for role, file in files_of(manifest, variant).items()}
    if ("prior" in graphs) != ("decoder" in graphs):
        raise BundleRefused("manifest.json: prior and decoder come together or not at all")
    return Bundle(manifest, variant, graphs, _read_golden(folder, manifest, variant))


def _read_graph(folder: Path, file: str, graph: Graph) -> bytes:
    if Path(file).name != file or not file.endswith(".onnx"):
        raise BundleRefused(f"manifest.json: graphs: {quote(file)} is not the plain name of an .onnx file")
    for field, value, allowed in (("role", graph.role, ROLES), ("variant", graph.variant, VARIANTS)):
        if value not in allowed:
            raise BundleRefused(f"manifest.json: {file}: {field} {quote(value)} is none of {', '.join(allowed)}")
    content = _read(folder / file)
    digest = hashlib.sha256(content).hexdigest()
    if digest != graph.sha256:
        raise BundleRefused(f"{file} is damaged: sha256 {digest[:12]}..., the manifest says {graph.sha256[:12]}...")
    return content


def _read(path: Path, most: int | None = None) -> bytes:
    """The content of a file of at most `most` bytes. Raises: BundleRefused, OSError."""

    def at_once(name: str, flags: int) -> int:
        # A pipe that nobody writes into would hold up all versions.
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    try:
        with open(path, "rb", opener=at_once) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise BundleRefused(f"{path.name} is no file, but a pipe or a device")
            if most is not None and facts.st_size > most:
                raise BundleRefused(f"{path.name} has {facts.st_size} bytes, allowed are {most}")
            return file.read()
    except FileNotFoundError:
        raise BundleRefused(f"{path.name} is missing") from None


def truncated_dim(manifest: Manifest) -> int:
    """Entries of the noise, from the first on, that truncation scales."""
    return manifest.truncated_dim or manifest.latent_dim


def _read_manifest(folder: Path) -> Manifest:
    content = _read(folder / "manifest.json", MAX_MANIFEST_BYTES)
    try:
        manifest = json_format.Parse(content.decode(), Manifest(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise BundleRefused(f"manifest.json cannot be read: {str(error)[:200]}") from None
    if manifest.format != FORMAT:
        raise BundleRefused(f"manifest.json: format {manifest.format}, this server reads {FORMAT}")
    if (manifest.name, manifest.version) != (folder.parent.name, folder.name):
        raise BundleRefused(
            f"manifest.json: says {quote(manifest.name)} version {quote(manifest.version)}, "
            f"the folder says {folder.parent.name!r} version {folder.name!r}"
        )
    pixels = manifest.height * manifest.width
    if not 0 < pixels <= MAX_PIXELS or manifest.channels not in (1, 3):
        raise BundleRefused(f"manifest.json: images of {manifest.height}x{manifest.width}x{manifest.channels}")
    if manifest.latent_dim < 1 or not 1 <= truncated_dim(manifest) <= manifest.noise_dim:
        told = {name: getattr(manifest, name) for name in ("latent_dim", "truncated_dim", "noise_dim")}
        raise BundleRefused(f"manifest.json: {', '.join(f'{name} {value}' for name, value in told.items())}")
    shape = list(manifest.latent_shape)
    if shape and (len(shape) != 3 or min(shape) < 1 or prod(shape) != manifest.latent_dim):
        raise BundleRefused(f"manifest.json: latent_shape {shape}, latent_dim {manifest.latent_dim}")
    return manifest


def _read_golden(folder: Path, manifest: Manifest, variant: str) -> Golden:
    """What the generator of `variant` must give for the noise and labels that all variants share."""
    suffix = "" if variant == FP32 else f"_{variant}"
    images, tolerance = f"images{suffix}", f"tolerance{suffix}"
    names = ["noise", images, tolerance] + (["labels"] if manifest.labels else [])
    content = io.BytesIO(_read(folder / "golden.npz"))
    try:
        with np.load(content, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in names if name in arrays}
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged archives
        raise BundleRefused(f"golden.npz cannot be read: {type(error).__name__}: {str(error)[:200]}") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise BundleRefused(f"golden.npz: there is no {' and no '.join(missing)}, which variant {variant} must have")
    count = max(1, len(found[images])) if found[images].ndim else 1
    expected: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "noise": (np.float32, (count, manifest.noise_dim)),
        images: (np.uint8, (count, manifest.height, manifest.width, manifest.channels)),
        tolerance: (np.float32, ()),
        "labels": (np.int64, (count,)),
    }
    for name, array in found.items():
        kind, shape = expected[name]
        if array.dtype != kind or array.shape != shape:
            raise BundleRefused(f"golden.npz: {name} is {array.dtype} {array.shape}, must be {kind.__name__} {shape}")
    if not 0 <= found[tolerance] <= MAX_TOLERANCE:
        raise BundleRefused(f"golden.npz: {tolerance} is {found[tolerance]}, allowed are 0 to {MAX_TOLERANCE}")
    return Golden(found["noise"], found.get("labels"), found[images], float(found[tolerance]))
