"""Read waveforms from many sources, resample and write them."""

from .decoding import AudioError, open_sound
from .loading import (
    AUDIO_EXTENSIONS,
    MIN_DURATION_S,
    SAVED_FORMATS,
    SILENCE_PEAK,
    UNREADABLE_EXTENSIONS,
    LongRecording,
    is_silent,
    list_audio_files,
    load_audio,
    read_audio,
    resample,
    save_audio,
    unread_files,
    within_full_scale,
)
from .streaming import wav_header, wav_samples

__all__ = [
    "AUDIO_EXTENSIONS",
    "MIN_DURATION_S",
    "SAVED_FORMATS",
    "SILENCE_PEAK",
    "UNREADABLE_EXTENSIONS",
    "AudioError",
    "LongRecording",
    "is_silent",
    "list_audio_files",
    "load_audio",
    "open_sound",
    "read_audio",
    "resample",
    "save_audio",
    "unread_files",
    "wav_header",
    "wav_samples",
    "within_full_scale",
]
