"""What a shift is: paired statistics, verdicts, and the results and snapshots they compare."""
