"""The dashboards are whole: what Grafana needs is there, and what a reader needs."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.build import FOLDER, built, differences, write

DASHBOARDS: dict[str, dict[str, Any]] = {name: json.loads(content) for name, content in built().items()}

PANELS = [
    pytest.param(panel, id=f"{board['uid']}: {panel['title']}")
    for board in DASHBOARDS.values()
    for panel in board["panels"]
    if panel["type"] != "row"
]

UNITS = {"none", "short", "percentunit", "s", "reqps", "ops", "bytes", "watt", "celsius"}
"""Grafana's names of the units that are used; `suffix:` makes one of any text."""

KINDS = {"timeseries", "stat", "heatmap", "state-timeline", "table"}


def test_there_are_five_dashboards_with_stable_uids():
    uids = ["overview", "latency", "batching", "models", "resources"]
    assert list(DASHBOARDS) == [f"figment-{name}.json" for name in uids]
    assert [board["uid"] for board in DASHBOARDS.values()] == [f"figment-{name}" for name in uids]


def test_the_committed_files_are_those_that_build_makes():
    assert differences(FOLDER, built()) == [], "run `make dashboards`"


def test_a_stale_a_missing_and_a_surplus_file_are_found_and_put_right(tmp_path: Path):
    wanted = {"one.json": "1\n", "two.json": "2\n"}
    (tmp_path / "one.json").write_text("old\n")
    (tmp_path / "three.json").write_text("3\n")
    assert differences(tmp_path, wanted) == ["one.json", "three.json", "two.json"]
    write(tmp_path, wanted)
    assert differences(tmp_path, wanted) == []


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS)
def test_panels_have_ids_of_their_own_and_do_not_overlap(board: dict[str, Any]):
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["w"] > 0
        assert place["h"] > 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(panels, 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), f"{one['title']} and {other['title']}"


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS)
def test_every_line_of_the_grid_is_full(board: dict[str, Any]):
    lines: dict[int, int] = {}
    for panel in board["panels"]:
        lines[panel["gridPos"]["y"]] = lines.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(lines.values()) == {24}


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS)
def test_dashboards_link_to_each_other_and_can_be_narrowed(board: dict[str, Any]):
    assert board["tags"] == ["figment"]
    (link,) = board["links"]
    assert (link["type"], link["tags"], link["includeVars"]) == ("dashboards", ["figment"], True)
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables) == ["model", "instance"]
    assert all(variable["multi"] and variable["includeAll"] for variable in variables.values())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            assert '="$' not in target["expr"], "several values are chosen by =~"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_and_what_to_do(panel: dict[str, Any]):
    shows, advice = panel["description"].split("\n\n")
    assert len(shows.split()) >= 3
    assert len(advice.split()) >= 5
    assert ":" in advice, "advice begins with the case that it is for"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_unit_decimals_and_queries_with_legends(panel: dict[str, Any]):
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["type"] in KINDS
    assert defaults["unit"] in UNITS or defaults["unit"].startswith("suffix:")
    assert defaults["decimals"] >= 0
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
    if panel["type"] in {"timeseries", "state-timeline", "heatmap"}:
        assert all(target["legendFormat"] for target in panel["targets"])


def test_the_data_source_is_the_one_that_is_provisioned():
    provisioning = FOLDER.parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    asked = {
        found["datasource"]["uid"]
        for board in DASHBOARDS.values()
        for panel in [*board["panels"], *board["templating"]["list"]]
        if panel["type"] != "row"
        for found in [panel, *panel.get("targets", [])]
    }
    assert asked == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "figment.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[length] and other[start] < one[start] + one[length]
        for start, length in (("x", "w"), ("y", "h"))
    )
