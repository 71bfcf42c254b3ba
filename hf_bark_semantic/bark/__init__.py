"""Suno's Bark over transformers' own `BarkModel`: its configs, inputs, stages, synthesis, losses and adapters."""
