"""Whether the service is well: what it does, how much of it fails, how long it takes, what is left of the budgets."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.frame import framed
from deploy.grafana.panels import Panel, Step, lines, number, rows
from deploy.grafana.queries import FAILED, INSTANCE, MODEL, SMALL, quantile, quantiles, rate, total

REQUESTS = "figment_request_seconds_count"
ANSWERABLE = f'{MODEL},code!="CANCELLED"'
FAILURES = f"{MODEL},{FAILED}"


def dashboard() -> Dashboard:
    """The dashboard figment-overview."""
    about = "The service at a glance: traffic, failures, latency and what is left of the 30-day budgets."
    return framed("overview", "Overview", about, {"Now": _now(), "Traffic": _traffic(), "Objectives": _objectives()})


def _error_ratio(by: str = "") -> str:
    requests = total(rate(REQUESTS, ANSWERABLE), by)
    return f"({total(rate(REQUESTS, FAILURES), by)} or 0 * {requests}) / {requests}"


def _now() -> list[Panel]:
    return [
        number(
            "Replicas",
            "none",
            "Servers that answer Prometheus.",
            "Red: no server answers; see FigmentDown in docs/runbooks.md.",
            f'sum(up{{job="figment",{INSTANCE}}})',
            Step(None, "red"),
            Step(1, "green"),
        ),
        number(
            "Models ready",
            "none",
            "Models of which some version can be used on some replica.",
            "Low: the dashboard Models shows which are missing, `figment models` the reasons.",
            f"count(max by (model) (figment_model_ready{{{MODEL}}}) == 1) or vector(0)",
            Step(None, "red"),
            Step(1, "green"),
        ),
        number(
            "Requests",
            "reqps",
            "Requests that end, a second: unary calls and requests on streams.",
            "Low: where callers should be, see Replicas and Failed. High: see the queue in Batching & saturation.",
            total(rate(REQUESTS)),
        ),
        number(
            "Images",
            "suffix: images/s",
            "Images computed for requests, a second.",
            "High: see the engines' busy ratio in Batching & saturation; at 1 more images need more cores or GPUs.",
            total(rate("figment_images_total")),
        ),
        number(
            "Failed",
            "percentunit",
            "Share of requests that failed on the server's side, as the availability objective (99.9%) counts them.",
            "High: the panel Failed requests tells the codes, FigmentErrorBudgetBurn in docs/runbooks.md what to do.",
            _error_ratio(),
            Step(None, "green"),
            Step(0.001, "orange"),
            Step(0.0144, "red"),
        ),
        number(
            "p99, small requests",
            "s",
            "Time that 99% of OK requests for at most 16 images stay under; the objective is 250 ms.",
            "High: the dashboard Latency shows which stage takes it.",
            quantile(0.99, "figment_request_seconds", matchers=SMALL),
            Step(None, "green"),
            Step(0.25, "red"),
        ),
        number(
            "Availability budget left",
            "percentunit",
            "What is left of the failures that 99.9% over 30 days allow; all models and replicas.",
            "Low: put changes off that can wait. Below 0 the objective is missed.",
            "figment:availability_budget_left:ratio30d",
            Step(None, "red"),
            Step(0, "orange"),
            Step(0.25, "green"),
        ),
        number(
            "Latency budget left",
            "percentunit",
            "What is left of the slow small requests that 99% within 250 ms over 30 days allow; all models and replicas.",
            "Low: put changes off that can wait. Below 0 the objective is missed.",
            "figment:latency_budget_left:ratio30d",
            Step(None, "red"),
            Step(0, "orange"),
            Step(0.25, "green"),
        ),
    ]


def _traffic() -> list[Panel]:
    return [
        lines(
            "Requests by model",
            "reqps",
            "Requests that end, a second. `unknown` are those for models that are not served.",
            "High at unknown: some caller has a wrong name; the server's log lines have its request ids.",
            {"{{model}}": total(rate(REQUESTS), "model")},
        ),
        lines(
            "Images by model",
            "suffix: images/s",
            "Images computed for requests, a second, padding not counted.",
            "Low while requests are many: they are small, or fail; see Failed requests and the batch sizes.",
            {"{{model}}": total(rate("figment_images_total"), "model")},
            stacked=True,
        ),
        lines(
            "Failed requests",
            "reqps",
            "Requests that did not end with OK, by code. CANCELLED are callers who left.",
            "High: RESOURCE_EXHAUSTED is a full queue, UNAVAILABLE a server that starts, drains or lost its engines, "
            "INTERNAL a failed run or a bug with a log line; INVALID_ARGUMENT and NOT_FOUND are the caller's.",
            {"{{code}}": total(rate(REQUESTS, f'{MODEL},code!="OK"'), "code")},
            stacked=True,
        ),
        lines(
            "Failed ratio by model",
            "percentunit",
            "Share of each model's requests that failed on the server's side.",
            "High for one model: see its readiness in Models. High for all: see Batching & saturation.",
            {"{{model}}": _error_ratio("model")},
        ),
    ]


def _objectives() -> list[Panel]:
    return [
        lines(
            "Latency of OK requests",
            "s",
            "Median, p90 and p99 of all OK requests, whatever their size.",
            "High: large requests take long by nature; the dashboard Latency shows small ones apart, and stages.",
            quantiles("figment_request_seconds", f'{MODEL},code="OK"'),
            width=8,
        ),
        lines(
            "Burn rates",
            "suffix: x",
            "How fast the last hour used the budgets: at 1 one lasts 30 days. All models and replicas.",
            "High: over 14.4 the budget lasts two days and somebody is paged; see docs/runbooks.md.",
            {"availability": "figment:failed:ratio1h / 0.001", "latency": "figment:slow:ratio1h / 0.01"},
            width=8,
        ),
        rows(
            "Alerts",
            "none",
            "Alerts that fire now; none where there is no row.",
            "Red or not: each alert has a section in docs/runbooks.md.",
            {"": 'ALERTS{alertname=~"Figment.*",alertstate="firing"}'},
            columns={"severity": "severity", "alertname": "alert", "model": "model", "instance": "instance"},
            width=8,
        ),
    ]
