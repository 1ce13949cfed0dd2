"""RULER's tasks: one file a task, and their registry."""
