"""What the GPUs do, by NVIDIA's management library; knows nothing of what runs on them."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Gpu(NamedTuple):
    """One GPU now; `device` is cuda:N by NVML's order, which is CUDA's where CUDA_DEVICE_ORDER is PCI_BUS_ID."""

    device: str
    utilization_ratio: float
    memory_used_bytes: int
    memory_total_bytes: int
    power_watts: float
    temperature_celsius: float


def gpu_reader() -> Callable[[], list[Gpu]]:
    """A function that reads all GPUs; it gives none where there are none, or nvidia-ml-py is not installed."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        return list
    except pynvml.NVMLError:
        return list
    return lambda: read(pynvml)


def read(nvml: Any) -> list[Gpu]:
    """All GPUs that `nvml`, the module pynvml, finds."""
    return [_read(nvml, number) for number in range(nvml.nvmlDeviceGetCount())]


def _read(nvml: Any, number: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(number)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        device=f"cuda:{number}",
        utilization_ratio=nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        memory_used_bytes=memory.used,
        memory_total_bytes=memory.total,
        power_watts=nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        temperature_celsius=nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
    )
