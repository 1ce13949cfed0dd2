"""The list of fixture plugins, nothing else."""

pytest_plugins = [
    "fixtures.devices",
    "fixtures.replayed_examples",
    "fixtures.options",
    "fixtures.matrix",
    "fixtures.scheduling",
    "fixtures.accuracy_snapshots",
    "fixtures.run_files",
    "fixtures.preflight",
    "fixtures.models",
    "fixtures.live_progress",
    "fixtures.cell_results",
    "fixtures.night",
    "fixtures.header",
    "fixtures.orphans",
    "suites.support.equality_table",
]
