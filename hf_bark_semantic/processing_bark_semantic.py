"""Checks waveforms and audio codes, and pads them on the right to the encoder's inputs.

BarkSemanticEncoderProcessor          recordings and codes -> inputs of the model
DataCollatorForBarkSemanticEncoder    rows of a dataset -> a batch with labels, for transformers' Trainer
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin, SequenceFeatureExtractor, Wav2Vec2FeatureExtractor

from .configuration_bark_semantic import (
    CODEBOOK_SIZE,
    CODEC_RATE_HZ,
    NUM_CODEBOOKS,
    SAMPLING_RATE,
    num_semantic_tokens,
    num_semantic_tokens_of_samples,
)

ARGUMENTS = ("audio", "sampling_rate", "audio_codes", "padding", "max_length", "truncation", "return_tensors")


class BarkSemanticEncoderProcessor(ProcessorMixin):
    """Prepares inputs of a [`BarkSemanticEncoderModel`].

    ```python
    processor = BarkSemanticEncoderProcessor()
    inputs = processor([waveform, waveform[:16_000]], sampling_rate=16_000)
    inputs["input_values"]  # float32 (2, num_samples); `attention_mask` is 0 on padding
    ```

    Args:
        feature_extractor (`Wav2Vec2FeatureExtractor`, *optional*): pads waveforms, and normalizes them to zero mean
            and unit variance if its `do_normalize` is set, which is not the default.
        codebook_size (`int`): the id for an unknown or padded code.
    """

    def __init__(self, feature_extractor=None, codebook_size=CODEBOOK_SIZE, **kwargs):
        if feature_extractor is None:
            feature_extractor = Wav2Vec2FeatureExtractor(
                sampling_rate=SAMPLING_RATE, do_normalize=False, return_attention_mask=True
            )
        self.codebook_size = codebook_size
        super().__init__(feature_extractor, **kwargs)

    def __call__(
        self,
        audio=None,
        sampling_rate=None,
        audio_codes=None,
        *,
        padding=True,
        max_length=None,
        truncation=False,
        return_tensors="pt",
        **unknown,
    ) -> BatchFeature:
        """Return `input_values` and `attention_mask`, `audio_codes` and `audio_codes_mask`, or all four.

        Args:
            audio (`np.ndarray`, `torch.Tensor` or a list of them, *optional*): mono waveforms `(samples,)`, 16 kHz.
            sampling_rate (`int`, *optional*): of `audio`, in Hz. It is only checked: use `load_audio` to resample.
            audio_codes (`np.ndarray`, `torch.Tensor` or a list of them, *optional*): EnCodec codes
                `(codebooks, frames)` at 75 Hz.
            padding (`bool` or `str`): `True` or `"longest"`, `"max_length"`, or `False`; as in transformers.
            max_length (`int`, *optional*): length in samples at 16 kHz for `truncation` and `padding="max_length"`.
                Codes are cut and padded to the frames of that length; the last frame may extend beyond it.
            truncation (`bool`): cut inputs that are longer than `max_length`.
            return_tensors (`str`, *optional*): `"pt"`, `"np"`, or `None` for lists of arrays.

        Returns:
            `BatchFeature`: float32 `input_values` `(batch, num_samples)`, int64 `audio_codes` `(batch, codebooks,
            num_frames)`, and their masks, 0 on padding.

        Raises:
            TypeError: an argument of another name.
            ValueError: no input; a wrong sampling rate, shape or range; or rows of different lengths, without padding,
                as one tensor.
        """
        if unknown:
            raise TypeError(_unknown_argument(next(iter(unknown))))
        if audio is None and audio_codes is None:
            raise ValueError("Pass `audio` (waveforms at 16 kHz), `audio_codes` (EnCodec codes), or both.")
        if max_length is not None and (not isinstance(max_length, int) or max_length < 1):
            raise ValueError(f"`max_length` is {max_length!r}; it must be a number of samples at 16 kHz, 1 or more.")
        options = {"padding": padding, "truncation": truncation, "return_attention_mask": True}
        inputs = {}
        if audio is not None:
            if sampling_rate is not None and sampling_rate != SAMPLING_RATE:
                raise ValueError(
                    f"The audio has {sampling_rate} Hz; the encoder reads {SAMPLING_RATE} Hz. Load the file with "
                    f"`hf_bark_semantic.load_audio(path, {SAMPLING_RATE})`, or resample it."
                )
            waveforms = [_waveform(item) for item in _as_list(audio, 1)]
            inputs.update(
                self.feature_extractor(waveforms, sampling_rate=SAMPLING_RATE, max_length=max_length, **options)
            )
        if audio_codes is not None:
            max_frames = None if max_length is None else -(-max_length * CODEC_RATE_HZ // SAMPLING_RATE)
            rows = [_codes(item) for item in _as_list(audio_codes, 2)]
            inputs.update(self._pad_codes(rows, max_length=max_frames, **options))
        return BatchFeature(inputs, tensor_type=return_tensors)

    def _pad_codes(self, rows, **options):
        num_codebooks = max(len(row) for row in rows)
        columns = []  # time first, as transformers pads: (frames, codebooks)
        for row in rows:
            if row.min() < 0 or row.max() > self.codebook_size:
                raise ValueError(
                    f"Audio codes run from {int(row.min())} to {int(row.max())}; they must be 0 to "
                    f"{self.codebook_size - 1}, or {self.codebook_size} where a code is unknown."
                )
            missing = ((0, 0), (0, num_codebooks - len(row)))
            columns.append(np.pad(row.T, missing, constant_values=self.codebook_size))
        padder = SequenceFeatureExtractor(2, CODEC_RATE_HZ, padding_value=self.codebook_size)  # 2: any but one
        padder.model_input_names = ["audio_codes"]
        padded = padder.pad({"audio_codes": columns}, **options)
        codes, mask = padded["audio_codes"], padded["attention_mask"]
        return {"audio_codes": [frames.T for frames in codes], "audio_codes_mask": list(mask)}

    @property
    def model_input_names(self):
        """Names of the inputs that the processor prepares."""
        return ["input_values", "attention_mask", "audio_codes", "audio_codes_mask"]


@dataclass
class DataCollatorForBarkSemanticEncoder:
    """Pads the rows of a dataset to a batch: `Trainer(data_collator=...)`, `DataLoader(collate_fn=...)`.

    ```python
    from torch.utils.data import DataLoader

    rows = [{"input_values": waveform, "labels": semantic_tokens}]
    batches = DataLoader(rows, batch_size=1, collate_fn=DataCollatorForBarkSemanticEncoder(processor))
    loss = model(**next(iter(batches))).loss
    ```

    A row has the inputs of [`BarkSemanticEncoderModel.forward`] by the same names, without padding: `input_values`
    `(num_samples,)`, mono at 16 kHz, or `audio_codes` `(codebooks, frames)`, or both. `labels` `(num_tokens,)` are
    Bark's tokens of the recording, -100 to ignore one. All rows of a dataset must have the same keys.

    Args:
        processor ([`BarkSemanticEncoderProcessor`]): checks and pads waveforms and codes.

    Raises:
        ValueError: some rows have other inputs than the rest, or a row does not have one label per token of its
            recording.
    """

    processor: BarkSemanticEncoderProcessor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """One batch of rows: the tensors that [`BarkSemanticEncoderModel.forward`] takes.

        Raises:
            ValueError: as the class says.
        """
        names = {"input_values", "audio_codes", "labels"}
        kinds = {frozenset(names & row.keys()) for row in rows}
        if len(kinds) > 1:
            described = " and others ".join(sorted(" and ".join(sorted(kind)) or "none" for kind in kinds))
            raise ValueError(f"Some rows have {described}; all rows of a batch must have the same inputs.")
        columns = {name: [row[name] for row in rows] for name in kinds.pop()}
        inputs = self.processor(columns.get("input_values"), audio_codes=columns.get("audio_codes"))
        if "labels" not in columns:
            return dict(inputs)
        counts = []  # tokens of each row, by kind of input
        if "input_values" in columns:
            counts.append([num_semantic_tokens_of_samples(len(row)) for row in columns["input_values"]])
        if "audio_codes" in columns:
            counts.append([num_semantic_tokens(len(row[0])) for row in columns["audio_codes"]])
        counts = [min(row) for row in zip(*counts, strict=True)]
        labels = torch.full((len(rows), max(counts)), -100)
        for i, (row, count) in enumerate(zip(columns["labels"], counts, strict=True)):
            if len(row) != count:
                raise ValueError(
                    f"Row {i} of the batch has {len(row)} labels, but a recording of its length has {count} tokens "
                    "(`num_semantic_tokens_of_samples`). Cut both to the same time."
                )
            labels[i, :count] = torch.as_tensor(row)
        return {**inputs, "labels": labels}


def _unknown_argument(name: str) -> str:
    nearest = difflib.get_close_matches(name, ARGUMENTS, 1)
    hint = f"Did you mean `{nearest[0]}`?" if nearest else f"Its arguments are {', '.join(ARGUMENTS)}."
    return f"The processor has no argument `{name}`. {hint}"


def _as_list(values, ndim: int) -> list:
    """A list of items of `ndim` dimensions, made from one item, a batched array or a list."""
    if isinstance(values, (np.ndarray, torch.Tensor)) and values.ndim == ndim + 1:
        return list(values)
    if isinstance(values, (list, tuple)) and len(values) and not np.isscalar(values[0]):
        return list(values)
    return [values]


def _waveform(values) -> np.ndarray:
    waveform = values.detach().cpu().float().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if waveform.ndim != 1 or waveform.dtype.kind != "f" or not len(waveform):
        raise ValueError(
            f"A waveform has shape {waveform.shape} and type {waveform.dtype}; it must have shape (samples,) and "
            "floating-point numbers. Average the channels of stereo audio; divide 16-bit integers by 32768."
        )
    if not np.isfinite(waveform).all():
        raise ValueError("A waveform contains NaN or infinity. Check how it was made.")
    return waveform.astype(np.float32, copy=False)


def _codes(values) -> np.ndarray:
    codes = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if codes.ndim != 2 or codes.dtype.kind not in "iu" or not 1 <= len(codes) <= NUM_CODEBOOKS or not codes.shape[1]:
        raise ValueError(
            f"Audio codes have shape {codes.shape} and type {codes.dtype}; they must be whole numbers of shape "
            f"(codebooks, frames), with 1 to {NUM_CODEBOOKS} codebooks."
        )
    return codes.astype(np.int64)


__all__ = ["BarkSemanticEncoderProcessor", "DataCollatorForBarkSemanticEncoder"]
