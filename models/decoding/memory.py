"""How much memory a device has left."""

from __future__ import annotations

import psutil
import torch
from torch import Tensor

__all__ = ["free_bytes", "tensor_bytes"]


def free_bytes(device: torch.device) -> int:
    """The bytes that can still be taken on a device, what torch keeps for itself included."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def tensor_bytes(tensor: Tensor) -> int:
    """The bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()
