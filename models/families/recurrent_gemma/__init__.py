"""RecurrentGemma (Griffin)."""
