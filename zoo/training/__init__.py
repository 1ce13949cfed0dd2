"""Trains pocket models on the project's own generators."""
