"""What a supervisor and the processes that it starts tell each other.

supervisor -> LoadPlan, an argument -> process that has engines          process -> ProcessStatus, a line of JSON -> supervisor
"""

from pydantic import BaseModel

from server.models.folder import FolderScan


class Version(BaseModel, frozen=True, extra="forbid"):
    """One version of a model: `engine` is its fingerprint, "" for any; `refusal` why it is not served, "" if it is."""

    name: str
    version: str
    engine: str = ""
    refusal: str = ""


class LoadPlan(BaseModel, frozen=True, extra="forbid"):
    """What to load.

    versions   all that there are
    nothing    what to say where there is none
    is_again   whether these were served before: then a process that cannot serve them must not answer at all
    """

    versions: tuple[Version, ...]
    nothing: str = ""
    is_again: bool = False

    @classmethod
    def of_folder(cls, scan: FolderScan) -> "LoadPlan":
        """Everything that a folder holds."""
        versions = tuple(Version(name=name, version=version) for name, version in scan.versions)
        return cls(versions=versions, nothing=scan.nothing)

    def for_restart(self, served: tuple[Version, ...], *, is_served: bool) -> "LoadPlan":
        """What a process that is started again has to load.

        What others serve meanwhile, `is_served`, it must serve exactly as they do; else it may serve what is there now.
        """
        versions = served if is_served else tuple(Version(name=v.name, version=v.version) for v in served)
        return self.model_copy(update={"versions": versions, "is_again": True})
