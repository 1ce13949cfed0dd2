"""The list of fixture plugins, nothing else."""

pytest_plugins = [
    "fixtures.devices",
    "fixtures.options",
    "fixtures.matrix",
    "fixtures.preflight",
    "fixtures.scheduling",
    "fixtures.models",
    "fixtures.progress",
    "fixtures.cell_results",
    "fixtures.accuracy_snapshots",
    "fixtures.summary",
]
