"""From a seed to an example: prompts, references and scoring, without torch or pytest."""
