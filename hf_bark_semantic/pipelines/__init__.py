"""transformers pipelines: recordings to semantic tokens, and voices to speech."""
