"""Measurements of tokens, words, voices and audio quality, with confidence intervals, tests and a report."""
