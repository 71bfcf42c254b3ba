"""Voices: voice prompts from recordings, and speech from voice prompts."""
