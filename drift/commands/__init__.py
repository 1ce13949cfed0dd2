"""The commands of `python -m drift`."""
