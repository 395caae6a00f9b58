"""Make dashboards/*.json, which Grafana is provisioned with.

overview, latency, batching, models, resources -> Dashboard -> JSON

python -m deploy.grafana.build            writes the files
python -m deploy.grafana.build --check    writes nothing; status 1 and a message if a file is not what would be written
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import batching, latency, models, overview, resources

FOLDER = Path(__file__).parent / "dashboards"


def built() -> dict[str, str]:
    """The content of each file by its name."""
    made = [part.dashboard() for part in (overview, latency, batching, models, resources)]
    return {f"{each.uid}.json": json.dumps(each, cls=JSONEncoder, indent=1, sort_keys=True) + "\n" for each in made}


def differences(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    """Names of files in `folder` that are missing, surplus or not as wanted."""
    there = {path.name: path.read_text() for path in folder.glob("*.json")}
    return sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name))


def write(folder: Path, wanted: Mapping[str, str]) -> None:
    """Make the `.json` files in `folder` those wanted and no others."""
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (folder / name).write_text(content)


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description="Make Grafana's dashboards.")
    parser.add_argument("--check", action="store_true", help="write nothing, say which files are stale")
    if parser.parse_args().check:
        stale = differences(FOLDER, built())
        if stale:
            print(f"stale: {', '.join(stale)}; run `make dashboards`")
        return 1 if stale else 0
    write(FOLDER, built())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
