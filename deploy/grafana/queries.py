"""PromQL that the dashboards have in common.

Series are chosen by the variables `$model` and `$instance` of the dashboard; rates are over Grafana's `$__rate_interval`,
which is at least four scrapes.
"""

MODEL = 'model=~"$model",instance=~"$instance"'
"""Matchers for what has a model."""

INSTANCE = 'instance=~"$instance"'
"""Matchers for what belongs to a whole server."""

PROCESS = f'job="figment",{INSTANCE}'
"""Matchers for metrics that Prometheus itself has too."""

SMALL = f'{MODEL},code="OK",method!="GetModel",size="small"'
"""Requests that the latency objective is about, as in deploy/prometheus/rules/objectives.yml."""

FAILED = 'code=~"RESOURCE_EXHAUSTED|UNAVAILABLE|INTERNAL|UNKNOWN|DEADLINE_EXCEEDED|DATA_LOSS"'
"""Codes that count as failures of the server, as in deploy/prometheus/rules/objectives.yml."""


def rate(metric: str, matchers: str = MODEL) -> str:
    """How fast a counter grows, a second."""
    return f"rate({metric}{{{matchers}}}[$__rate_interval])"


def total(series: str, by: str = "") -> str:
    """The sum of `series`, for each value of the labels `by`."""
    return f"sum by ({by}) ({series})" if by else f"sum({series})"


def quantile(q: float, histogram: str, by: str = "", matchers: str = MODEL) -> str:
    """A quantile of a histogram, for each value of the labels `by`."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {total(rate(f'{histogram}_bucket', matchers), labels)})"


def quantiles(histogram: str, matchers: str = MODEL) -> dict[str, str]:
    """Median, p90 and p99, by legend."""
    return {f"p{q * 100:.0f}": quantile(q, histogram, matchers=matchers) for q in (0.5, 0.9, 0.99)}


def mean(histogram: str, by: str = "", matchers: str = MODEL) -> str:
    """The mean of a histogram, for each value of the labels `by`."""
    return f"{total(rate(f'{histogram}_sum', matchers), by)} / {total(rate(f'{histogram}_count', matchers), by)}"


def buckets(histogram: str, matchers: str = MODEL) -> str:
    """What fell into each bucket of a histogram, for a heatmap."""
    return f"sum by (le) (increase({histogram}_bucket{{{matchers}}}[$__rate_interval]))"
