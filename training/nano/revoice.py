"""More voices out of few: the same speech with other pitch, formants and colour.

Praat's overlap-add moves pitch and formants apart from each other, and a smooth random filter gives each voice a
colour of its own. Needs `pip install praat-parselmouth`.
"""

import zlib
from dataclasses import dataclass

import numpy as np

PITCH_HZ = (60.0, 500.0)  # where Praat looks for the pitch of speech
KNOTS_HZ = np.geomspace(80, 12_000, 8)


@dataclass(frozen=True)
class Timbre:
    """What a voice is changed by.

    Args:
        formants (`float`): ratio by which formants rise.
        pitch (`float`): ratio by which the median of the pitch rises.
        pitch_range (`float`): ratio by which the pitch moves more.
        colour_db (`np.ndarray` of shape `(8,)`): gain at `KNOTS_HZ`, in dB.
    """

    formants: float
    pitch: float
    pitch_range: float
    colour_db: np.ndarray

    @classmethod
    def of(cls, voice: str) -> "Timbre":
        """Always the same one for a name. Pitch rises with the formants, as it does from man to child."""
        rng = np.random.default_rng(zlib.crc32(voice.encode()))
        formants = np.exp(rng.choice([-1, 1]) * rng.uniform(0.06, 0.18))
        pitch = formants**1.5 * np.exp(rng.normal(0, 0.2))
        return cls(formants, pitch, np.exp(rng.normal(0, 0.2)), rng.normal(0, 4.0, len(KNOTS_HZ)))


def revoiced(waveform: np.ndarray, timbre: Timbre, sampling_rate: int) -> np.ndarray:
    """Speak in another voice, as long as before.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`): mono.
        timbre (`Timbre`): the other voice.
        sampling_rate (`int`): in Hz.

    Returns:
        `np.ndarray` of shape `(num_samples,)`: float32.

    Raises:
        ValueError: Praat finds no voice in it, or fails.
    """
    import parselmouth
    from parselmouth.praat import call

    sound = parselmouth.Sound(waveform.astype(np.float64), sampling_rate)
    voiced = sound.to_pitch(None, *PITCH_HZ).selected_array["frequency"]
    if not voiced.any():
        raise ValueError("Praat finds no pitch in this waveform; a revoiced one has to have some.")
    pitch = float(np.median(voiced[voiced > 0])) * timbre.pitch
    try:
        changed = call(sound, "Change gender", *PITCH_HZ, timbre.formants, pitch, timbre.pitch_range, 1.0).values[0]
    except parselmouth.PraatError as error:
        raise ValueError("Praat cannot give this waveform another voice; leave it out.") from error
    spectrum = np.fft.rfft(changed, len(waveform))
    frequencies = np.fft.rfftfreq(len(waveform), 1 / sampling_rate)
    gain_db = np.interp(np.log(frequencies.clip(1)), np.log(KNOTS_HZ), timbre.colour_db)
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(waveform)).astype(np.float32)
