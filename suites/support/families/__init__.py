"""Tiny models, one file a family."""
