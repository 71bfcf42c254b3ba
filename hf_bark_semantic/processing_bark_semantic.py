"""Waveforms and audio codes to the encoder's inputs: checked, and padded on the right."""

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin, Wav2Vec2FeatureExtractor

from .configuration_bark_semantic import CODEBOOK_SIZE, NUM_CODEBOOKS, SAMPLING_RATE


class BarkSemanticEncoderProcessor(ProcessorMixin):
    """Prepares inputs of a [`BarkSemanticEncoderModel`].

    Args:
        feature_extractor (`Wav2Vec2FeatureExtractor`, *optional*): pads waveforms, and normalizes them to zero mean
            and unit variance if its `do_normalize` says so. By default it doesn't.
        codebook_size (`int`): the id that stands for an unknown or padded code.
    """

    def __init__(self, feature_extractor=None, codebook_size=CODEBOOK_SIZE, **kwargs):
        if feature_extractor is None:
            feature_extractor = Wav2Vec2FeatureExtractor(
                sampling_rate=SAMPLING_RATE, do_normalize=False, return_attention_mask=True
            )
        self.codebook_size = codebook_size
        super().__init__(feature_extractor, **kwargs)

    def __call__(self, audio=None, sampling_rate=None, audio_codes=None, **kwargs) -> BatchFeature:
        """Give `input_values` and `attention_mask`, `audio_codes` and `audio_codes_mask`, or all four.

        Args:
            audio (`np.ndarray`, `torch.Tensor` or a list of them, *optional*): mono waveforms `(samples,)`, 16 kHz.
            sampling_rate (`int`, *optional*): of `audio`; checked, not converted: see `hf_bark_semantic.load_audio`.
            audio_codes (`np.ndarray`, `torch.Tensor` or a list of them, *optional*): EnCodec codes
                `(codebooks, frames)` at 75 Hz.

        Raises:
            ValueError: nothing was given, a wrong sampling rate, shape or range.
        """
        if audio is None and audio_codes is None:
            raise ValueError("Give `audio` (waveforms at 16 kHz), `audio_codes` (EnCodec codes), or both.")
        inputs = {}
        if audio is not None:
            if sampling_rate is not None and sampling_rate != SAMPLING_RATE:
                raise ValueError(
                    f"The audio has {sampling_rate} Hz; the encoder reads {SAMPLING_RATE} Hz. Load it with "
                    f"`hf_bark_semantic.load_audio(path, {SAMPLING_RATE})`, or resample it."
                )
            waveforms = [_waveform(item) for item in _as_list(audio, 1)]
            inputs.update(
                self.feature_extractor(
                    waveforms,
                    sampling_rate=SAMPLING_RATE,
                    padding=True,
                    return_attention_mask=True,
                    return_tensors="pt",
                )
            )
        if audio_codes is not None:
            inputs.update(self._pad_codes([_codes(item) for item in _as_list(audio_codes, 2)]))
        return BatchFeature(inputs)

    def _pad_codes(self, rows):
        num_codebooks, longest = max(len(row) for row in rows), max(row.shape[1] for row in rows)
        codes = torch.full((len(rows), num_codebooks, longest), self.codebook_size)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for i, row in enumerate(rows):
            if row.min() < 0 or row.max() > self.codebook_size:
                raise ValueError(
                    f"Audio codes run from {int(row.min())} to {int(row.max())}; they must be 0 to "
                    f"{self.codebook_size - 1}, or {self.codebook_size} where a code is unknown."
                )
            codes[i, : len(row), : row.shape[1]] = row
            mask[i, : row.shape[1]] = 1
        return {"audio_codes": codes, "audio_codes_mask": mask}

    @property
    def model_input_names(self):
        return ["input_values", "attention_mask", "audio_codes", "audio_codes_mask"]


def _as_list(values, ndim: int) -> list:
    """A list of items with `ndim` dimensions from one item, a batched array or a list."""
    if isinstance(values, (np.ndarray, torch.Tensor)) and values.ndim == ndim + 1:
        return list(values)
    if isinstance(values, (list, tuple)) and len(values) and not np.isscalar(values[0]):
        return list(values)
    return [values]


def _waveform(values) -> np.ndarray:
    waveform = values.detach().cpu().float().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if waveform.ndim != 1 or waveform.dtype.kind != "f" or not len(waveform):
        raise ValueError(
            f"A waveform has shape {waveform.shape} and type {waveform.dtype}; it must be (samples,) of "
            "floating-point numbers. Average the channels of stereo audio; divide 16-bit integers by 32768."
        )
    if not np.isfinite(waveform).all():
        raise ValueError("A waveform holds NaN or infinity; check how it was made.")
    return waveform.astype(np.float32, copy=False)


def _codes(values) -> torch.Tensor:
    codes = torch.as_tensor(np.asarray(values).astype(np.int64) if _is_integer_array(values) else values)
    if codes.ndim != 2 or codes.is_floating_point() or not 1 <= len(codes) <= NUM_CODEBOOKS or not codes.shape[1]:
        raise ValueError(
            f"Audio codes have shape {tuple(codes.shape)} and type {codes.dtype}; they must be whole numbers of shape "
            f"(codebooks, frames), with 1 to {NUM_CODEBOOKS} codebooks."
        )
    return codes.long()


def _is_integer_array(values) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "iu"  # torch has no uint16 arithmetic


__all__ = ["BarkSemanticEncoderProcessor"]
