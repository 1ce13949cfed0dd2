"""Mamba2, Mamba2 with attention, Transformer++."""
