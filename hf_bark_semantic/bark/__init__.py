"""Suno's Bark, on transformers' `BarkModel`: configs, inputs, stages, synthesis, losses and adapters."""
