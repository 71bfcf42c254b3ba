"""Audio files like those of phones, browsers and old tools, made with the encoders of PyAV and soundfile."""

import io
import struct
import tempfile
from pathlib import Path

import av
import numpy as np
import soundfile

CHANNELS = {"mono": 1, "stereo": 2}


def tone(seconds: float = 1.0, sampling_rate: int = 44_100, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sampling_rate)) / sampling_rate)).astype("f4")


def written(samples: np.ndarray, sampling_rate: int, container: str, subtype: str | None = None) -> bytes:
    """A file by soundfile of `(num_samples,)` or `(num_samples, channels)`."""
    file = io.BytesIO()
    soundfile.write(file, samples, sampling_rate, format=container, subtype=subtype)
    return file.getvalue()


def encoded(
    container: str,
    codec: str | None,
    samples: np.ndarray | None = None,
    *,
    sampling_rate: int = 44_100,
    layout: str = "stereo",
    video: str | None = None,
    **options: str,
) -> bytes:
    """A file by PyAV, of one second unless samples `(num_samples,)` are given; `codec` None leaves audio out."""
    samples = tone(1.0, sampling_rate) if samples is None else samples
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with av.open(str(path), "w", format=container, options=options) as output:
            pictures = output.add_stream(video, rate=5, width=64, height=64) if video else None
            sound = output.add_stream(codec, rate=sampling_rate, layout=layout) if codec else None
            if codec == "wmav2":
                sound.bit_rate = 64_000
            if pictures:
                _mux_pictures(output, pictures)
            if sound and not len(samples):
                output.start_encoding()
            elif sound:
                _mux_sound(output, sound, samples, layout)
        return path.read_bytes()


def _mux_pictures(output, stream) -> None:
    for number in range(5):
        picture = av.VideoFrame(64, 64, "yuv420p")
        picture.pts = number
        output.mux(stream.encode(picture))
    output.mux(stream.encode(None))


def _mux_sound(output, stream, samples: np.ndarray, layout: str) -> None:
    rate = stream.codec_context.sample_rate
    to_codec = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)
    for start in range(0, len(samples), 1_024):
        part = np.stack([samples[start : start + 1_024]] * CHANNELS[layout])
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, start
        for converted in to_codec.resample(frame):
            output.mux(stream.encode(converted))
    for converted in to_codec.resample(None):
        output.mux(stream.encode(converted))
    output.mux(stream.encode(None))


def with_sizes(wav: bytes, *, of_file: int, of_samples: int) -> bytes:
    """A WAV whose header says these sizes."""
    data = wav.index(b"data") + 4
    return wav[:4] + struct.pack("<I", of_file) + wav[8:data] + struct.pack("<I", of_samples) + wav[data + 4 :]
