"""Other people's checkpoints as Transformers models."""
