"""Which models there are, which of their versions can be used, and why the others cannot.

    version, state -> put() ... -> open() -> registry[name, version]

Knows nothing of folders and engines: `loading` fills it where the engines are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NoReturn

from figment.v1.manifest_pb2 import Manifest
from figment.v1.model_service_pb2 import VersionStatus
from server.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable, quote
from server.models.graph import Graph
from server.models.variants import files_of


@dataclass(frozen=True)
class LoadedModel:
    """One version that can be used, as `variant`; `engine` is the fingerprint of all that decides its images."""

    manifest: Manifest
    engine: str
    variant: str

    @cached_property
    def name(self) -> str:
        """Name of the model."""
        return self.manifest.name

    @cached_property
    def version(self) -> str:
        """Its version."""
        return self.manifest.version

    @cached_property
    def graphs(self) -> dict[str, Graph]:
        """Its graphs by role."""
        roles = files_of(self.manifest, self.variant)
        return {role: Graph(self.name, self.version, role, self.engine) for role in roles}

    @cached_property
    def image_bytes(self) -> int:
        """Bytes of one raw image."""
        return self.manifest.height * self.manifest.width * self.manifest.channels

    @cached_property
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


class ModelRegistry(dict[tuple[str, str], LoadedModel]):
    """The models of one server: `registry[name, version]` is the version asked for, or the default one for "".

    A look-up that finds nothing raises InvalidArgument, NotFound, FailedPrecondition or Unavailable, and says what there is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, _Entry] = {}
        self.known_names: set[str] = set()
        """Names of the models, those without a usable version included."""
        self._is_open = False
        self.nothing = "models: there is no model"
        """What to say where there is none."""

    def put(self, name: str, status: VersionStatus, model: LoadedModel | None = None) -> None:
        """Set the state of a version; `model` comes with the state READY, and is found once the registry is open."""
        entry = self._entries.setdefault(name, _Entry())
        self.known_names.add(name)
        entry.statuses[status.version] = status
        if model:
            entry.loaded[status.version] = model

    def adopt(self, other: "ModelRegistry") -> None:
        """Hold what `other` holds and nothing else, open."""
        self._entries = other._entries
        self.known_names.clear()
        self.known_names.update(self._entries)
        self.nothing = other.nothing
        self.open()

    def open(self) -> None:
        """Begin to find what was put."""
        self._is_open = True
        self.clear()
        for name, entry in self._entries.items():
            self.update({(name, version): model for version, model in entry.loaded.items()})
            if entry.loaded:
                self[name, ""] = entry.loaded[entry.default_version]

    def versions(self) -> Iterator[tuple[str, VersionStatus, LoadedModel | None]]:
        """Everything that was put."""
        for name, entry in self._entries.items():
            for version, status in entry.statuses.items():
                yield name, status, entry.loaded.get(version)

    @property
    def names(self) -> list[str]:
        """`known_names` in order."""
        return sorted(self._entries)

    def ready_names(self) -> list[str]:
        """Names of the models that can be used."""
        return [name for name in self.names if self._entries[name].loaded]

    def problem(self) -> str:
        """Why no model can be used, or "" if one can."""
        if self.ready_names():
            return ""
        return f"models: none can be served: {'; '.join(self.refusals())[:1000]}" if self._entries else self.nothing

    def refusals(self) -> list[str]:
        """A line for each version that cannot be used, with the reason."""
        return [f"{name} {status.version}: {status.reason}" for name, status, _ in self.versions() if status.reason]

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

    def __missing__(self, key: tuple[str, str]) -> NoReturn:
        name, version = key
        if not self._is_open:
            raise Unavailable("the server is starting: its models are not loaded yet")
        if not name:
            raise InvalidArgument("model", f"is required; there are {_list(self.names)}")
        entry = self._entries.get(name)
        if entry is None:
            there = f"there are {_list(self.names)}" if self._entries else "this server has no model yet"
            raise NotFound("model", f"there is no {quote(name)}; {there}")
        if version and version not in entry.statuses:
            there = _list(sorted(entry.statuses, key=int))
            raise NotFound("version", f"{name} has no version {quote(version)}; there are {there}")
        reasons = "; ".join(f"version {s.version}: {s.reason}" for s in self.statuses(name) if s.reason)
        raise FailedPrecondition(f"{name} {version or '(any version)'} is not loaded: {reasons[:500]}")


def _list(names: list[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") if names else "none"
