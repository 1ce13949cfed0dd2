"""Greedy decoding: batches, prefixes, drafts, steps."""
