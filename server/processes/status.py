"""What a process says of itself to the supervisor that started it, a line of JSON each time."""

from pydantic import BaseModel

from server.models.load_plan import Version


class ProcessStatus(BaseModel, frozen=True, extra="forbid", strict=True):
    """What a process says of itself; a word that says nothing is a sign of life.

    ready      whether it serves
    problem    why it does not
    versions   what it has loaded, or refused
    device     where it runs it
    error      why it ends
    """

    ready: bool | None = None
    problem: str | None = None
    versions: tuple[Version, ...] | None = None
    device: str | None = None
    error: str | None = None

    def line(self) -> bytes:
        """As it is written."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"
