"""Make more voices from a few: the same speech with another pitch, other formants and another spectral colour.

Praat's overlap-add changes pitch and formants independently, and a smooth random filter changes the spectral colour.
Needs `pip install praat-parselmouth`.
"""

import zlib
from dataclasses import dataclass

import numpy as np

PITCH_HZ = (60.0, 500.0)  # Praat's range for the pitch
KNOTS_HZ = np.geomspace(80, 12_000, 8)


@dataclass(frozen=True)
class Timbre:
    """The changes of a voice.

    Args:
        formants (`float`): factor of the formants.
        pitch (`float`): factor of the median pitch.
        pitch_range (`float`): factor of the pitch range.
        colour_db (`np.ndarray` of shape `(8,)`): gain at `KNOTS_HZ`, in dB.
    """

    formants: float
    pitch: float
    pitch_range: float
    colour_db: np.ndarray

    @classmethod
    def of(cls, voice: str) -> "Timbre":
        """The timbre for a name, always the same. Pitch and formants rise together, as from a man to a child."""
        rng = np.random.default_rng(zlib.crc32(voice.encode()))
        formants = np.exp(rng.choice([-1, 1]) * rng.uniform(0.06, 0.18))
        pitch = formants**1.5 * np.exp(rng.normal(0, 0.2))
        return cls(formants, pitch, np.exp(rng.normal(0, 0.2)), rng.normal(0, 4.0, len(KNOTS_HZ)))


def revoiced(waveform: np.ndarray, timbre: Timbre, sampling_rate: int) -> np.ndarray:
    """Change the voice of a waveform, but not its length.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`): mono.
        timbre (`Timbre`): the other voice.
        sampling_rate (`int`): in Hz.

    Returns:
        `np.ndarray` of shape `(num_samples,)`: float32.

    Raises:
        ValueError: Praat finds no pitch, or fails.
    """
    import parselmouth
    from parselmouth.praat import call

    sound = parselmouth.Sound(waveform.astype(np.float64), sampling_rate)
    voiced = sound.to_pitch(None, *PITCH_HZ).selected_array["frequency"]
    if not voiced.any():
        raise ValueError("Praat finds no pitch in this waveform, so it cannot be revoiced.")
    pitch = float(np.median(voiced[voiced > 0])) * timbre.pitch
    try:
        changed = call(sound, "Change gender", *PITCH_HZ, timbre.formants, pitch, timbre.pitch_range, 1.0).values[0]
    except parselmouth.PraatError as error:
        raise ValueError("Praat cannot revoice this waveform; leave it out.") from error
    spectrum = np.fft.rfft(changed, len(waveform))
    frequencies = np.fft.rfftfreq(len(waveform), 1 / sampling_rate)
    gain_db = np.interp(np.log(frequencies.clip(1)), np.log(KNOTS_HZ), timbre.colour_db)
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(waveform)).astype(np.float32)
