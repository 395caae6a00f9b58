"""Write the table of settings in operations.md.

settings classes of the server -> JSON schema -> rows -> the part of the page between two marks

python -m docs.settings            writes the page
python -m docs.settings --check    writes nothing; status 1 and a message if the page is not what would be written
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server.settings import ServerSettings

PAGE = Path(__file__).parent / "operations.md"

MARKED = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- end of settings -->\n)", re.DOTALL)


def table() -> str:
    """All settings of `figment serve` as a table in Markdown, surrounded by empty lines."""
    schema = ServerSettings.model_json_schema()
    rows = [("flag", "default", "allowed", "what"), ("---",) * 4, *_rows(schema, schema["$defs"], "--")]
    return "\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows) + "\n"


def with_table(page: str) -> str:
    """The page with the table that there is now."""
    return MARKED.sub(lambda _: table(), page)


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


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description="Write the table of settings in docs/operations.md.")
    parser.add_argument("--check", action="store_true", help="write nothing, say whether the page is stale")
    page = PAGE.read_text()
    if parser.parse_args().check:
        if is_stale := with_table(page) != page:
            print(f"stale: {PAGE.name}; run `make docs`")
        return int(is_stale)
    PAGE.write_text(with_table(page))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
