"""What a server says of its models, as plain frozen records.

    figment.v1.ModelSummary -> Model

Knows the messages, not how they came.
"""

from dataclasses import dataclass
from typing import Self

from figment.v1 import model_service_pb2


@dataclass(frozen=True)
class Version:
    """One version; `state` is "loading", "ready", "failed" or "unloaded", `reason` says why it cannot be used."""

    version: str
    state: str
    reason: str = ""

    @classmethod
    def from_message(cls, message: model_service_pb2.VersionStatus) -> Self:
        """The same facts without protobuf; states of newer servers are "unspecified"."""
        names = model_service_pb2.VersionState.DESCRIPTOR.values_by_number
        name = names[message.state if message.state in names else 0].name
        return cls(message.version, name.removeprefix("VERSION_STATE_").lower(), message.reason)


@dataclass(frozen=True)
class Model:
    """One model; `default_version` and `family` are "" where no version is ready. `versions`: the highest first."""

    name: str
    family: str
    default_version: str
    versions: tuple[Version, ...]

    @classmethod
    def from_message(cls, message: model_service_pb2.ModelSummary) -> Self:
        """The same facts without protobuf."""
        versions = tuple(Version.from_message(version) for version in message.versions)
        return cls(message.name, message.family, message.default_version, versions)
