"""How full the server is: batches, the queue, the time of the engines, and who was sent away."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.frame import framed
from deploy.grafana.panels import Panel, heat, lines
from deploy.grafana.queries import INSTANCE, MODEL, buckets, mean, quantiles, rate, total

PADDING = total(rate("figment_padding_images_total"), "model")
ROWS = total(rate("figment_batch_images_sum"), "model")


def dashboard() -> Dashboard:
    """The dashboard figment-batching."""
    about = "Batch sizes and padding, the queue and its limit, how busy engines are, requests refused and given up."
    return framed(
        "batching",
        "Batching & saturation",
        about,
        {"Saturation": _saturation(), "Batches": _batches(), "Refused and given up": _refused()},
    )


def _saturation() -> list[Panel]:
    return [
        lines(
            "Queue",
            "suffix: images",
            "Images admitted and not yet answered, by model, and how many may be.",
            "High: callers ask for more than is computed. At the limit requests are refused; see FigmentQueueNearlyFull "
            "in docs/runbooks.md.",
            {
                "{{model}}": f"sum by (model) (figment_queue_images{{{MODEL}}})",
                "limit": f"sum(figment_queue_limit_images{{{INSTANCE}}})",
            },
            dashed="limit",
        ),
        lines(
            "Queue fill",
            "percentunit",
            "Images admitted by those that may be, of each replica.",
            "High on one replica only: connections are not spread; balance requests, not connections (Envoy), or open more.",
            {
                "{{instance}}": f"sum by (instance) (figment_queue_images{{{INSTANCE}}}) / "
                f"sum by (instance) (figment_queue_limit_images{{{INSTANCE}}})"
            },
            most=1,
        ),
        lines(
            "Engines busy",
            "percentunit",
            "Share of their time that the threads of a device spend on runs.",
            "High: near 1 the device is full, and what comes more waits. Low while the queue is long: the event loop is "
            "the bottleneck; see CPU in Resources and --gateways in docs/operations.md.",
            {
                "{{instance}} {{device}}": f"{total(rate('figment_engine_busy_seconds_total', INSTANCE), 'instance, device')} / "
                f"sum by (instance, device) (figment_engine_workers{{{INSTANCE}}})"
            },
            most=1,
        ),
        lines(
            "Time in the queue",
            "s",
            "Median, p90 and p99 of the time that a piece of a request waits for its run.",
            "High: compare with the mean time of a run (Latency); a wait of many runs means that more is asked than computed.",
            quantiles("figment_stage_seconds", f'{MODEL},stage="queue"'),
        ),
    ]


def _batches() -> list[Panel]:
    return [
        heat(
            "Batch sizes",
            "none",
            "Images or latents of a run, padding not counted.",
            "Low under load: requests come one after another, or a row costs no less in larger batches, which the server "
            "measures while it loads. High is good for throughput and costs small requests time.",
            buckets("figment_batch_images"),
        ),
        lines(
            "Mean batch size",
            "suffix: images",
            "Images or latents of a run by model, padding not counted.",
            "Low under load: see Batch sizes. A batch is what piled up while the last one ran; nothing waits for it.",
            {"{{model}}": mean("figment_batch_images", "model")},
            width=8,
        ),
        lines(
            "Runs",
            "ops",
            "Runs of the engine a second, by model.",
            "High with small batches: callers that ask for one image at a time use StreamGenerate better.",
            {"{{model}}": total(rate("figment_batch_images_count"), "model")},
            width=8,
        ),
        lines(
            "Padding",
            "percentunit",
            "Share of the computed rows that only fill a batch up to one of --batch.sizes; 0 without sizes.",
            "High: give --batch.sizes steps nearer to the mean batch size.",
            {"{{model}}": f"{PADDING} / ({ROWS} + {PADDING})"},
            width=8,
        ),
    ]


def _refused() -> list[Panel]:
    return [
        lines(
            "Refused",
            "reqps",
            "Requests refused before anything was computed, by reason.",
            "High: queue_full asks for more replicas, or for callers that wait as long as RetryInfo says; draining "
            "belongs to a stop and ends with it.",
            {"{{reason}} {{model}}": total(rate("figment_rejected_total"), "reason, model")},
            width=8,
        ),
        lines(
            "Given up",
            "reqps",
            "Requests that their caller left (client) or that ran out of time (deadline).",
            "High: deadlines are shorter than what requests take; see Latency. Deadlines cost the availability budget.",
            {"{{reason}} {{model}}": total(rate("figment_cancelled_total"), "reason, model")},
            width=8,
        ),
        lines(
            "Streams open",
            "suffix: streams",
            "StreamGenerate calls in progress on each replica.",
            "High and rising with steady traffic: callers open streams and forget them.",
            {"{{instance}}": f"sum by (instance) (figment_streams_open{{{INSTANCE}}})"},
            width=8,
        ),
    ]
