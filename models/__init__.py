"""Torch side: checkpoint formats, model families and batched greedy decoding."""
