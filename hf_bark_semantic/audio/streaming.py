"""Write a WAV of unknown length to a stream that cannot be rewound, such as a pipe.

wav_header     the header, with sizes of ffffffff, which players and `load_audio` interpret as "to the end"
wav_samples    16-bit samples, which every player supports, for each part
"""

import io
from typing import TYPE_CHECKING

import numpy as np
import soundfile

if TYPE_CHECKING:
    from .loading import FileNote

UNKNOWN_SIZE = b"\xff\xff\xff\xff"
_SUBTYPE = "PCM_16"


def wav_header(sampling_rate: int, *, provenance: "FileNote | None" = None) -> bytes:
    """The bytes before the samples of one channel.

    Args:
        sampling_rate (`int`): in Hz.
        provenance (`Provenance`, *optional*): the label of the file.
    """
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", sampling_rate, channels=1, format="WAV", subtype=_SUBTYPE) as sound:
        if provenance is not None:
            provenance.write_to(sound)
    header = file.getvalue()  # "RIFF", size, ..., "data", size
    return header[:4] + UNKNOWN_SIZE + header[8:-4] + UNKNOWN_SIZE


def wav_samples(waveform: np.ndarray) -> bytes:
    """A waveform, `(num_samples,)` with full scale at 1.0, as 16-bit samples; louder samples are clipped."""
    file = io.BytesIO()
    soundfile.write(file, waveform, 1, format="RAW", subtype=_SUBTYPE, endian="LITTLE")
    return file.getvalue()


__all__ = ["wav_header", "wav_samples"]
