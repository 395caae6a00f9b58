"""The `figment` command: verbs found, options read, mistakes told."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, CliPositionalArg

import figment_client
from figment.cli.command import VERBS, main


class Batch(BaseModel):
    """How requests are grouped."""

    max_size: int = Field(64, ge=1, description="images a batch")
    sizes: list[int] = Field([], description="padded sizes")


class TooHot(Exception):
    """The fake verb's own error."""


class Serve(BaseSettings):
    """Serve bundles."""

    errors: ClassVar[tuple[type[Exception], ...]] = (TooHot,)
    ran: ClassVar[list["Serve"]] = []
    raises: ClassVar[BaseException | None] = None

    models: CliPositionalArg[str] = Field(description="folder of models")
    batch: Batch = Field(Batch(), description="grouping")
    device: Literal["auto", "cpu"] = Field("auto", description="where to run")
    name: str | None = Field(None, description="by default the folder's")
    quick: bool = Field(False, description="skip the warm-up")

    def cli_cmd(self) -> None:
        """Keep what came."""
        Serve.ran.append(self)
        if Serve.raises is not None:
            raise Serve.raises


class Entry:
    """An entry point that loads what it is told to."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self.load = load


def run(*arguments: str, load: Callable[[], Any] = lambda: Serve) -> int:
    return main(arguments, lambda verb: Entry(load))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Serve, "ran", [])
    monkeypatch.setattr(Serve, "raises", None)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_without_a_verb_the_verbs_are_listed(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments, lambda verb: None) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text and verb.summary in text for name, verb in VERBS.items())


def test_the_version_tells_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("figment-core ")


def test_an_unknown_verb_is_an_error_that_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("paint") == 2
    assert (
        "no verb 'paint'; there are train, resume, evaluate, compare, export, import, bench, serve"
        in capsys.readouterr().err
    )


def test_a_verb_that_is_not_installed_is_answered_with_the_command_that_adds_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train"], lambda verb: None) == 2
    told = capsys.readouterr().err
    assert "train needs figment[train]" in told
    assert "pip install ./core '.[train]'" in told


def test_a_missing_module_of_others_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    entry = EntryPoint("serve", "no_such_runtime.engine:Serve", "figment.commands")
    assert main(["serve"], lambda verb: entry) == 2
    told = capsys.readouterr().err
    assert "'no_such_runtime' is missing" in told
    assert "figment[serve]" in told


@pytest.mark.parametrize("target", ["figment_client.no_such_file:Serve", "figment_client.verbs:NoSuchVerb"])
def test_a_wrong_import_inside_an_installed_package_is_not_hidden(target: str) -> None:
    with pytest.raises((ModuleNotFoundError, AttributeError), match=r"no_such_file|NoSuchVerb"):
        main(["serve"], lambda verb: EntryPoint("serve", target, "figment.commands"))


def test_a_module_that_only_running_needs_is_named_too(capsys: pytest.CaptureFixture[str]) -> None:
    Serve.raises = ModuleNotFoundError("No module named 'no_such_runtime'", name="no_such_runtime")
    assert run("serve", "models") == 2
    assert "'no_such_runtime' is missing" in capsys.readouterr().err


def test_options_fill_the_settings() -> None:
    assert run("serve", "folder", "--batch.max-size", "8", "--batch.sizes", "4", "--batch.sizes", "8", "--quick") == 0
    (settings,) = Serve.ran
    assert (settings.models, settings.batch, settings.quick) == ("folder", Batch(max_size=8, sizes=[4, 8]), True)


def test_a_variable_fills_what_no_flag_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGMENT_BATCH__MAX_SIZE", "5")
    monkeypatch.setenv("FIGMENT_DEVICE", "cpu")
    monkeypatch.setenv("FIGMENT_QUICK", "")
    monkeypatch.setenv("NAME", "not ours")
    run("serve", "folder")
    run("serve", "folder", "--batch.max-size", "6")
    assert [settings.batch.max_size for settings in Serve.ran] == [5, 6]
    assert [(settings.device, settings.quick, settings.name) for settings in Serve.ran] == [("cpu", False, None)] * 2


def test_a_verbs_help_tells_descriptions_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("serve", "--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: figment serve ")
    assert "images a batch (default: 64)" in text
    assert "--device {auto,cpu}" in text
    assert "None" not in text
    assert "JSON" not in text


def test_every_value_that_is_not_allowed_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "folder", "--batch.max-size", "0", "--device", "tpu", "--batch.sizes", "x") == 2
    assert capsys.readouterr().err.splitlines() == [
        "figment serve: --batch.max-size: got '0', input should be greater than or equal to 1",
        "figment serve: --batch.sizes: got 'x', input should be a valid integer, unable to parse string as an integer",
        "figment serve: --device: got 'tpu', input should be 'auto' or 'cpu'",
    ]
    assert Serve.ran == []


def test_a_wrong_value_from_the_environment_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIGMENT_BATCH__MAX_SIZE", "many")
    assert run("serve", "folder") == 2
    assert "--batch.max-size (FIGMENT_BATCH__MAX_SIZE): got 'many'" in capsys.readouterr().err
    monkeypatch.setenv("FIGMENT_BATCH__MAX_SIZE", "1")
    monkeypatch.setenv("FIGMENT_BATCH__SIZES", "1,2")
    assert run("serve", "folder") == 2
    assert "FIGMENT_BATCH__SIZES: got '1,2', allowed are lists and maps as JSON: [64, 128]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("folder", "--quik"), "unrecognized arguments: --quik (did you mean --quick?)"),
        (("folder", "--batch.max-sise=2"), "unrecognized arguments: --batch.max-sise (did you mean --batch.max-size?)"),
        (("folder", "-x"), "unrecognized arguments: -x"),
        ((), "required: MODELS"),
    ],
)
def test_a_command_line_that_cannot_be_read_points_to_the_help(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("serve", *arguments) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"figment serve: {'the following arguments are ' if not arguments else ''}{told}; see figment serve --help"
    ]


def test_an_error_of_the_verbs_own_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Serve.raises = TooHot("the device is too hot")
    assert run("serve", "folder") == 1
    assert capsys.readouterr().err == "figment serve: the device is too hot\n"


def test_any_other_exception_is_a_bug_and_is_shown() -> None:
    Serve.raises = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        run("serve", "folder")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "runs/a"), "runs/a: No space left on device"),
        (OSError("cannot write mode F as PNG"), "cannot write mode F as PNG"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_what_files_and_memory_refuse_is_told_for_every_verb(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Serve.raises = error
    assert run("serve", "folder") == 1
    assert capsys.readouterr().err == f"figment serve: {told}\n"


@pytest.mark.parametrize(("out", "status"), [("/dev/full", 1), (None, 0)])
def test_an_output_that_cannot_be_written_is_one_line_at_most(out: str | None, status: int) -> None:
    code = "import sys; from figment.cli.command import main; sys.exit(main([]))"
    closed = "exec >&-" if out is None else f"exec >{out}"
    done = subprocess.run(
        ["sh", "-c", f'{closed}; exec "$0" -c "$1"', sys.executable, code],
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(figment_client.__file__).parents[1])},
        check=False,
    )
    assert done.returncode == status
    assert done.stderr == ("" if out is None else "figment: [Errno 28] No space left on device\n")


def test_an_interrupt_ends_with_130() -> None:
    Serve.raises = KeyboardInterrupt()
    assert run("serve", "folder") == 130


def test_a_reader_that_leaves_is_not_complained_about() -> None:
    code = "import sys; from figment.cli.command import main; sys.stdin.read(); sys.exit(main([]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(figment_client.__file__).parents[1])},
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert process.communicate(b"")[1] == b""
    assert process.returncode == 141
