"""The list of fixture plugins, nothing else."""

pytest_plugins = [
    "fixtures.devices",
    "fixtures.chosen_examples",
    "fixtures.options",
    "fixtures.matrix",
    "fixtures.preflight",
    "fixtures.scheduling",
    "fixtures.models",
    "fixtures.progress",
    "fixtures.cell_results",
    "fixtures.pooled_verdicts",
    "fixtures.early_warnings",
    "fixtures.acceptances",
    "fixtures.accuracy_snapshots",
    "fixtures.orphans",
    "fixtures.history",
    "fixtures.alerts",
    "fixtures.summary",
    "suites.support.equality_table",
]
