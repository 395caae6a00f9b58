"""Write the tables of these pages that are made of what the code says.

table's module -> rows -> the part of its page between two marks

python -m docs            writes the pages
python -m docs --check    writes nothing; status 1 and a message for each page that is not what would be written
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

from docs import figures, settings

TABLES = {"operations.md": ("settings", settings.rows), "quality.md": ("figures", figures.rows)}
"""By page, the name in the marks around its table, and what gives the rows, the head first."""


def with_table(page: str, name: str, rows: Iterable[tuple[str, ...]]) -> str:
    """`page` with the rows as a table in Markdown between its marks, surrounded by empty lines."""
    head, *body = rows
    lines = [f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *body)]
    marked = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->\n)", re.DOTALL)
    return marked.sub(lambda _: f"\n{''.join(lines)}\n", page)


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description="Write the tables in docs/ that are made of what the code says.")
    parser.add_argument("--check", action="store_true", help="write nothing, say which pages are stale")
    is_check, status = parser.parse_args().check, 0
    for file, (name, rows) in TABLES.items():
        path = Path(__file__).parent / file
        page = path.read_text()
        wanted = with_table(page, name, rows())
        if not is_check:
            path.write_text(wanted)
        elif wanted != page:
            print(f"stale: {file}; run `make docs`")
            status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main())
