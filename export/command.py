"""`figment export`, `figment import`, `figment bench`: from a run or a foreign graph to a bundle, and how fast it is."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, CliPositionalArg
from rich import box
from rich.console import Console
from rich.table import Table

from export.bundle import read_manifest, write_manifest
from export.errors import ExportError
from export.measure import measure
from export.onnx_import.autoencoder import from_autoencoder
from export.onnx_import.generator import from_onnx
from export.onnx_import.options import ImportOptions, Layout, Range, colour_of, shape_of
from export.publish import Plan, Published, make_and_publish
from export.quality_gate import relative_change
from export.source import Source, from_run
from export.variants import LOSSY, Device, variants_for
from figment.bundles import LossyVariant
from figment.v1.manifest_pb2 import Manifest
from training.errors import RunFolderError

WITH_TUNE = " and ".join(f"{variant} on {lossy.device}" for variant, lossy in LOSSY.items())


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, by an exception: what was half written is removed."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _PublishOptions(BaseSettings):
    """Options of verbs that publish a bundle."""

    errors: ClassVar[tuple[type[Exception], ...]] = (ExportError, RunFolderError)

    models: Path = Field(Path("models"), description="folder of models to publish into")
    tune: bool = Field(False, description="try the lossy variants of the device, measure the speed of every graph")
    variants: tuple[LossyVariant, ...] | None = Field(
        None, description=f"lossy variants to try: {', '.join(LOSSY)}; by default none, with --tune {WITH_TUNE}"
    )
    device: Device = Field("cpu", description="what speed is measured on: cpu or cuda")
    evaluate: bool = Field(False, description="measure the quality of the images, for the manifest")

    @property
    def plan(self) -> Plan:
        """What is to be done beyond the exact graphs."""
        variants = self.variants if self.variants is not None else variants_for(self.device) if self.tune else ()
        return Plan(variants, self.tune, self.evaluate, self.device)


class Export(_PublishOptions):
    """Turn a run into verified ONNX and publish it as the next version of a model."""

    run: CliPositionalArg[Path] = Field(description="run folder that figment train wrote")
    name: str | None = Field(None, description="name of the model; by default the run folder's")
    data: str | None = Field(None, description="real images to judge by; by default what the run was trained on")

    def cli_cmd(self) -> None:
        """Export, and say where the bundle is."""

        def make() -> Source:
            source = from_run(self.run, self.data)
            if source.note:
                print(source.note)
            return source

        with _ended_by_signals():
            _print_summary(make_and_publish(make, self.models, self.name or self.run.resolve().name, self.plan))


class Import(_PublishOptions):
    """Take a generator or an autoencoder that was trained elsewhere from ONNX and publish it as the next version of a model."""

    file: CliPositionalArg[Path | None] = Field(None, description="ONNX file of a generator: noise [, label] -> images")
    encoder: Path | None = Field(
        None, description="ONNX file of an autoencoder's encoder, instead of a generator's file"
    )
    decoder: Path | None = Field(None, description="ONNX file of its decoder")
    name: str | None = Field(None, description="name of the model; by default the file's, or the decoder's")
    layout: Layout = Field(
        "auto", description="order of the images' axes: NCHW or NHWC; auto: where 1, 3 or 4 channels are"
    )
    range: Range = Field(
        "auto", description="black and white: -1..1, 0..1 or 0..255; auto: by how the graph ends, or what it draws"
    )
    shape: str | None = Field(
        None, description="HxW or HxWxC of an image, where its values come flat or the file leaves its size open"
    )
    background: str | None = Field(None, description="colour that images with alpha are put over; by default white")
    labels: tuple[str, ...] = Field((), description="names of the classes, where the graph has an input for a label")
    truncation: float | None = Field(
        None,
        allow_inf_nan=False,
        description="what the graph's input of one number is fixed at; by default as in the file, or 1",
    )
    noise: str = Field("", description="the input that is the noise, where several could be")
    output: str = Field(
        "", description="the output that is taken, where several could be: the images, or of an encoder"
    )
    scaling_factor: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="of an autoencoder: its latents are multiplied by it, as diffusers do",
    )
    shift_factor: float = Field(
        0.0, allow_inf_nan=False, description="of an autoencoder: subtracted from its latents before"
    )
    data: str | None = Field(None, description="real images to judge by; lossy variants and --evaluate need them")

    @field_validator("shape")
    @classmethod
    def _check_shape(cls, text: str | None) -> str | None:
        if text is not None:
            shape_of(text)
        return text

    @field_validator("background")
    @classmethod
    def _check_background(cls, text: str | None) -> str | None:
        if text is not None:
            colour_of(text)
        return text

    @model_validator(mode="after")
    def _check_files(self) -> "Import":
        pair = (self.encoder, self.decoder)
        if (self.file is None) == (pair == (None, None)) or (self.file is None and None in pair):
            raise ValueError("what to import: allowed are the FILE of a generator, or --encoder and --decoder together")
        if self.file is not None and (self.scaling_factor, self.shift_factor) != (1, 0):
            raise ValueError("--scaling-factor and --shift-factor are of autoencoders, with --encoder and --decoder")
        return self

    def cli_cmd(self) -> None:
        """Import, and say what was found and where the bundle is."""

        def make() -> Source:
            if self.file is not None:
                source = from_onnx(self.file, self._options)
            else:
                assert self.encoder is not None, "checked above"
                assert self.decoder is not None, "checked above"
                source = from_autoencoder(self.encoder, self.decoder, self._options)
            print(source.note)
            return source

        file = self.file or self.decoder
        assert file is not None, "checked above"
        with _ended_by_signals():
            _print_summary(make_and_publish(make, self.models, self.name or file.stem.lower(), self.plan))

    @property
    def _options(self) -> ImportOptions:
        return ImportOptions(
            layout=self.layout,
            value_range=self.range,
            labels=self.labels,
            noise=self.noise,
            output=self.output,
            truncation=self.truncation,
            shape=shape_of(self.shape) if self.shape is not None else None,
            background=colour_of(self.background) if self.background is not None else None,
            scaling_factor=self.scaling_factor,
            shift_factor=self.shift_factor,
            data=self.data,
        )


class Bench(BaseSettings):
    """Measure how fast the graphs of a bundle run on this machine."""

    errors: ClassVar[tuple[type[Exception], ...]] = (ExportError,)

    what: CliPositionalArg[Literal["model"]] = Field(description="model: the graphs of one version, without a server")
    version: CliPositionalArg[Path] = Field(description="a version's folder, such as models/digits-vae/1")
    device: Device = Field("cpu", description="cpu or cuda")
    write: bool = Field(False, description="put the figures into the manifest, in place of those there of this device")

    def cli_cmd(self) -> None:
        """Measure and print a table."""
        manifest = read_manifest(self.version)
        measured = measure([self.version / file for file in manifest.graphs], self.device, len(manifest.labels))
        _print_speed(measured)
        if self.write:
            others = [old for old in manifest.measured if old.provider != measured[0].provider]
            del manifest.measured[:]
            manifest.measured.extend([*others, *measured])
            write_manifest(manifest, self.version)


def _print_summary(published: Published) -> None:
    manifest: Manifest = published.manifest
    for reason in published.left_out:
        print(f"left out: {reason}")
    for file, parity in sorted(manifest.parity.items()):
        for name, drift in sorted(parity.drift.items()):
            changed = relative_change(drift.fp32, drift.variant)
            print(f"{file}: Frechet distance ({name}) {drift.variant:.4g}, exact {drift.fp32:.4g}: {changed}")
    for name, figure in sorted(manifest.quality.items()):
        print(f"{name}: {figure:.4g}")
    if manifest.measured:
        _print_speed(manifest.measured)
    print(f"{published.folder}: verified and published; look at {published.folder / 'samples.png'}")


def _print_speed(measured: Any) -> None:
    """A table; CPU us: of an image, MiB: the process's largest memory so far."""
    first = measured[0]
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("graph", "threads", "batch", "images/s", "CPU us", "p50 ms", "p99 ms", "MiB"):
        table.add_column(column, justify="left" if column == "graph" else "right", no_wrap=True)
    for each in sorted(measured, key=lambda each: (each.graph, each.threads, each.batch_size)):
        table.add_row(
            each.graph.removesuffix(".onnx"),
            str(each.threads),
            str(each.batch_size),
            f"{each.images_per_s:.0f}",
            f"{1e6 * each.cpu_s_per_image:.1f}",
            f"{1e3 * each.latency_p50_s:.2f}",
            f"{1e3 * each.latency_p99_s:.2f}",
            f"{each.peak_memory_bytes / 2**20:.0f}",
        )
    print(f"{first.machine}, {first.provider}, onnxruntime {first.runtime}")
    Console().print(table)
