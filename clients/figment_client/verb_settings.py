"""Settings of a verb: a BaseSettings class filled from flags and environment, and what is wrong with them in words.

    class, command line, environment -> settings_of() -> instance;  ValidationError -> complaints() -> one line a field

One spelling for all verbs: field `batch.max_size` is --batch.max-size and FIGMENT_BATCH__MAX_SIZE.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliPositionalArg, CliSettingsSource, SettingsError

ENV_PREFIX = "FIGMENT_"
ENV_DELIMITER = "__"
QUOTED_CHARACTERS = 100
_POSITIONAL = get_args(CliPositionalArg[str])[1]


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Two aligned columns, wide enough for the longest usual option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        """Leaves out defaults that say nothing: the description tells what an absent value means."""
        return action.help and action.help.removesuffix("(default: None)").removesuffix("(default: )").rstrip()


def settings_of(verb: type[BaseSettings], program: str, options: Sequence[str]) -> BaseSettings:
    """The verb's settings from its options, then FIGMENT_ variables, then defaults.

    Raises: ValidationError, if a value is not allowed; SettingsError, if the options cannot be read; SystemExit, after
    printing --help.
    """
    flags: CliSettingsSource[BaseSettings] = CliSettingsSource(
        verb,
        cli_prog_name=program,
        cli_parse_args=list(options),
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
        cli_implicit_flags=True,
        cli_kebab_case=True,
        formatter_class=_Formatter,
    )
    return verb(
        _cli_settings_source=flags,
        _env_prefix=ENV_PREFIX,
        _env_nested_delimiter=ENV_DELIMITER,
        _env_ignore_empty=True,
        _nested_model_default_partial_update=True,
    )


def complaints(verb: type[BaseSettings], error: ValidationError, options: Sequence[str]) -> Iterator[str]:
    """One line for each value that is not allowed: option, what came, what is allowed."""
    for fault in error.errors(include_url=False):
        name = _option(verb, fault["loc"])
        variable = ENV_PREFIX + ENV_DELIMITER.join(_fields(verb, fault["loc"])).upper()
        if variable in os.environ and not any(option.partition("=")[0] == name for option in options):
            name = f"{name} ({variable})"
        allowed = fault["msg"].removeprefix("Value error, ")
        allowed = allowed[:1].lower() + allowed[1:]
        if not fault["loc"]:
            yield allowed
        elif fault["type"] == "missing":
            yield f"{name}: a value is required"
        else:
            got = repr(fault["input"])
            got = got if len(got) <= QUOTED_CHARACTERS else got[:QUOTED_CHARACTERS] + "..."
            yield f"{name}: got {got}, {allowed}"


def unreadable(error: SettingsError) -> str:
    """What is wrong with a command line or environment that could not even be split into values."""
    message = str(error).removeprefix("error parsing CLI: ")
    source = ' from source "EnvSettingsSource"'
    return message.replace(source, " from the environment: lists are written as JSON, such as [64, 128]")


def _fields(verb: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The names in `loc` that are fields; what follows are positions in a list and branches of a union."""
    model: Any = verb
    names: list[str] = []
    for part in loc:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            break
        names.append(str(part))
        model = field.annotation
    return names


def _option(verb: type[BaseSettings], loc: tuple[int | str, ...]) -> str:
    names = _fields(verb, loc) or [str(part) for part in loc]
    name = ".".join(names).replace("_", "-")
    field: FieldInfo | None = verb.model_fields.get(names[0]) if len(names) == 1 else None
    positional = field is not None and _POSITIONAL in field.metadata
    return name.upper() if positional else f"--{name}"
