"""Known defects of other implementations of the state-spaces family that its models can take on."""

from __future__ import annotations

from typing import Final

__all__ = ["CONVOLVED_HISTORY"]

# mamba-ssm's attention keeps what its convolution made of a prompt where it should keep the
# convolution's inputs, so that its decoding differs from its own full forward (its pull request 1027).
CONVOLVED_HISTORY: Final = "mamba-ssm#1027"
