"""Doors for recordings, in every supported container."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fuzz.doors.door import digest, file_door
from hf_bark_semantic.audio import AudioError, load_audio
from hf_bark_semantic.voices.provenance import Provenance, read_provenance
from sound_files import encoded, tone, with_sizes, written

SECONDS = 0.3
PHONE = {"sampling_rate": 8_000, "layout": "mono"}
BROWSER = {"sampling_rate": 48_000}


def recorded(container: str, codec: str, *, sampling_rate: int = 44_100, **options) -> bytes:
    samples = tone(SECONDS, sampling_rate)
    return encoded(container, codec, samples, sampling_rate=sampling_rate, **options)


def saved(container: str, subtype: str | None = None, sampling_rate: int = 16_000) -> bytes:
    return written(tone(SECONDS, sampling_rate), sampling_rate, container, subtype)


def labelled_wav() -> bytes:
    """A WAV file of speech by this package, with its label."""
    import io

    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 24_000, channels=1, format="WAV") as sound:
        Provenance("nano", created="2026-01-01T00:00:00Z").write_to(sound)
        sound.write(tone(SECONDS, 24_000))
    return file.getvalue()


SOUNDS: dict[str, list[Callable[[], bytes]]] = {
    "wav": [
        labelled_wav,
        *(partial(saved, "WAV", subtype) for subtype in ("PCM_U8", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM")),
        lambda: with_sizes(saved("WAV"), of_file=0, of_samples=0),
    ],
    "flac": [partial(saved, "FLAC"), partial(saved, "FLAC", "PCM_24")],
    "ogg": [partial(saved, "OGG")],
    "opus": [partial(recorded, "ogg", "libopus", **BROWSER)],
    "mp3": [partial(saved, "MP3"), lambda: bytes(300) + saved("MP3")],
    "aiff": [partial(saved, "AIFF")],
    "au": [partial(saved, "AU")],
    "caf": [partial(saved, "CAF")],
    "w64": [partial(saved, "W64")],
    "m4a": [partial(recorded, "ipod", "aac"), partial(recorded, "ipod", "alac")],
    "mp4": [partial(recorded, "mp4", "aac", movflags=flags) for flags in ("faststart", "frag_keyframe+empty_moov")],
    "mov": [partial(recorded, "mov", "pcm_s16le", **PHONE)],
    "3gp": [partial(recorded, "3gp", "libopencore_amrnb", **PHONE)],
    "amr": [partial(recorded, "amr", "libopencore_amrnb", **PHONE)],
    "aac": [partial(recorded, "adts", "aac")],
    "webm": [
        partial(recorded, "webm", "libopus", **BROWSER),
        partial(recorded, "webm", "libopus", live="1", **BROWSER),
    ],
    "mkv": [partial(recorded, "matroska", "flac")],
    "wma": [partial(recorded, "asf", "wmav2")],
}


def read_sound(path: Path) -> str:
    return digest(load_audio(path), read_provenance(path))


def all_of(makers: list[Callable[[], bytes]]) -> list[bytes]:
    return [make() for make in makers]


SHARES = {
    "wav": 300, "flac": 400, "ogg": 300, "opus": 250, "aiff": 200, "au": 250, "caf": 250, "w64": 400, "mov": 120,
    "webm": 30, "wma": 40, "mp3": 40,
}  # fmt: skip
DOORS = [
    file_door(name, partial(all_of, makers), read_sound, AudioError, SHARES.get(name, 80))
    for name, makers in SOUNDS.items()
]
