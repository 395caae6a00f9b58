"""What the servers use of their machines."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.frame import framed
from deploy.grafana.panels import Panel, Step, lines, number, rows
from deploy.grafana.queries import INSTANCE, PROCESS, rate


def dashboard() -> Dashboard:
    """The dashboard figment-resources."""
    about = "CPU, memory, open files and GPUs of the servers, their restarts and their versions."
    return framed(
        "resources",
        "Resources",
        about,
        {"Servers": _servers(), "Processes": _processes(), "GPU (nothing on a machine without one)": _gpu()},
    )


def _servers() -> list[Panel]:
    return [
        number(
            "Up since",
            "s",
            "Age of the server that started last.",
            "Low without a deployment: it crashed or was killed; its log's last lines say why, out of memory says nothing.",
            f"min(time() - process_start_time_seconds{{{PROCESS}}})",
            width=6,
        ),
        number(
            "Server starts in 1 h",
            "none",
            "How often the servers' start time changed.",
            "High: something starts them again and again; see the container's exit status and memory.",
            f"sum(changes(process_start_time_seconds{{{PROCESS}}}[1h]))",
            Step(None, "green"),
            Step(1, "orange"),
            Step(3, "red"),
            width=6,
        ),
        number(
            "Engine restarts in 1 h",
            "none",
            "Processes with engines that had to be started again, with --gateways.",
            "High: see FigmentEngineRestarted in docs/runbooks.md.",
            f"sum(increase(figment_engine_restarts_total{{{INSTANCE}}}[1h])) or vector(0)",
            Step(None, "green"),
            Step(0.5, "red"),
            width=6,
        ),
        number(
            "Time of a scrape",
            "s",
            "How long the slowest metrics page takes.",
            "High: over 4 s the replica counts as down; the machine is overloaded.",
            f"max(scrape_duration_seconds{{{PROCESS}}})",
            Step(None, "green"),
            Step(1, "red"),
            width=6,
        ),
        rows(
            "Builds",
            "none",
            "Versions of the server, of Python and of onnxruntime, by replica.",
            "Replicas differ: a deployment is not finished, and images of equal seeds may differ.",
            {"": f"figment_build_info{{{INSTANCE}}}"},
            columns={name: name for name in ("instance", "version", "python", "onnxruntime")},
        ),
    ]


def _processes() -> list[Panel]:
    return [
        lines(
            "CPU",
            "suffix: cores",
            "Cores that each server uses.",
            "High: on a CPU that is what a busy engine looks like. At 1 with a low busy ratio one event loop is the "
            "bottleneck; see --gateways in docs/operations.md.",
            {"{{instance}}": rate("process_cpu_seconds_total", PROCESS)},
            width=8,
        ),
        lines(
            "Memory",
            "bytes",
            "Resident memory of each server.",
            "High and rising without new models: a leak, to be reported with this curve. It is flat after the first minutes.",
            {"{{instance}}": f"process_resident_memory_bytes{{{PROCESS}}}"},
            width=8,
        ),
        lines(
            "Open files",
            "short",
            "Open files and connections of each server, and how many there may be.",
            "High: near the limit no connection is accepted; raise it (ulimit -n) or look for callers that open one a call.",
            {"{{instance}}": f"process_open_fds{{{PROCESS}}}", "limit": f"min(process_max_fds{{{PROCESS}}})"},
            width=8,
            dashed="limit",
        ),
    ]


def _gpu() -> list[Panel]:
    return [
        lines(
            "GPU in use",
            "percentunit",
            "Share of time in which the GPU computes anything.",
            "High: full at 1. Low while the queue is long: batches are small, or the gateways are the bottleneck.",
            {"{{instance}} {{device}}": f"figment_gpu_utilization_ratio{{{INSTANCE}}}"},
            width=6,
            most=1,
        ),
        lines(
            "GPU memory",
            "bytes",
            "Memory of the GPU in use by all processes, and all there is.",
            "High: each of --batch.sizes has memory of its own; give fewer sizes or serve fewer versions.",
            {
                "{{instance}} {{device}}": f"figment_gpu_memory_used_bytes{{{INSTANCE}}}",
                "total": f"min(figment_gpu_memory_total_bytes{{{INSTANCE}}})",
            },
            width=6,
            dashed="total",
        ),
        lines(
            "GPU power",
            "watt",
            "Power that the GPU draws.",
            "Low at full use: its clock is throttled; see the temperature.",
            {"{{instance}} {{device}}": f"figment_gpu_power_watts{{{INSTANCE}}}"},
            width=6,
        ),
        lines(
            "GPU temperature",
            "celsius",
            "Temperature of the GPU.",
            "High: over about 85 degrees clocks go down and runs take longer; look after the cooling.",
            {"{{instance}} {{device}}": f"figment_gpu_temperature_celsius{{{INSTANCE}}}"},
            width=6,
        ),
    ]
