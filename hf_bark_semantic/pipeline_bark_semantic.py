"""`pipeline("audio-to-bark-semantic")` for users who have only transformers. It is published with the encoder.

The package's own pipeline, [`AudioToBarkSemanticPipeline`], is built on it and reads more formats. This module
recognizes the inputs and groups recordings into batches; `BarkSemanticEncoderModel.encode` cuts the windows.
"""

import base64
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import Pipeline
from transformers.audio_utils import load_audio
from transformers.pipelines.pt_utils import KeyDataset

from .configuration_bark_semantic import CODEC_RATE_HZ, SAMPLING_RATE, BarkSemanticEncoderConfig

TASK = "audio-to-bark-semantic"


class BarkSemanticEncoderPipeline(Pipeline):
    """Encodes recordings, EnCodec codes, or both to Bark's semantic tokens.

    ```python
    from transformers import pipeline

    encode = pipeline("audio-to-bark-semantic", model="hub-id", trust_remote_code=True)
    tokens = encode("speech.wav")["semantic_tokens"]
    ```

    Args:
        model (`BarkSemanticEncoderModel`), processor (`BarkSemanticEncoderProcessor`): the encoder.
        batch_size (`int`, *optional*): number of recordings, and of windows of long recordings, that are computed at
            once. By default 1 recording, and 8 windows, or 1 on a CPU.
        device, dtype, top_k: as in [`~BarkSemanticEncoderPipeline.__call__`] and in transformers' `pipeline`.

    Raises:
        TypeError: the model is not a [`BarkSemanticEncoderModel`].
    """

    _load_processor: bool | None = True
    _load_feature_extractor = False
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, model, processor, **kwargs):
        check_encodes(model)
        super().__init__(model=model.eval(), processor=processor, **kwargs)

    def __call__(self, inputs: Any, *, batch_size: int | None = None, **kwargs) -> dict | list[dict] | Iterator[dict]:
        """Encode one input, or many.

        Args:
            inputs: one of the following, or a list, tuple, generator, `torch` or `datasets` dataset of them.
                A recording: a path or URL, the content of a file, an array, or one of the dicts of `datasets`,
                `{"array", "sampling_rate"}`, `{"bytes"}` or `{"path"}`.
                A dict or dataset row with `"audio"`, `"audio_codes"` or both; the codes are EnCodec's, `(codebooks,
                frames)` at 75 Hz.
            source_sampling_rate (`int`, *optional*): rate in Hz of arrays without one; files have their own.
            top_k (`int`, *optional*): also return the `top_k` most probable tokens.
            batch_size (`int`, *optional*): see the class.
            on_tokens (`Callable[[int], Any]`, *optional*): called every few windows with the number of newly finished
                tokens. An exception that it raises ends the call.

        Returns:
            One `dict` per input; a list for lists and tuples, an iterator for generators and datasets. Its entries are
            `semantic_tokens` (int64 `(num_tokens,)`), `confidence` (float32 `(num_tokens,)`: their probabilities),
            `num_tokens` and `seconds` (of the input). With `top_k`, it also has `top_k_tokens` and
            `top_k_confidence`, both `(num_tokens, top_k)`, best first.

        Raises:
            ValueError: an input is invalid, the encoder cannot read this kind of input, or `top_k` is out of range.
        """
        if isinstance(inputs, (list, tuple)):
            inputs = list(inputs)
            if not inputs:
                return []
        elif hasattr(inputs, "column_names"):  # a dataset of `datasets`, which is not a torch dataset
            inputs = (row for row in _undecoded(inputs))
        elif isinstance(inputs, KeyDataset):
            inputs = KeyDataset(_undecoded(inputs.dataset), inputs.key)
        batch_size = self._batch_size if batch_size is None else batch_size
        if batch_size is not None:
            kwargs.setdefault("num_windows", batch_size)
        return super().__call__(inputs, batch_size=batch_size, **kwargs)

    def _sanitize_parameters(self, source_sampling_rate=None, top_k=None, num_windows=None, on_tokens=None):
        preprocess = {} if source_sampling_rate is None else {"source_sampling_rate": source_sampling_rate}
        forward = {"top_k": top_k, "batch_size": num_windows, "on_tokens": on_tokens}
        return preprocess, {name: value for name, value in forward.items() if value is not None}, {}

    def preprocess(self, inputs: Any, source_sampling_rate: int | None = None) -> dict[str, Any]:
        """Return `{"audio": (num_samples,) at 16 kHz or None, "audio_codes": (codebooks, num_frames) or None}`."""
        audio, audio_codes = self._split(inputs)
        if audio is not None:
            is_array = isinstance(audio, (np.ndarray, torch.Tensor, list, tuple))
            audio = self._read(audio, source_sampling_rate if is_array else None, alone=audio_codes is None)
        if audio_codes is not None and audio_codes.ndim != 2:
            raise ValueError(f"`audio_codes` has shape {audio_codes.shape}; it must be (codebooks, frames).")
        return {"audio": audio, "audio_codes": audio_codes}

    def _forward(self, model_inputs: dict, **encode_params) -> dict[str, list[dict]]:
        """Encode one preprocessed input, or a batch of them, for which transformers passes lists."""
        audio, codes = model_inputs["audio"], model_inputs["audio_codes"]
        rows = list(zip(audio, codes, strict=True)) if isinstance(audio, list) else [(audio, codes)]
        results: list[Any] = [None] * len(rows)
        for indices in self._alike(rows):
            output = self._encode([rows[i] for i in indices], **encode_params)
            for row, i in enumerate(indices):
                results[i] = _result(output, row, *rows[i])
        return {"results": results}

    def postprocess(self, model_outputs: dict) -> dict[str, Any]:
        results = model_outputs["results"]
        return results[0] if isinstance(results, list) else results

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs):
        """Save the model and the processor, from which `pipeline` can be built again. No code is saved."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    # ---- the parts of preprocess and _forward, in order of use

    def _split(self, source: Any) -> tuple[Any, np.ndarray | None]:
        """Split an input into audio and codec codes `(codebooks, num_frames)`; either may be None."""
        if not isinstance(source, Mapping):
            return source, None
        audio, codes = source.get("audio"), source.get("audio_codes")
        if audio is None and codes is None:
            return source, None
        if isinstance(codes, torch.Tensor):
            codes = codes.detach().cpu()
        return audio, None if codes is None else np.asarray(codes)

    def _read(self, audio: Any, source_sampling_rate: int | None, *, alone: bool) -> Any:
        """A mono waveform `(num_samples,)` at 16 kHz. `alone`: the input has no codes."""
        return read_waveform(audio, source_sampling_rate)

    def _alike(self, rows) -> list[list[int]]:
        """Indices of the rows that share a batch: of one kind, and padded to at most twice their length.

        Rows that fit into one window share a batch whatever their length: `encode` sorts them itself.
        """
        groups: dict[tuple, list[int]] = {}
        for i, (audio, codes) in enumerate(rows):
            windows = int(_duration_s(audio, codes) // self.model.config.window_s)
            alone = None if audio is None or isinstance(audio, np.ndarray) else i  # long audio, read in parts
            groups.setdefault((audio is None, codes is None, windows.bit_length(), alone), []).append(i)
        return list(groups.values())

    def _encode(self, rows: list[tuple[Any, Any]], **encode_params):
        """`BarkSemanticTokens` of rows that share a batch."""
        audio, codes = (None if column[0] is None else list(column) for column in zip(*rows, strict=True))
        batch = self.processor(audio=audio, audio_codes=codes).to(self.device)
        return self.model.encode(**batch, **encode_params)


def check_encodes(model: Any) -> None:
    """Raise a `TypeError` if the model is not a `BarkSemanticEncoderModel`."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) != BarkSemanticEncoderConfig.model_type or not hasattr(model, "encode"):
        raise TypeError(f"{TASK!r} needs a BarkSemanticEncoderModel, not a {type(model).__name__}.")


def _undecoded(dataset: Any) -> Any:
    """The dataset with undecoded sound files, because `datasets` needs torchcodec to decode them."""
    for name, feature in (getattr(dataset, "features", None) or {}).items():
        if type(feature).__name__ == "Audio" and feature.decode:
            dataset = dataset.cast_column(name, dataclasses.replace(feature, decode=False))
    return dataset


def read_waveform(source: Any, source_sampling_rate: int | None = None) -> np.ndarray:
    """Read a recording with transformers' `load_audio`, which uses torchcodec or soundfile.

    Args:
        source: a path or URL, the content of a file, an array, or a dict of `datasets` with one of these.
        source_sampling_rate (`int`, *optional*): sampling rate of an array, in Hz.

    Returns:
        `np.ndarray` of shape `(num_samples,)`, float32: mono at 16 kHz.

    Raises:
        ValueError: an array without a sampling rate.
        ImportError: an array must be resampled, and torchaudio is not installed.
    """
    if isinstance(source, Mapping):
        source_sampling_rate = source.get("sampling_rate", source_sampling_rate)
        source = next((source[k] for k in ("array", "raw", "bytes", "path") if source.get(k) is not None), None)
    if isinstance(source, bytes):
        source = base64.b64encode(source).decode()
    if isinstance(source, (str, os.PathLike)):
        return load_audio(str(source), SAMPLING_RATE)
    if source_sampling_rate is None:
        raise ValueError(
            "An array has no sampling rate. Pass source_sampling_rate=, e.g. 44_100, or a dict "
            '{"array": ..., "sampling_rate": ...}.'
        )
    waveform = torch.as_tensor(source).float()
    if waveform.ndim == 2:
        waveform = waveform.mean(int(np.argmin(waveform.shape)))
    if source_sampling_rate != SAMPLING_RATE:
        try:
            from torchaudio.functional import resample
        except ImportError as error:
            raise ImportError(
                f"Resampling from {source_sampling_rate} to {SAMPLING_RATE} Hz needs torchaudio. Run `pip install "
                f"torchaudio`, or pass a recording at {SAMPLING_RATE} Hz."
            ) from error
        waveform = resample(waveform, source_sampling_rate, SAMPLING_RATE)
    return waveform.numpy()


def _duration_s(audio: Any, audio_codes: np.ndarray | None) -> float:
    if audio is not None:
        return len(audio) / SAMPLING_RATE
    assert audio_codes is not None  # one of both is there
    return audio_codes.shape[-1] / CODEC_RATE_HZ


def _result(output, row: int, audio: Any, audio_codes: np.ndarray | None) -> dict[str, Any]:
    """One row of `BarkSemanticTokens`, without its padding."""
    num_tokens = int(output.num_tokens[row])
    result = {
        "semantic_tokens": output.semantic_tokens[row, :num_tokens].cpu().numpy(),
        "confidence": output.confidence[row, :num_tokens].cpu().numpy(),
        "num_tokens": num_tokens,
        "seconds": _duration_s(audio, audio_codes),
    }
    if output.top_k_tokens is not None:
        result["top_k_tokens"] = output.top_k_tokens[row, :num_tokens].cpu().numpy()
        result["top_k_confidence"] = output.top_k_confidence[row, :num_tokens].cpu().numpy()
    return result


__all__ = ["TASK", "BarkSemanticEncoderPipeline"]
