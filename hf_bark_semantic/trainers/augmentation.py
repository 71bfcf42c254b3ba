"""Augmentation: changes of a recording that do not change its tokens.

WaveformAugmentation      noise, reverberation, gain and band limits, for the waveform of a crop
SpectrogramAugmentation   vocal-tract perturbation, and time and frequency masks, for log-mel spectrograms, which
                          are computed from audio or predicted from codes
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..configuration_bark_semantic import SAMPLING_RATE


@dataclass(frozen=True)
class WaveformAugmentation:
    """Called with a waveform `(num_samples,)` at 16 kHz and a `np.random.Generator`, returns one of the same length.

    Args:
        noises (`Sequence[np.ndarray]`), rooms (`Sequence[np.ndarray]`): recordings of noise and impulse responses of
            rooms, 16 kHz.
        noise_probability, room_probability, band_probability (`float`): the probability of each change.
        gain_db (`float`): largest change of the level, up or down.
        snr_db (`tuple[float, float]`): range of the signal-to-noise ratio.
    """

    noises: Sequence[np.ndarray] = ()
    rooms: Sequence[np.ndarray] = ()
    noise_probability: float = 0.3
    room_probability: float = 0.15
    band_probability: float = 0.15
    gain_db: float = 6.0
    snr_db: tuple[float, float] = (5.0, 30.0)

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.rooms and rng.random() < self.room_probability:
            waveform = reverberate(waveform, self.rooms[rng.integers(len(self.rooms))])
        if rng.random() < self.band_probability:
            waveform = limit_band(waveform, rng.uniform(0, 200), rng.uniform(3_000, 7_500))
        if self.noises and rng.random() < self.noise_probability:
            noise = self.noises[rng.integers(len(self.noises))]
            start = rng.integers(max(1, len(noise) - len(waveform)))
            waveform = add_noise(waveform, np.resize(noise[start:], len(waveform)), rng.uniform(*self.snr_db))
        return (waveform * 10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20)).astype(np.float32)


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise `(num_samples,)` at a signal-to-noise ratio of `snr_db`."""
    power, noise_power = np.mean(waveform**2), np.mean(noise**2) + 1e-12
    return waveform + noise * math.sqrt(power / noise_power / 10 ** (snr_db / 10))


def reverberate(waveform: np.ndarray, impulse_response: np.ndarray) -> np.ndarray:
    """Add the reverberation of a room, without changing the delay of the direct sound or the level."""
    impulse_response = impulse_response[np.argmax(np.abs(impulse_response)) :]
    size = len(waveform) + len(impulse_response) - 1
    wet = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(impulse_response, size), size)[: len(waveform)]
    return wet * math.sqrt(np.mean(waveform**2) / (np.mean(wet**2) + 1e-12))


def limit_band(waveform: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Keep the frequencies between two limits; the filter's edges are 10 % wide."""
    spectrum = np.fft.rfft(waveform)
    frequency = np.fft.rfftfreq(len(waveform), 1 / SAMPLING_RATE)
    keep = 1 / (1 + (frequency / high_hz) ** 20) * (1 - 1 / (1 + (frequency / max(low_hz, 1.0)) ** 20))
    return np.fft.irfft(spectrum * keep, len(waveform))


class SpectrogramAugmentation(nn.Module):
    """Called with log-mel spectrograms `(batch, columns, bins)`, returns augmented ones of the same shape.

    Args:
        warp_probability (`float`), warp_range (`tuple[float, float]`): probability of vocal-tract length perturbation,
            and range of the factors by which it scales frequencies.
        time_masks (`int`), time_width (`int`), frequency_masks (`int`), frequency_width (`int`): SpecAugment
            (arXiv:1904.08779): number of masks and their largest width, in columns and bins.
    """

    def __init__(
        self,
        warp_probability: float = 0.7,
        warp_range: tuple[float, float] = (0.87, 1.15),
        time_masks: int = 2,
        time_width: int = 24,
        frequency_masks: int = 2,
        frequency_width: int = 12,
    ):
        super().__init__()
        self.warp_probability, self.warp_range = warp_probability, warp_range
        self.time_masks, self.time_width = time_masks, time_width
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        if self.warp_probability:
            spectrogram = self._warp(spectrogram)
        batch, columns, bins = spectrogram.shape
        fill = spectrogram.mean(dim=(1, 2), keepdim=True)
        hidden = torch.zeros(batch, columns, bins, dtype=torch.bool, device=spectrogram.device)
        for _ in range(self.time_masks):
            hidden |= _random_span(batch, columns, self.time_width, spectrogram.device)[:, :, None]
        for _ in range(self.frequency_masks):
            hidden |= _random_span(batch, bins, self.frequency_width, spectrogram.device)[:, None, :]
        return torch.where(hidden, fill, spectrogram)

    def _warp(self, spectrogram):
        """Scale the frequencies, to imitate a vocal tract of another length."""
        batch, columns, bins = spectrogram.shape
        low, high = (math.log(factor) for factor in self.warp_range)
        factor = torch.empty(batch, 1).uniform_(low, high).exp()
        factor = torch.where(torch.rand(batch, 1) < self.warp_probability, factor, 1.0)
        position = _hz_to_bin(_bin_to_hz(torch.arange(bins).float(), bins)[None] * factor, bins).clamp(0, bins - 1)
        position = position.to(spectrogram.device)
        left = position.floor().long()
        right = (left + 1).clamp(max=bins - 1)
        part = (position - left).to(spectrogram.dtype)[:, None]
        left, right = (spectrogram.gather(2, i[:, None].expand(-1, columns, -1)) for i in (left, right))
        return left * (1 - part) + right * part


def _random_span(batch, length, max_width, device):
    width = torch.randint(0, min(max_width, length) + 1, (batch, 1))
    start = (torch.rand(batch, 1) * (length - width + 1)).long()
    position = torch.arange(length)[None]
    return ((position >= start) & (position < start + width)).to(device)


_LINEAR_MELS, _LINEAR_HZ, _LOG_STEP = 15.0, 1_000.0, math.log(6.4) / 27  # Slaney's mel scale, as Whisper's


def _bin_to_hz(position, num_bins, max_hz=8_000.0):
    step = (_LINEAR_MELS + math.log(max_hz / _LINEAR_HZ) / _LOG_STEP) / (num_bins + 1)
    mels = (position + 1) * step
    return torch.where(mels < _LINEAR_MELS, mels * 200 / 3, _LINEAR_HZ * torch.exp((mels - _LINEAR_MELS) * _LOG_STEP))


def _hz_to_bin(hz, num_bins, max_hz=8_000.0):
    step = (_LINEAR_MELS + math.log(max_hz / _LINEAR_HZ) / _LOG_STEP) / (num_bins + 1)
    above = _LINEAR_MELS + torch.log(hz.clamp(min=_LINEAR_HZ) / _LINEAR_HZ) / _LOG_STEP
    return torch.where(hz < _LINEAR_HZ, hz * 3 / 200, above) / step - 1
