"""What the GPUs do, by NVIDIA's management library; knows nothing of what runs on them."""

from collections.abc import Callable
from math import nan
from typing import Any, NamedTuple


class Gpu(NamedTuple):
    """One GPU now; NaN is what it does not tell, as some do not tell their power.

    `device` is cuda:N by NVML's order, which is CUDA's where CUDA_DEVICE_ORDER is PCI_BUS_ID.
    """

    device: str
    utilization_ratio: float
    memory_used_bytes: float
    memory_total_bytes: float
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
    def told(ask: Callable[[Any], float]) -> float:
        try:
            return ask(nvml.nvmlDeviceGetHandleByIndex(number))
        except nvml.NVMLError:
            return nan

    return Gpu(
        device=f"cuda:{number}",
        utilization_ratio=told(lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100),
        memory_used_bytes=told(lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used),
        memory_total_bytes=told(lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total),
        power_watts=told(lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
        temperature_celsius=told(lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
    )
