"""The table of settings in operations.md.

settings classes of the server -> JSON schema -> rows
"""

import json
from collections.abc import Iterator
from typing import Any

from server.settings import ServerSettings


def rows() -> Iterator[tuple[str, ...]]:
    """The head and all settings of `figment serve`."""
    schema = ServerSettings.model_json_schema()
    yield "flag", "default", "allowed", "what"
    yield from _rows(schema, schema["$defs"], "--")


def _rows(group: dict[str, Any], groups: dict[str, Any], prefix: str) -> Iterator[tuple[str, ...]]:
    for name, setting in group["properties"].items():
        flag = prefix + name.replace("_", "-")
        if "$ref" in setting:
            yield from _rows(groups[setting["$ref"].rpartition("/")[2]], groups, f"{flag}.")
        else:
            yield (
                f"`{flag}`",
                _default(setting["default"]),
                _allowed(setting),
                setting["description"].replace("|", "\\|"),
            )


def _default(default: Any) -> str:
    if default in (None, [], {}):
        return ""
    return default if isinstance(default, str) else json.dumps(default)


def _allowed(setting: dict[str, Any]) -> str:
    facts: dict[str, Any] = {}
    for kind in (setting, *setting.get("anyOf", ())):
        facts |= kind
    least, most = facts.get("minimum"), facts.get("maximum")
    if "enum" in facts:
        return ", ".join(facts["enum"])
    if least is not None and most is not None:
        return f"{least:g} to {most:g}"
    return "" if least is None else f"from {least:g}"
