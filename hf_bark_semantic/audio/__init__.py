"""Waveforms: read from anywhere, resampled, written."""

from .loading import (
    AUDIO_EXTENSIONS,
    MIN_DURATION_S,
    SAVED_FORMATS,
    SILENCE_PEAK,
    AudioError,
    is_silent,
    list_audio_files,
    load_audio,
    open_sound,
    resample,
    save_audio,
)

__all__ = [
    "AUDIO_EXTENSIONS",
    "MIN_DURATION_S",
    "SAVED_FORMATS",
    "SILENCE_PEAK",
    "AudioError",
    "is_silent",
    "list_audio_files",
    "load_audio",
    "open_sound",
    "resample",
    "save_audio",
]
