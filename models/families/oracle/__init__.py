"""Models that answer by reading their prompt."""
