"""Variables of a verb: which there are, what they hold, and which only look like them.

    verb, environment -> variables_of() -> read() -> values of its settings
                                        -> strangers() -> one line each

Options of `serve` are FIGMENT_ and the option: `--batch.max-size` is FIGMENT_BATCH__MAX_SIZE. Options of every other verb
have the verb in between: `generate --seed` is FIGMENT_GENERATE_SEED, so that what Kubernetes and CI make up, such as
FIGMENT_VERSION, cannot become one. What several verbs share says its own name. What comes before the options, such as a
model's name, has no variable. Knows settings classes, not flags.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_settings import CliPositionalArg, SettingsError

PREFIX = "FIGMENT_"
DELIMITER = "__"
PLAIN_VERB = "serve"
POSITIONAL = get_args(CliPositionalArg[str])[1]
"""What pydantic-settings marks fields with that are no options."""

OF_OTHERS = frozenset(
    # docker-compose.yml reads the first four; CI and images tell the last.
    ["FIGMENT_MODELS_FOLDER", "FIGMENT_UID", "FIGMENT_GID", "FIGMENT_MEMORY", "FIGMENT_VERSION"]
)
OF_SERVE = frozenset(["FIGMENT_ADDRESS", "FIGMENT_BATCH", "FIGMENT_DEVICE", "FIGMENT_MODELS", "FIGMENT_THREADS"])
"""Variables of `serve` that another verb's would be called too, were its name left out."""

OF_KUBERNETES = re.compile(
    r"FIGMENT_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)=.*|PORT=\w+://.*|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*)"
)
"""NAME=VALUE as every pod gets them for a service whose name begins with figment."""

JSON_ALLOWED = 'allowed are lists and maps as JSON: [64, 128], {"digits-gan": 2}'

NEAR, ALIKE = 0.6, 0.85
"""difflib's ratios: the nearest right name is worth telling; a name that is none of ours is surely meant as one."""

Loc = tuple[str, ...]


@dataclass(frozen=True)
class Variable:
    """Marks a field that several verbs have: the one variable that all of them read."""

    name: str


def variables_of(verb: str, settings: type[BaseModel]) -> dict[str, Loc]:
    """Each variable that the verb reads, with the place of what it holds; groups before their parts."""
    prefix = _prefix(verb)
    names = {}
    for loc, field in _fields(settings):
        shared = next((mark.name for mark in field.metadata if isinstance(mark, Variable)), None)
        names[shared or prefix + DELIMITER.join(loc).upper()] = loc
    return names


def read(verb: str, settings: type[BaseModel], environment: Mapping[str, str]) -> dict[str, Any]:
    """What the environment says of the verb's settings; empty variables say nothing.

    Raises: SettingsError, if a list or map is not JSON.
    """
    fields = dict(_fields(settings))
    values: dict[str, Any] = {}
    for name, loc in variables_of(verb, settings).items():
        text = environment.get(name, "")
        if not text:
            continue
        value: Any = text
        if _is_json(fields[loc].annotation):
            try:
                value = json.loads(text)
            except ValueError as error:
                raise SettingsError(f"{name}: got {text[:100]!r}, {JSON_ALLOWED}") from error
        group = values
        for part in loc[:-1]:
            inner = group.get(part)
            group[part] = group = inner if isinstance(inner, dict) else {}
        group[loc[-1]] = value
    return values


def strangers(
    verb: str, settings: type[BaseModel], verbs: Collection[str], environment: Mapping[str, str]
) -> Iterator[str]:
    """One line for each variable that was surely meant for this verb and is none of its own, with the nearest that is.

    Another verb's are left to that verb, as only its class knows them.
    """
    known = variables_of(verb, settings)
    prefix = _prefix(verb)
    others = tuple(_prefix(other) for other in verbs if other not in (verb, PLAIN_VERB))
    for name, value in sorted(environment.items()):
        if name in known or not name.startswith(PREFIX) or name.startswith(others):
            continue
        if name in OF_OTHERS or OF_KUBERNETES.fullmatch(f"{name}={value}"):
            continue
        nearest = get_close_matches(name, known, 1, ALIKE)
        if not nearest and name not in OF_SERVE and name.replace(PREFIX, prefix, 1) in known:
            nearest = [name.replace(PREFIX, prefix, 1)]
        is_own = name.startswith(prefix)
        if is_own and not nearest:
            right = {other.removeprefix(prefix): other for other in known}
            nearest = [right[rest] for rest in get_close_matches(name.removeprefix(prefix), right, 1, NEAR)]
        if nearest:
            yield f"{name} is not a setting; did you mean {nearest[0]}?"
        elif is_own:
            yield f"{name} is not a setting of figment {verb}; see figment {verb} --help"


def _prefix(verb: str) -> str:
    return PREFIX if verb == PLAIN_VERB else f"{PREFIX}{verb.upper()}_"


def _fields(settings: type[BaseModel], above: Loc = ()) -> Iterator[tuple[Loc, Any]]:
    for name, field in settings.model_fields.items():
        if POSITIONAL in field.metadata:
            continue
        yield (*above, name), field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, (*above, name))


def _is_json(annotation: Any) -> bool:
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return any(_is_json(part) for part in get_args(annotation))
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, list | tuple | set | frozenset | dict | BaseModel)
