"""Every query of the dashboards and of the rules asks for what a server really shows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import promql_parser as promql
import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.grafana.build import built
from deploy.grafana.queries import FAILED, MODEL, SMALL
from server.telemetry.gpus import Gpu
from server.telemetry.metrics import Metrics
from server.telemetry.metrics_http import MetricsPage

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"

TARGET = {"job", "instance"}
"""Labels that a scrape adds."""

METRICS = Metrics()

PAGE = CollectorRegistry()
MetricsPage(PAGE, lambda: "", gpus=lambda: [Gpu("cuda:0", 0.5, 1, 2, 3.0, 4.0)])
GPU = {sample.name for family in PAGE.collect() for sample in family.samples if "device" in sample.labels}
"""Metrics of the page of a server with a GPU."""

PROMETHEUS = {
    "up": TARGET,
    "scrape_duration_seconds": TARGET,
    "ALERTS": {*TARGET, "alertname", "alertstate", "severity", "model"},
}
"""Labels of the metrics that Prometheus makes itself."""

PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
}
"""Metrics of prometheus_client where there is /proc."""

VARIABLES = {"$__rate_interval": "1m", "$model": ".*", "$instance": ".*"}


def _rules() -> Iterator[dict[str, Any]]:
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def _queries() -> Iterator[Any]:
    """Expressions with their legends."""
    for rule in _rules():
        name = rule.get("record") or f"{rule['alert']} {rule['labels']}"
        yield pytest.param(rule["expr"], "", id=name)
    for content in built().values():
        board = json.loads(content)
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                name = f"{board['uid']}: {panel['title']} {target['refId']}"
                yield pytest.param(target["expr"], target["legendFormat"], id=name)


QUERIES = list(_queries())


def _labels_of(metric: str) -> set[str]:
    """The labels that a metric can have. Raises: KeyError, if there is no such metric."""
    if metric in PROMETHEUS:
        return PROMETHEUS[metric]
    if metric in PROCESS:
        return TARGET
    if metric in GPU:
        return {*TARGET, "device"}
    if metric in {rule.get("record") for rule in _rules()}:
        return set()
    declared = METRICS.registry._names_to_collectors[metric]
    own = set(getattr(declared, "_labelnames", ()))
    return TARGET | own | ({"le"} if metric.endswith("_bucket") else set())


def _nodes(expression: str) -> list[promql.Expr]:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, "a variable that is not known"
    found: list[promql.Expr] = []
    promql.walk(promql.parse(expression), lambda node: found.append(node))
    return found


def _selectors(node: promql.Expr) -> list[promql.VectorSelector]:
    found: list[promql.Expr] = []
    promql.walk(node, lambda inner: found.append(inner))
    return [inner for inner in found if isinstance(inner, promql.VectorSelector)]


@pytest.mark.parametrize(("expression", "legend"), QUERIES)
def test_a_query_names_metrics_and_labels_that_there_are(expression: str, legend: str):
    grouped: set[str] = set()
    there: set[str] = set()
    for node in _nodes(expression):
        if isinstance(node, promql.VectorSelector):
            labels = _labels_of(node.name)
            there |= labels
            assert {matcher.name for matcher in node.matchers.matchers} <= labels, node
        elif isinstance(node, promql.AggregateExpr) and node.modifier:
            grouped |= set(node.modifier.labels)
            for selector in _selectors(node):
                assert set(node.modifier.labels) <= _labels_of(selector.name), f"{node.modifier} of {selector.name}"
        elif isinstance(node, promql.BinaryExpr) and node.modifier and node.modifier.matching:
            for selector in _selectors(node):
                assert set(node.modifier.matching.labels) <= _labels_of(selector.name), node
    assert set(re.findall(r"{{(\w+)}}", legend)) <= (grouped or there)


@pytest.mark.parametrize(("expression", "legend"), QUERIES)
def test_a_query_asks_for_codes_and_bounds_that_there_are(expression: str, legend: str):
    for node in _nodes(expression):
        if not isinstance(node, promql.VectorSelector):
            continue
        for matcher in node.matchers.matchers:
            if matcher.name == "code":
                assert set(matcher.value.split("|")) <= {code.name for code in grpc.StatusCode}
            if matcher.name == "le":
                histogram = METRICS.registry._names_to_collectors[node.name]
                assert float(matcher.value) in getattr(histogram, "_upper_bounds", ()), node


def test_the_dashboards_count_what_the_objectives_count():
    rules = {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}
    assert FAILED in rules["figment:requests_failed:rate5m"]
    assert SMALL.removeprefix(f"{MODEL},") in rules["figment:small_requests:rate5m"]


def test_the_variables_are_labels_that_there_are():
    for content in built().values():
        for variable in json.loads(content)["templating"]["list"]:
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found
            series, label = found.groups()
            for metric in re.findall(r"up|figment_\w+", series):
                assert label in _labels_of(metric)
