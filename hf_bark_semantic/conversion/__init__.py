"""Checkpoints of other programs as Transformers models."""
