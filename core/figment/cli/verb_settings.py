"""Settings of a verb: a BaseSettings class filled from flags and environment, and what is wrong with them in words.

    class, command line, environment -> settings_of() -> instance;  ValidationError -> complaints() -> one line a field

One spelling for all verbs: field `batch.max_size` is --batch.max-size; how variables are called stands in `variables`.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsError

from figment.cli.variables import JSON_ALLOWED, POSITIONAL, read, variables_of

NO_PREFIX = "="
"""Begins no variable's name: pydantic-settings' own reading of the environment, which knows no verbs, finds nothing."""

NEGATIVE_NUMBER = re.compile(r"-\.?\d")
QUOTED_CHARACTERS = 100

NO_MAP = ("model_type", "dict_type")

UNSPLIT = re.compile(r'Parsing error encountered for ([\w.]+):|error parsing value for field "([\w.]+)"')
"""What pydantic-settings says of a flag's list, map or group that it cannot split."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Two aligned columns, wide enough for the longest usual option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        """Leaves out defaults that say nothing: the description tells what an absent value means."""
        return action.help and action.help.removesuffix("(default: None)").removesuffix("(default: )").rstrip()


def settings_of(
    name: str, verb: type[BaseSettings], options: Sequence[str], environment: Mapping[str, str]
) -> BaseSettings:
    """The settings of the verb `name` from its options, then its variables, then defaults.

    Raises: ValidationError, if a value is not allowed; SettingsError, if options or variables cannot be read;
    SystemExit, after printing --help.
    """
    flags: CliSettingsSource[BaseSettings] = CliSettingsSource(
        verb,
        cli_prog_name=f"figment {name}",
        cli_parse_args=list(options),
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
        cli_implicit_flags=True,
        cli_kebab_case=True,
        formatter_class=_Formatter,
        parse_args_method=_parsed,
    )
    return verb(
        **read(name, verb, environment),
        _cli_settings_source=flags,
        _env_prefix=NO_PREFIX,
        _nested_model_default_partial_update=True,
    )


def complaints(
    name: str, verb: type[BaseSettings], error: ValidationError, options: Sequence[str], environment: Mapping[str, str]
) -> Iterator[str]:
    """One line for each value that is not allowed: option, what came, what is allowed."""
    variables = {loc: variable for variable, loc in variables_of(name, verb).items() if environment.get(variable)}
    for fault in error.errors(include_url=False):
        if fault["type"] == "default_factory_not_called":  # It waits for another value, which has a line of its own.
            continue
        fields = tuple(_fields(verb, fault["loc"]))
        option = _option(verb, fault["loc"])
        variable = next((variables[fields[:end]] for end in range(len(fields), 0, -1) if fields[:end] in variables), "")
        if variable and not any(given.partition("=")[0] == option for given in options):
            option = f"{option} ({variable})"
        allowed = fault["msg"].removeprefix("Value error, ")
        allowed = JSON_ALLOWED if fault["type"] in NO_MAP else allowed[:1].lower() + allowed[1:]
        if not fault["loc"]:
            yield allowed
        elif fault["type"] == "missing":
            yield f"{option}: a value is required"
        elif fault["type"] == "value_error" and isinstance(fault["input"], dict):
            yield f"{option}: {allowed}"  # Parts of a group that do not go together: the message says which.
        else:
            got = repr(fault["input"])
            got = got if len(got) <= QUOTED_CHARACTERS else got[:QUOTED_CHARACTERS] + "..."
            yield f"{option}: got {got}, {allowed}"


def unreadable(error: SettingsError) -> str:
    """What is wrong with a command line or environment that could not even be split into values."""
    text = str(error).removeprefix("error parsing CLI: ")
    unsplit = UNSPLIT.match(text)
    if unsplit:
        return f"--{(unsplit[1] or unsplit[2]).replace('_', '-')}: cannot be read: {JSON_ALLOWED}"
    return text


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """What argparse makes of the arguments where values may begin with "-", as -1..1 does.

    argparse takes every such word but negative numbers for an option. Here a word with one "-" that follows an option
    which needs a value is that value, unless it is an option's name.

    Raises: SettingsError, if there is no such option.
    """
    actions = parser._option_string_actions
    words: list[str] = []
    unknown: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word == "--":
            words += [word, *rest]
            break
        option = word.partition("=")[0]
        before = actions.get(words[-1]) if words else None
        if before and before.nargs != 0 and word.startswith("-") and not word.startswith("--") and word not in actions:
            words[-1] += f"={word}"
            continue
        if word.startswith("-") and option not in actions and not NEGATIVE_NUMBER.match(word) and word != "-":
            nearest = get_close_matches(option, actions, 1)
            unknown.append(f"{option} (did you mean {nearest[0]}?)" if nearest else option)
        words.append(word)
    if unknown:
        raise SettingsError(f"unrecognized arguments: {', '.join(unknown)}")
    return parser.parse_args(words)


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
    positional = field is not None and POSITIONAL in field.metadata
    return name.upper() if positional else f"--{name}"
