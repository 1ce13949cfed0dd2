"""Corpora: essays, questions with their documents, and words; embedded or real."""
