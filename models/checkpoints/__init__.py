"""Checkpoint directories."""
