"""Voices: recordings become voice prompts, and voice prompts become speech."""
