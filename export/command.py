"""`figment export`: publish a finished run as a bundle."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg

from export.errors import ExportError
from export.exporter import export
from training.errors import RunFolderError


class Export(BaseSettings):
    """Turn a finished run into verified ONNX and publish it as the next version of a model."""

    errors: ClassVar[tuple[type[Exception], ...]] = (ExportError, RunFolderError)

    run: CliPositionalArg[Path] = Field(description="run folder that figment train wrote")
    models: Path = Field(Path("models"), description="folder of models to publish into")
    name: str | None = Field(None, description="name of the model; by default the run folder's")

    def cli_cmd(self) -> None:
        """Export, and say where the bundle is."""
        folder = export(self.run, self.models, self.name or self.run.resolve().name)
        print(f"{folder}: verified and published; look at {folder / 'samples.png'}")
