"""Models that a server decodes."""
