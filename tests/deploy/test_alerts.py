"""Every alert says what is wrong and how much, and has a runbook, a test that fires and one that does not."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks.md"

ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "rules" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = sorted({alert["alert"] for alert in ALERTS})

OUTCOMES: list[dict[str, Any]] = [
    outcome
    for path in sorted((PROMETHEUS / "tests").glob("*.yml"))
    for test in yaml.safe_load(path.read_text())["tests"]
    for outcome in test.get("alert_rule_test", [])
]

each_alert = pytest.mark.parametrize(
    "alert", [pytest.param(alert, id=" ".join((alert["alert"], *alert["labels"].values()))) for alert in ALERTS]
)


@each_alert
def test_an_alert_has_a_severity_a_summary_and_a_description_with_values(alert: dict[str, Any]):
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"]
    if alert["alert"] != "FigmentDown":  # of nothing there are no values
        assert "{{" in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert['alert'].lower()}"


@each_alert
def test_an_alert_is_seen_firing_and_not_firing(alert: dict[str, Any]):
    fires = [
        any(alert["labels"].items() <= expected["exp_labels"].items() for expected in outcome["exp_alerts"])
        for outcome in OUTCOMES
        if outcome["alertname"] == alert["alert"]
    ]
    assert set(fires) == {True, False}


def test_alerts_and_sections_of_the_runbooks_are_the_same():
    assert sorted(re.findall(r"^## (Figment\w+)$", RUNBOOKS.read_text(), re.MULTILINE)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_tells_what_an_alert_means_how_to_see_it_and_what_to_do(name: str):
    section = RUNBOOKS.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert re.findall(r"^\*\*(.+?)\.\*\*", section, re.MULTILINE) == ["Meaning", "Look", "Do"]
    assert re.search(r"^1\. ", section, re.MULTILINE), "what to do is in order"


def test_every_dashboard_has_its_paragraph():
    text = RUNBOOKS.read_text().split("\n## Reading the dashboards\n")[1].split("\n## ")[0]
    assert re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE) == [
        "Overview",
        "Latency",
        "Batching & saturation",
        "Models",
        "Resources",
    ]


def test_prometheus_finds_every_replica_and_the_rules():
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (figment,) = [job for job in config["scrape_configs"] if job["job_name"] == "figment"]
    (replicas,) = figment["dns_sd_configs"]
    assert (replicas["names"], replicas["type"], replicas["port"]) == (["server"], "A", 9464)
    assert config["rule_files"] == ["rules/*.yml"]
