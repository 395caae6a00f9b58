"""Counters and histograms that are added up at a look: against those that are added up at once."""

import random
import threading

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from server.telemetry.buffered_metrics import BufferedCounter, BufferedHistogram, Family
from server.telemetry.metrics import Metrics

BUCKETS = (1.0, 2.0, 5.0)


def histograms() -> tuple[Family[BufferedHistogram], CollectorRegistry]:
    registry = CollectorRegistry()
    return Family(Histogram("h", "h", ["label"], buckets=BUCKETS, registry=registry), BufferedHistogram), registry


def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def exemplars(registry: CollectorRegistry) -> dict[str, dict[str, str]]:
    (family,) = registry.collect()
    return {sample.labels["le"]: sample.exemplar.labels for sample in family.samples if sample.exemplar}


def test_observations_fall_into_the_buckets_that_prometheus_puts_them_into():
    ours, registry = histograms()
    expected = CollectorRegistry()
    plain = Histogram("h", "h", ["label"], buckets=BUCKETS, registry=expected)
    draws = random.Random(0)
    for _ in range(3):
        for value in (*BUCKETS, 0.0, 7.0, *(draws.uniform(0, 8) for _ in range(100))):
            ours.labels("a").observe(value)
            plain.labels("a").observe(value)
        ours.flush()
    assert samples(registry) == pytest.approx(samples(expected))


def test_counts_are_told_once():
    registry = CollectorRegistry()
    ours = Family(Counter("c", "c", ["label"], registry=registry), BufferedCounter)
    for _ in range(3):
        ours.labels("a").inc(1)
        ours.labels("a").inc(2.5)
        ours.flush()
        ours.flush()
    assert registry.get_sample_value("c_total", {"label": "a"}) == 3 * 3.5


def test_nothing_is_lost_while_others_look():
    ours, registry = histograms()
    child, done = ours.labels("a"), threading.Event()

    def look() -> None:
        while not done.is_set():
            ours.flush()

    looking = threading.Thread(target=look)
    looking.start()
    observing = [threading.Thread(target=lambda: [child.observe(1.5) for _ in range(20_000)]) for _ in range(3)]
    for thread in observing:
        thread.start()
    for thread in observing:
        thread.join()
    done.set()
    looking.join()
    ours.flush()
    assert registry.get_sample_value("h_count", {"label": "a"}) == 60_000
    assert registry.get_sample_value("h_sum", {"label": "a"}) == pytest.approx(90_000)


def test_the_slowest_since_the_last_look_is_remembered_with_its_request():
    ours, registry = histograms()
    child = ours.labels("a")
    for value, request in ((1.5, "quick"), (4.0, "slow"), (0.5, "quicker")):
        child.observe_request((value, request, ""))
    ours.flush()
    assert exemplars(registry) == {"5.0": {"request_id": "slow"}}
    child.observe_request((1.6, "later", "0" * 32))
    ours.flush()
    assert exemplars(registry) == {"5.0": {"request_id": "slow"}, "2.0": {"request_id": "later", "trace_id": "0" * 32}}


@pytest.mark.parametrize(("length", "is_kept"), [(118, True), (119, False)])
def test_an_exemplar_that_openmetrics_does_not_allow_is_left_out(length: int, is_kept: bool):
    ours, registry = histograms()
    ours.labels("a").observe_request((1.5, "r" * length, ""))
    ours.flush()
    assert bool(exemplars(registry)) is is_kept
    assert registry.get_sample_value("h_count", {"label": "a"}) == 1


def test_a_look_is_up_to_date():
    metrics, held = Metrics(), [3]
    metrics.on_scrape(lambda: metrics.streams_open.set(held[0]))
    metrics.images.labels("m").inc(5)
    value = metrics.registry.get_sample_value
    assert (value("figment_images_total", {"model": "m"}), value("figment_streams_open")) == (5, 3)
    held[0] = 0
    assert value("figment_streams_open") == 0
