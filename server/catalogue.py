"""Which models there are, which of their versions can be used, and why the others cannot.

    models folder -> [version folder -> read_bundle -> engine.load -> LoadedModel | reason] ... -> find()

A version that cannot be loaded is kept with its reason; the others are served.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog

from figment.v1.manifest_pb2 import Manifest
from figment.v1.model_service_pb2 import VersionState, VersionStatus
from server.batcher import Graph
from server.bundle import NAME, Bundle, read_bundle
from server.errors import BundleRefused, FailedPrecondition, InvalidArgument, NotFound, Unavailable, quote
from server.metrics import Metrics

VARIANT = "fp32"

log = structlog.get_logger()


class Loads(Protocol):
    """What the catalogue needs of an engine."""

    provider: str

    def load(self, bundle: Bundle) -> dict[str, Any]:
        """Graphs by role; raises BundleRefused."""

    def fingerprint(self, bundle: Bundle, variant: str) -> str:
        """Short name of everything that decides the images' bytes."""


@dataclass(frozen=True)
class LoadedModel:
    """One version that can be used."""

    manifest: Manifest
    graphs: dict[str, Graph]
    engine: str

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.manifest.name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.manifest.height, self.manifest.width, self.manifest.channels

    @property
    def image_bytes(self) -> int:
        """Bytes of one raw image."""
        height, width, channels = self.image_shape
        return height * width * channels

    @property
    def decoder(self) -> tuple[Graph, str]:
        """The graph that maps latents to images, and its input's name: without a prior the noise is the latent."""
        return (self.graphs["decoder"], "latent") if "decoder" in self.graphs else (self.graphs["generator"], "noise")


@dataclass
class _Entry:
    """All versions of one model."""

    statuses: dict[str, VersionStatus] = field(default_factory=dict)
    loaded: dict[str, LoadedModel] = field(default_factory=dict)

    @property
    def default_version(self) -> str:
        return max(self.loaded, key=int, default="")


class Catalogue:
    """The models of one folder."""

    def __init__(self, folder: Path, engine: Loads, metrics: Metrics) -> None:
        self._folder = folder
        self._engine = engine
        self._metrics = metrics
        self._entries: dict[str, _Entry] = {}
        self._is_open = False

    def load_all(self) -> None:
        """Load every version in the folder, then answer `find`. Blocks; for a thread."""
        for path in sorted(self._folder.glob("*/*")):
            if not path.is_dir() or not re.fullmatch("[1-9][0-9]*", path.name) or not NAME.fullmatch(path.parent.name):
                continue
            name, version = path.parent.name, path.name
            entry = self._entries.setdefault(name, _Entry())
            entry.statuses[version] = VersionStatus(version=version, state=VersionState.VERSION_STATE_LOADING)
            try:
                entry.loaded[version] = model = self._load(path)
            except (BundleRefused, OSError) as error:
                log.warning("version refused", model=name, version=version, reason=str(error))
                state, reason = VersionState.VERSION_STATE_FAILED, str(error)
            else:
                log.info("version loaded", model=name, version=version, engine=model.engine)
                state, reason = VersionState.VERSION_STATE_READY, ""
            entry.statuses[version] = VersionStatus(version=version, state=state, reason=reason)
            self._metrics.model_ready.labels(name, version).set(not reason)
            self._metrics.model_loads.labels(name, "failed" if reason else "ok").inc()
        self._is_open = True

    def _load(self, path: Path) -> LoadedModel:
        bundle = read_bundle(path, VARIANT)
        graphs = self._engine.load(bundle)
        manifest = bundle.manifest
        self._metrics.model_info.labels(
            manifest.name, manifest.version, manifest.family, self._engine.provider, VARIANT
        ).set(1)
        return LoadedModel(manifest, graphs, self._engine.fingerprint(bundle, VARIANT))

    @property
    def names(self) -> list[str]:
        """Names of the models, those without a usable version included."""
        return sorted(self._entries)

    def ready_names(self) -> list[str]:
        """Names of the models that can be used."""
        return [name for name in self.names if self._entries[name].loaded]

    def statuses(self, name: str) -> list[VersionStatus]:
        """State of every version of a model that there is, the highest first."""
        statuses = self._entries[name].statuses
        return [statuses[version] for version in sorted(statuses, key=int, reverse=True)]

    def default_version(self, name: str) -> str:
        """The highest version of `name` that can be used; "" where none is."""
        return self._entries[name].default_version

    def family(self, name: str) -> str:
        """The family of the default version of `name`; "" where no version can be used."""
        entry = self._entries[name]
        return entry.loaded[entry.default_version].manifest.family if entry.loaded else ""

    def label(self, name: str) -> str:
        """`name` as a metric's label: closed, so unknown names are one value."""
        return name if name in self._entries else "unknown"

    def find(self, name: str, version: str = "") -> LoadedModel:
        """The version asked for, or the default one.

        Raises: InvalidArgument, NotFound, FailedPrecondition, Unavailable.
        """
        if not self._is_open:
            raise Unavailable("the server is starting: its models are not loaded yet")
        if not name:
            raise InvalidArgument("model", f"is required; there are {_list(self.names)}")
        entry = self._entries.get(name)
        if entry is None:
            raise NotFound("model", f"there is no {quote(name)}; there are {_list(self.names)}")
        if version and version not in entry.statuses:
            there = _list(sorted(entry.statuses, key=int))
            raise NotFound("version", f"{name} has no version {quote(version)}; there are {there}")
        model = entry.loaded.get(version or entry.default_version)
        if model is None:
            reasons = "; ".join(f"version {s.version}: {s.reason}" for s in self.statuses(name) if s.reason)
            raise FailedPrecondition(f"{name} {version or '(any version)'} is not loaded: {reasons[:500]}")
        return model


def _list(names: list[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") if names else "none"
