"""`figment VERB [options]`: find the verb, build its settings, run it.

    arguments -> VERBS -> entry point of group `figment.commands` -> settings class -> cli_cmd() -> exit status

A verb is a frozen BaseSettings class with a one-line docstring, fields with descriptions, and `cli_cmd(self) -> None`;
`errors`, a class variable, names the exceptions that are told without a traceback, as what files and memory refuse always
is; a verb with a log of its own takes warnings by `warn(self, message)`. How flags and variables are spelled is decided in
`verb_settings` and `variables`, once for all. Knows no stage: what is not installed is answered with the command that
adds it.

Exit status: 0 done, 1 the verb failed, 2 the command line is wrong or the verb is not installed, 130 interrupted.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from importlib import metadata
from importlib.util import find_spec
from io import TextIOWrapper
from typing import Any, ClassVar, NamedTuple, Protocol, cast, runtime_checkable

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from figment.cli.variables import strangers
from figment.cli.verb_settings import complaints, settings_of, unreadable


class Entry(Protocol):
    """What importlib.metadata.EntryPoint is used for."""

    def load(self) -> Any:
        """The verb's class. Raises: ModuleNotFoundError, if what it needs is not installed."""


Find = Callable[[str], Entry | None]


class Verb(NamedTuple):
    """A verb that some distribution brings."""

    summary: str
    brought_by: str = "figment-client"
    pip: str = "pip install ./core ./clients"


def _extra(name: str) -> tuple[str, str]:
    return f"figment[{name}]", f"pip install ./core '.[{name}]'"


VERBS = {
    "train": Verb("Train a model on a folder of images.", *_extra("train")),
    "resume": Verb("Go on with a training that was stopped.", *_extra("train")),
    "evaluate": Verb("Measure the images of a run or a bundle.", *_extra("export")),
    "compare": Verb("Measure several side by side.", *_extra("export")),
    "export": Verb("Turn a run into a verified bundle.", *_extra("export")),
    "import": Verb("Turn a foreign generator or autoencoder into a verified bundle.", *_extra("export")),
    "bench": Verb("Measure how fast a bundle's graphs run here.", *_extra("export")),
    "serve": Verb("Serve bundles over gRPC.", *_extra("serve")),
    "generate": Verb("Draw images with a server's model."),
    "interpolate": Verb("Draw the way between two images."),
    "reconstruct": Verb("Show images as a model remembers them."),
    "models": Verb("List a server's models."),
}
"""The verbs there are, installed or not. pip's argument is a checkout: no distribution is on an index."""


class _Runnable(Protocol):
    errors: ClassVar[tuple[type[Exception], ...]]

    def cli_cmd(self) -> None: ...


@runtime_checkable
class _Warned(Protocol):
    def warn(self, message: str) -> None: ...


def installed(verb: str) -> Entry | None:
    """The entry point of a verb, None where its distribution is not installed."""
    return next(iter(metadata.entry_points(group="figment.commands", name=verb)), None)


def main(arguments: Sequence[str] | None = None, find: Find = installed) -> int:
    """Run one command line, sys.argv's by default, and return the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as of standard error: names of files need not be text
    try:
        status = _dispatched(arguments, find)
        if sys.stdout is not None:  # as it is where nobody opened it: figment models >&-
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output, such as `head`, has left. Without this the interpreter's last flush would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:  # of standard output: /dev/full
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _refused("figment", _of_the_system(error), 1)


def _dispatched(arguments: list[str], find: Find) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        print("\n".join(_versions()))
        return 0
    name, *options = arguments
    if name not in VERBS:
        meant = "".join(f"; did you mean {verb}?" for verb in get_close_matches(name, VERBS, 1, 0.7))
        return _refused("figment", f"no verb {name[:100]!r}; there are {', '.join(VERBS)}{meant}", 2)
    try:
        entry = find(name)
        return _not_installed(name, "it is not installed") if entry is None else _run(name, entry.load(), options)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if not module or find_spec(module) is not None:
            raise  # A wrong import inside a package that is there: a bug, not a missing extra.
        return _not_installed(name, f"the module {module!r} is missing")


def _run(name: str, verb: type[BaseSettings], options: list[str]) -> int:
    program = f"figment {name}"
    environment = {variable.upper(): value for variable, value in os.environ.items()}
    warnings = list(strangers(name, verb, VERBS, environment))
    try:
        settings = cast(_Runnable, settings_of(name, verb, options, environment))
    except ValidationError as error:
        return _refused(program, "\n".join([*warnings, *complaints(name, verb, error, options, environment)]), 2)
    except SettingsError as error:
        return _refused(program, "\n".join([*warnings, f"{unreadable(error)}; see {program} --help"]), 2)
    for warning in warnings:
        if isinstance(settings, _Warned):
            settings.warn(warning)
        else:
            print(f"{program}: {warning}", file=sys.stderr)
    try:
        settings.cli_cmd()
    except BrokenPipeError:
        raise
    except getattr(verb, "errors", ()) as error:
        return _refused(program, _of_the_system(error) if isinstance(error, OSError) else str(error), 1)
    except (OSError, MemoryError) as error:
        return _refused(program, _of_the_system(error), 1)
    return 0


def _of_the_system(error: OSError | MemoryError) -> str:
    """What a file system or the memory refused, which is never a bug, with the file that it is about."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or "there is not enough memory"


def _overview() -> str:
    verbs = "\n".join(f"  {name:12} {verb.summary}" for name, verb in VERBS.items())
    return (
        "usage: figment VERB [options]\n\nTrain, export and serve models that draw images, and draw with them.\n\n"
        f"{verbs}\n\nfigment VERB --help   the options of a verb\nfigment --version     what is installed"
    )


def _versions() -> Iterator[str]:
    for distribution in ("figment-core", "figment-client", "figment"):
        try:
            yield f"{distribution} {metadata.version(distribution)}"
        except metadata.PackageNotFoundError:
            yield f"{distribution} not installed"


def _not_installed(name: str, why: str) -> int:
    verb = VERBS[name]
    return _refused("figment", f"{name} needs {verb.brought_by}: {why}; in Figment's checkout run: {verb.pip}", 2)


def _refused(program: str, message: str, status: int) -> int:
    for line in message.splitlines() or [""]:
        print(f"{program}: {line}", file=sys.stderr)
    return status
