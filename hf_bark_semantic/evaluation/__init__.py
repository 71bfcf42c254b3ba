"""Measurements of tokens, words, voices and sound, with intervals, tests and a report."""
