"""How long requests take, and where the time goes."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.frame import framed
from deploy.grafana.panels import Panel, heat, lines
from deploy.grafana.queries import INSTANCE, MODEL, SMALL, buckets, mean, quantile, quantiles, rate, total

SECONDS = "figment_request_seconds"
OK = f'{MODEL},code="OK"'


P99 = {
    "model": (
        "Time that 99% of a model's OK requests stay under, whatever their size.",
        "High for one model: see its time an image in Models; a quicker variant may do. High for all: see the queue.",
    ),
    "method": (
        "Time that 99% of a method's OK requests stay under.",
        "High for Encode and Reconstruct alone: uploaded images are large to decode. A request on StreamGenerate may draw a "
        "million images, and waits for a reader who is slow.",
    ),
    "size": (
        "Time that 99% of OK requests stay under: small are those for at most 16 images.",
        "High for small ones: they wait behind runs in progress; smaller batches (--batch.max-size) shorten that.",
    ),
}
"""What the 99th percentile by a label shows, and what to do about it."""


def dashboard() -> Dashboard:
    """The dashboard figment-latency."""
    about = "Time of requests by model, method and size, and of the stages that they go through."
    return framed(
        "latency", "Latency", about, {"Requests": _requests(), "Where the time goes": _stages(), "RPCs": _rpcs()}
    )


def _requests() -> list[Panel]:
    within = total(rate(f"{SECONDS}_bucket", f'{SMALL},le="0.25"'))
    return [
        lines(
            "Small requests",
            "s",
            "Median, p90 and p99 of OK requests for at most 16 images.",
            "High: if queue is the largest stage below, the server is busy; if infer is, the model is slow.",
            quantiles(SECONDS, SMALL),
            exemplars=True,
        ),
        lines(
            "Small requests within 250 ms",
            "percentunit",
            "Share of OK requests for at most 16 images that took at most 250 ms; the objective is 99%.",
            "Low: see FigmentLatencyBudgetBurn in docs/runbooks.md.",
            {"within 250 ms": f"{within} / {total(rate(f'{SECONDS}_count', SMALL))}"},
            most=1,
        ),
        *(_p99(label, shows, advice) for label, (shows, advice) in P99.items()),
        heat(
            "Requests by time",
            "s",
            "How many OK requests took how long. Two bands are two kinds of requests, not one slow kind.",
            "High: a band that rises is a queue that grows; a band that starts is new traffic or a new model.",
            buckets(SECONDS, OK),
        ),
    ]


def _stages() -> list[Panel]:
    return [
        lines(
            "Mean time by stage",
            "s",
            "Mean of sample and encode for a piece of a request, of its time in the queue, and of a run (infer), stacked: "
            "about what a request of one piece takes.",
            "High: queue means too few cores or GPUs, infer a slow model or large batches, encode PNG, JPEG or WebP "
            "where RAW would do.",
            {"{{stage}}": mean("figment_stage_seconds", "stage")},
            stacked=True,
        ),
        lines(
            "p99 by stage",
            "s",
            "Time that 99% of the pieces (infer: of the runs) stay under in a stage.",
            "High: queue alone means bursts; they are evened out by more replicas or by limits for callers.",
            {"{{stage}}": quantile(0.99, "figment_stage_seconds", "stage")},
        ),
        lines(
            "Mean time in the queue by model",
            "s",
            "How long a piece of a request waits for its run.",
            "High for one model: give it more of the engines' time with --shares. High for all: more cores or replicas.",
            {"{{model}}": mean("figment_stage_seconds", "model", f'{MODEL},stage="queue"')},
        ),
        lines(
            "Mean time of a run by model",
            "s",
            "How long the engine takes for one batch.",
            "High: the batch sizes grew, or cores are shared with others; `figment bench model` measures the graph alone.",
            {"{{model}}": mean("figment_stage_seconds", "model", f'{MODEL},stage="infer"')},
        ),
    ]


def _rpcs() -> list[Panel]:
    return [
        lines(
            "RPCs by method and code",
            "reqps",
            "RPCs that ended, a second, those without a model included; a whole stream is one RPC.",
            "High with UNIMPLEMENTED or UNKNOWN: a caller speaks another contract than protos/figment/v1.",
            {
                "{{grpc_method}} {{grpc_code}}": total(
                    rate("grpc_server_handled_total", INSTANCE), "grpc_method, grpc_code"
                )
            },
        ),
        lines(
            "p99 of RPCs",
            "s",
            "Time from start to end of 99% of the RPCs. StreamGenerate lasts as long as its caller keeps it open.",
            "High for GetModel or ListModels, which compute nothing: the server's event loop has no time; see CPU.",
            {"{{grpc_method}}": quantile(0.99, "grpc_server_handling_seconds", "grpc_method", INSTANCE)},
        ),
    ]


def _p99(label: str, shows: str, advice: str) -> Panel:
    query = quantile(0.99, SECONDS, label, OK)
    return lines(f"p99 by {label}", "s", shows, advice, {f"{{{{{label}}}}}": query}, width=8, exemplars=label != "size")
