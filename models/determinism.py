"""Settings under which the same prompts give the same answers, run after run."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

__all__ = ["settle"]


def settle() -> Mapping[str, object]:
    """Makes torch prefer algorithms whose results do not depend on timing, at full single precision.

    Operations that have no such algorithm are left as they are. cuBLAS reads its setting when it is first
    used, so this has to come before any work on CUDA.

    Returns:
        The settings, to be recorded beside results.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Only those who read memory before they write it need it filled.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
