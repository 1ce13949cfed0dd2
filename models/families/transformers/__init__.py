"""Any other causal language model of transformers."""
