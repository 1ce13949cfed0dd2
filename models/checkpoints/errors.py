"""What is wrong with a checkpoint."""

from __future__ import annotations

__all__ = ["CheckpointError", "ConfigurationError"]


class CheckpointError(ValueError):
    """A checkpoint directory that lacks a file, or whose content does not make the model."""


class ConfigurationError(ValueError):
    """A `config.json` with a field that is unknown, or with a value that makes no model of the family."""
