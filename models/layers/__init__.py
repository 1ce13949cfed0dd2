"""Layers that families share, and kernels."""
