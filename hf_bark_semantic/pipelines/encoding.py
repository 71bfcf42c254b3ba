"""`pipeline("audio-to-bark-semantic")`: recordings or codec codes to Bark's semantic tokens.

    AudioToBarkSemanticPipeline    a recording, list, generator or dataset -> a dict for each recording
    register_pipeline              register the task with transformers (done when the package is imported)

It extends [`BarkSemanticEncoderPipeline`], which is published with each model, by all audio formats and recordings of
hours (`load_audio`), voice prompts, ensembles, and known texts.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .. import packaged
from ..audio import LongRecording, load_audio, read_audio
from ..bark.loading import check_encoder, load_bark
from ..bark.text_informed import TextInformedDecoder
from ..bark.voice_prompt import VoicePrompt
from ..configuration_bark_semantic import SAMPLES_PER_FRAME, SAMPLING_RATE, num_semantic_tokens_of_samples
from ..ensemble import EncoderEnsemble, one_encoder
from ..environment import release_freed_memory
from ..modeling_bark_semantic import BarkSemanticEncoderModel, BarkSemanticTokens, plan_windows
from ..pipeline_bark_semantic import TASK, BarkSemanticEncoderPipeline, check_encodes
from ..processing_bark_semantic import BarkSemanticEncoderProcessor

PERIOD_FRAMES, PERIOD_TOKENS = 500, 499  # 10 s: frames and tokens start at the same time again
PART_WINDOWS = 5  # windows in a part of a long recording; one more overlaps the next part


class AudioToBarkSemanticPipeline(BarkSemanticEncoderPipeline):
    """Encodes recordings, codec codes, or both to Bark's semantic tokens.

    ```python
    import hf_bark_semantic
    from transformers import pipeline

    encode = pipeline("audio-to-bark-semantic")  # the packaged encoder; `model` names another one
    tokens = encode("speech.wav")["semantic_tokens"]
    ```

    Args:
        model (`BarkSemanticEncoderModel`): the encoder; `pipeline` also takes a folder or a Hub id, and without one
            the packaged encoder. A list of models, folders and Hub ids works as one encoder, with the mean of their
            log-probabilities: [`EncoderEnsemble`].
        weights (sequence of `float`, *optional*): of the encoders of a list; by default all are equal.
        processor (`BarkSemanticEncoderProcessor`, *optional*): by default that of the model's folder; the standard one
            for a model that was not loaded from anywhere.
        batch_size (`int`, *optional*): number of recordings, and of windows of long recordings, that are computed at
            once. By default 1 recording, and 8 windows, or 1 on a CPU.
        device, dtype, top_k: as in [`~AudioToBarkSemanticPipeline.__call__`] and in transformers' `pipeline`.
    """

    _load_processor: bool | None = None  # __init__ tries again after a failure, and explains it
    _named_decoder: tuple[str | None, Any] = (None, None)  # of the last named Bark

    def __init__(
        self,
        model: BarkSemanticEncoderModel | Sequence[Any],
        processor: BarkSemanticEncoderProcessor | None = None,
        *,
        weights: Sequence[float] | None = None,
        **kwargs,
    ):
        encoder = one_encoder(model, weights, dtype=kwargs.get("dtype", "auto"))
        check_encodes(encoder)
        super().__init__(encoder, _processor_of(encoder) if processor is None else processor, **kwargs)

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, text: Any = None, bark: Any = None, **kwargs
    ) -> dict | list[dict] | Iterator[dict]:
        """Encode one input, or many.

        Args:
            inputs: one of the following, or a list, tuple, generator, `torch` or `datasets` dataset of them.
                A recording, in any form that [`load_audio`] reads (a path, bytes, an array, `{"array",
                "sampling_rate"}`, ...).
                A [`VoicePrompt`], the path of one (`.npz`), or its dict.
                A dict or dataset row with `"audio"`, `"audio_codes"` or both; the codes are EnCodec's, `(codebooks,
                frames)` at 75 Hz.
            source_sampling_rate (`int`, *optional*): rate in Hz of arrays without one; files have their own.
            top_k (`int`, *optional*): also return the `top_k` most probable tokens.
            batch_size (`int`, *optional*): see the class.
            num_windows (`int`, *optional*): windows of long recordings that are computed at once; `None` for a number
                that suits the device.
            on_tokens (`Callable[[int], Any]`, *optional*): called every few windows with the number of newly finished
                tokens. An exception that it raises ends the call.
            text (`str`, *optional*): the words of the recording; a list of texts for a list of recordings. Encoder
                and Bark then choose the tokens together: [`TextInformedDecoder`].
            bark (*optional*): with `text`, the Bark of these tokens: a Hub id, a folder or `"nano"`; the result of
                [`load_bark`]; or a [`TextInformedDecoder`], which sets the weight and the beam.

        Returns:
            One `dict` per input; a list for lists and tuples, an iterator for generators and datasets. Its entries:
            `semantic_tokens` (int64 `(num_tokens,)`), `confidence` (float32 `(num_tokens,)`, the encoder's
            probabilities of these tokens), `num_tokens`, `seconds` (of the input), and with `top_k` also
            `top_k_tokens` and `top_k_confidence`, both `(num_tokens, top_k)`, best first.

        Raises:
            AudioError, VoicePromptError: an input cannot be used.
            ValueError: the encoder has no front end for the codes or the audio, `top_k` is out of range, a text was
                given without a Bark, or the recording is too long for a text.
        """
        if text is not None or bark is not None:
            return self._informed_by_text(inputs, text, bark, batch_size=batch_size, **kwargs)
        return super().__call__(inputs, batch_size=batch_size, **kwargs)

    def _informed_by_text(self, inputs: Any, text: Any, bark: Any, *, top_k: int | None = None, **kwargs):
        """Results of inputs whose texts are known."""
        many = isinstance(inputs, (list, tuple))
        texts = text if many else [text]
        if not isinstance(texts, (list, tuple)) or not all(isinstance(item, str) for item in texts) or bark is None:
            raise ValueError("`text` and `bark` go together: one text for one input, a list of texts for a list, and "
                             "the Bark, such as bark='suno/bark-small'.")  # fmt: skip
        if many and len(texts) != len(inputs):
            raise ValueError(f"There are {len(texts)} texts for {len(inputs)} inputs; give one for each.")
        decoder = self._decoder_of(bark)
        top_k = self._forward_params.get("top_k") if top_k is None else top_k
        if top_k is not None and top_k < 1 or not decoder.weight and decoder.prior is None:
            return self(inputs, top_k=top_k, **kwargs)  # an invalid top_k is refused; this decoder changes nothing
        results = self(inputs, top_k=max(top_k or 1, decoder.top_k), **kwargs)
        for result, words in zip(results if many else [results], texts, strict=True):
            candidates, confidence = result.pop("top_k_tokens"), result.pop("top_k_confidence")
            result["semantic_tokens"] = tokens = decoder.decode(candidates, confidence, words)
            result["confidence"] = confidence[candidates == tokens[:, None]]
            if top_k is not None:
                result |= {"top_k_tokens": candidates[:, :top_k], "top_k_confidence": confidence[:, :top_k]}
        return results

    def _decoder_of(self, bark: Any) -> TextInformedDecoder:
        """The decoder for `bark`; a Bark that is named is loaded once for several calls."""
        if isinstance(bark, (str, os.PathLike)):
            if self._named_decoder[0] != str(bark):
                model, processor = load_bark(bark)
                self._named_decoder = (str(bark), TextInformedDecoder(model.to(self.device), processor))
            bark = self._named_decoder[1]
        if not isinstance(bark, TextInformedDecoder):
            if not isinstance(bark, (tuple, list)) or len(bark) != 2:
                raise TypeError(f"`bark` is a {type(bark).__name__}; it must be a Hub id, a folder, what `load_bark` "
                                "gives (the model and its processor), or a TextInformedDecoder.")  # fmt: skip
            bark = TextInformedDecoder(*bark)
        check_encoder(self.model, bark.vocab_size)
        return bark

    def _split(self, source: Any) -> tuple[Any, np.ndarray | None]:
        if isinstance(source, VoicePrompt):
            return None, source.audio_codes
        is_file = isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".npz"
        if is_file or (isinstance(source, Mapping) and "fine_prompt" in source):
            return None, VoicePrompt.load(source).audio_codes
        return super()._split(source)

    def _read(self, audio: Any, source_sampling_rate: int | None, *, alone: bool) -> np.ndarray | LongRecording:
        """Read audio; if it is `alone` and longer than 10 minutes, it is a `LongRecording`."""
        read = read_audio if alone else load_audio
        return read(audio, SAMPLING_RATE, source_sampling_rate=source_sampling_rate)

    def _encode(self, rows, **encode_params) -> BarkSemanticTokens:
        if isinstance(rows[0][0], LongRecording):
            return self._encode_long(rows[0][0], **encode_params)
        return super()._encode(rows, **encode_params)

    def _encode_long(
        self, recording: LongRecording, on_tokens: Callable[[int], Any] | None = None, **encode_params
    ) -> BarkSemanticTokens:
        """The result of `encode` for a long recording, with a few windows in memory.

        A part starts with a window, at a time at which a token and a frame start together, and includes the window
        after it. So its windows are those of the whole recording, and its last windows belong to the next part.
        """
        windows = plan_windows(num_semantic_tokens_of_samples(len(recording)), self.model.config)
        starts = [0]
        for i, window in enumerate(windows[:-1]):
            if window.start_frame % PERIOD_FRAMES == 0 and i - starts[-1] >= PART_WINDOWS:
                starts.append(i)
        parts = [(windows[i], windows[j]) for i, j in zip(starts, [*starts[1:], -1], strict=True)]
        bounds = [
            (first.start_frame * SAMPLES_PER_FRAME, last.stop_frame * SAMPLES_PER_FRAME) for first, last in parts
        ]
        bounds[-1] = (bounds[-1][0], len(recording))
        mean, scale, normalize = 0.0, 1.0, self.processor.feature_extractor.do_normalize
        if normalize:  # with mean and variance of the whole recording
            mean, scale = recording.mean, (recording.power - recording.mean**2 + 1e-7) ** -0.5
        level = (recording.power - mean**2) ** 0.5 * scale  # level of the model's input
        encode_params["level"] = torch.tensor([level], device=self.device)
        columns: dict[str, list[torch.Tensor]] = {}
        for (first, last), waveform in zip(parts, recording.parts(bounds), strict=True):
            input_values = torch.from_numpy((waveform - mean) * scale if normalize else waveform)[None]
            output = self.model.encode(
                input_values=input_values.to(self.device),
                on_tokens=lambda _: release_freed_memory(),
                **encode_params,
            )
            behind = first.start_frame // PERIOD_FRAMES * PERIOD_TOKENS  # tokens of the recording before this part
            stop = None if last is windows[-1] else last.keep_from - behind
            if on_tokens is not None:
                on_tokens((output.semantic_tokens.shape[1] if stop is None else stop) - first.keep_from + behind)
            for name, values in output.items():
                if name != "num_tokens":
                    columns.setdefault(name, []).append(values[:, first.keep_from - behind : stop].cpu())
        joined = {name: torch.cat(parts, dim=1) for name, parts in columns.items()}
        return BarkSemanticTokens(num_tokens=torch.tensor([windows[-1].keep_to]), **joined)


def register_pipeline() -> None:
    """Make `pipeline("audio-to-bark-semantic")` known to transformers; its default is the packaged encoder."""
    if TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=AudioToBarkSemanticPipeline,
            pt_model=AutoModel,
            default={"model": (str(packaged.BUILTIN_ENCODER), "main")},
            type="audio",
        )


def _processor_of(model: BarkSemanticEncoderModel) -> BarkSemanticEncoderProcessor:
    """The processor beside the model's weights; a new one for a model that was not loaded from a folder."""
    if isinstance(model, EncoderEnsemble):
        first, *others = [_processor_of(member) for member in model.members]
        if any(other.to_dict() != first.to_dict() for other in others):
            raise ValueError("The processors of these encoders differ, so each expects other inputs. Pass processor=.")
        return first
    place = model.config.name_or_path
    if not place:
        return BarkSemanticEncoderProcessor()
    try:
        return AutoProcessor.from_pretrained(place, revision=getattr(model.config, "_commit_hash", None))
    except Exception as error:  # transformers raises many kinds of errors for damaged files
        raise OSError(
            f"There is no usable processor in {place!r}, where the encoder came from: {error}. Save one there "
            "(`processor.save_pretrained(folder)`), or pass processor=BarkSemanticEncoderProcessor()."
        ) from error


__all__ = [
    "AudioToBarkSemanticPipeline",
    "register_pipeline",
]
