"""The devices of this machine: which there are for onnxruntime."""

from pathlib import Path

import onnxruntime

from server.errors import DeviceMissing

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


def devices(setting: str) -> list[str]:
    """The devices that a setting names: "cpu", or "cuda:0" and so on; "auto" is cuda:0 where there is a GPU, else cpu.

    Raises: DeviceMissing, if CUDA was asked for and onnxruntime does not have it.
    """
    has_provider = CUDA in onnxruntime.get_available_providers()
    has_gpu = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
    if setting == "auto":
        setting = "cuda" if has_provider and has_gpu else "cpu"
    if setting == "cpu":
        return ["cpu"]
    if not (has_provider and has_gpu):
        missing = "this onnxruntime has no CUDA provider" if not has_provider else "there is no NVIDIA GPU"
        raise DeviceMissing(f"device: {setting} was asked for, but {missing}; allowed here: auto, cpu")
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    return [name if ":" in name else f"{name}:0" for name in setting.split(",")]
