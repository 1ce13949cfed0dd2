"""The machine that a model runs on, as far as it may change how numbers are rounded."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any, Final

import torch

__all__ = ["machine"]

_DRIVER: Final = Path("/proc/driver/nvidia/version")


def machine(device: str) -> dict[str, Any]:
    """What is to be recorded of a machine.

    Args:
        device: As torch names it.

    Returns:
        On CUDA the name of the accelerator, its driver and CUDA's libraries; elsewhere the processor's kind and
        instruction set, and how many threads share a sum.
    """
    if device.startswith("cuda"):
        return {
            "device": torch.cuda.get_device_name(device),
            "driver": driver_version(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return {
        "device": "cpu",
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
    }


def driver_version(file: Path = _DRIVER) -> str | None:
    """The version of the NVIDIA driver, as its kernel module reports it; None where there is none to ask.

    Args:
        file: The module's report.
    """
    try:
        found = re.search(r"\d+(?:\.\d+)+", file.read_text(encoding="utf-8"))
    except OSError:
        return None
    return None if found is None else found[0]
