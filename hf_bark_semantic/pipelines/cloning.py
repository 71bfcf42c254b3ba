"""`pipeline("voice-cloning")`: a recording of a speaker and a text to speech.

    VoiceCloningPipeline    voice + text -> speech; voice only -> voice prompt; voice + recording -> converted speech;
                            `stream` yields speech piece by piece, `speak_texts` speaks several texts in batches
    register_pipeline       register the task with transformers (done when the package is imported)

This module recognizes the kind of voice and chooses the encoder; [`clone_voice`], [`speak_text`] and
[`convert_speech`] do the rest.
"""

import dataclasses
import difflib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, BarkModel, BarkProcessor, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .. import packaged
from ..audio import AudioError, read_audio
from ..bark.loading import check_bark, check_encoder, load_bark, load_bark_processor
from ..bark.prompting import MAX_PIECE_S
from ..bark.text_informed import TextInformedDecoder
from ..bark.voice_prompt import VoicePrompt, VoicePromptError
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..ensemble import one_encoder
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from ..packaged import NANO
from ..processing_bark_semantic import BarkSemanticEncoderProcessor
from ..voices.cloning import clone_voice, encode_clip, encode_codes
from ..voices.speaking import (
    Speech,
    SpeechOptions,
    convert_speech,
    prompt_from_transcript,
    speak_text,
    speak_texts,
    stream_conversion,
    stream_text,
)
from .encoding import AudioToBarkSemanticPipeline

logger = logging.getLogger(__name__)

VOICE_CLONING_TASK = "voice-cloning"
SHOWN_PRESETS = 5


class VoiceCloningPipeline(Pipeline):
    """Speaks in the voice of a recording.

    ```python
    import hf_bark_semantic
    from transformers import pipeline

    speak = pipeline("voice-cloning", bark="suno/bark-small")  # with the packaged encoder that fits this Bark
    speech = speak("me.wav", "Hello, my dog is cute.")
    hf_bark_semantic.save_audio("hello.wav", speech["audio"], speech["sampling_rate"])
    ```

    Args:
        model (`BarkSemanticEncoderModel`): the encoder of the Bark's tokens; `pipeline` also takes a folder or a Hub
            id, or a list of them, which works as one encoder. By default the packaged encoder for the Bark: nano's for
            nano, otherwise the one for Suno's Bark.
        processor (`BarkSemanticEncoderProcessor`, *optional*): the encoder's; by default that of the model's folder.
        weights (sequence of `float`, *optional*): of the encoders of a list; by default all are equal.
        bark (`BarkModel`, `str` or `Path`): any Bark: the model, a folder, a Hub id, or `"nano"` for the packaged one.
        bark_processor (`BarkProcessor`, *optional*): its tokenizer and presets; by default those beside the Bark.
        adapter (`str` or `Path`, *optional*): a bundle of `finetune_bark` for this Bark, a folder or a Hub id. If it
            contains a voice prompt, that is the default voice. [`set_adapters`] exchanges and mixes adapters.
        device, dtype, batch_size: as in transformers' `pipeline`, for both encoder and Bark. A loaded `BarkModel`
            keeps its dtype, and its device unless `device` is given. `batch_size` counts pieces of text, by default 8.
        options: as in [`~VoiceCloningPipeline.__call__`], for every call.

    Raises:
        TypeError: `model` is not an encoder, or `bark` is not a Bark.
        ValueError: the encoder's tokens are not the Bark's.
        OSError: a model cannot be found.
    """

    _load_processor = None  # __init__ tries again after a failure, and explains it
    _load_feature_extractor = False
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(
        self,
        model: BarkSemanticEncoderModel | Sequence[Any],
        processor: BarkSemanticEncoderProcessor | None = None,
        *,
        weights: Sequence[float] | None = None,
        bark: BarkModel | str | os.PathLike = NANO,
        bark_processor: BarkProcessor | None = None,
        adapter: str | os.PathLike | None = None,
        device: int | str | torch.device | None = None,
        dtype: str | torch.dtype | None = "auto",
        **kwargs,
    ):
        if isinstance(bark, (str, os.PathLike)):
            self.bark, loaded_processor = load_bark(bark, dtype=dtype)
            self.bark_processor = bark_processor or loaded_processor
        else:
            check_bark(bark)
            self.bark, self.bark_processor = bark.eval(), bark_processor or _processor_of(bark)
        configs = check_bark(self.bark)
        self.histories = configs.history_lengths
        self.adapter = None
        if adapter is not None:
            from ..bark.adapter_bundle import load_adapters  # needs the extra peft

            self.adapter = load_adapters(self.bark, adapter)
        self.vocabularies: dict[str, Any] = configs.vocabularies
        encoder = one_encoder(model, weights, dtype=dtype)
        encoder, processor = _packaged_encoder_for(configs.semantic.semantic_vocab_size, encoder, processor)
        self.encoder = AudioToBarkSemanticPipeline(encoder, processor, device=device)
        if not _is_packaged(encoder):  # the default of `pipeline`; presets need no encoder
            check_encoder(encoder, configs.semantic.semantic_vocab_size)
        super().__init__(model=self.encoder.model, processor=self.encoder.processor, device=device, **kwargs)
        if device is not None or self.bark is not bark:
            self.bark.to(self.device)

    def __call__(
        self,
        voice: Any = None,
        text: str | None = None,
        *,
        convert: Any = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Speak a text, or the words of a recording, in a voice.

        Args:
            voice: one of
                a recording, in any form that [`load_audio`] reads (a path, bytes, `{"array", "sampling_rate"}`, ...);
                a list of up to 8 recordings of one speaker, the last of which weighs most;
                a [`VoicePrompt`], the path of one (`.npz`), or its dict;
                the name of a preset of the Bark, such as `"v2/en_speaker_6"`;
                `None`, with `prompt_mode="none"` only.
            text (`str`, *optional*): the text to speak, of any length, with Bark's notation; see [`speak_text`].
            convert (*optional*): a recording whose words are spoken instead of a text.
            reference_text (`str`, *optional*): the full text of one recording of at most 14 s, all of which becomes
                the prompt. Encoder and Bark choose its semantic tokens together; with `prompt_mode="acoustic"`, Bark's
                text stage generates them from the text alone.
            source_sampling_rate (`int`, *optional*): rate in Hz of arrays without one; files have their own.
            batch_size (`int`, *optional*): pieces of text that are computed at once; see the class.
            on_step (`Callable[[str], Any]`, *optional*): called before every step with the name of the stage:
                `"encoder"`, `"semantic"`, `"coarse"`, `"fine"` or `"codec"`. An exception that it raises ends the
                call.
            options: of [`SpeechOptions`]: `prompt_mode`, `semantic_temperature`, `coarse_temperature`,
                `fine_temperature`, `min_eos_p`, `guidance_scale`, `voice_guidance_scale`, `seed`, `long_form`,
                `pause_s`.

        Returns:
            `dict`: `voice_prompt` ([`VoicePrompt`], or `None` with `prompt_mode="none"`) and, with a text or a
                recording to convert, `audio` (float32 of shape `(num_samples,)`), `sampling_rate` (Hz) and `warnings`
                (`tuple[str, ...]`: words that the Bark does not know, and words that may be missing).

        Raises:
            AudioError, VoicePromptError: a recording or a voice prompt cannot be used.
            ValueError: no voice, text and recording at once, tokens of another Bark, or an option out of its range.
            TypeError: an option that does not exist.
        """
        inputs, options = self._call_arguments(voice, text, convert, batch_size, options)
        return super().__call__(inputs, **options)

    def stream(
        self,
        voice: Any = None,
        text: str | None = None,
        *,
        convert: Any = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        """Speak piece by piece: the samples of a call with the same arguments, each piece as soon as it is ready.

        ```python
        for piece in speak.stream("me.wav", "Hello, my dog is cute. He barks all day, and at night he sleeps."):
            play(piece["audio"], piece["sampling_rate"])
        ```

        The voice is cloned at once; each piece is computed when it is requested. The first piece is short: the first
        sentence or clause of the text. Later pieces are computed in batches of `batch_size`.

        Args:
            voice, text, convert, batch_size, options: as in [`~VoiceCloningPipeline.__call__`]; either a text or a
                recording to convert.

        Returns:
            `Iterator[dict]`: of each piece `audio` (float32 of shape `(num_samples,)`, with the pause before it; no
                samples if Bark generated none), `sampling_rate` (Hz), `semantic_tokens` (int64 of shape
                `(num_tokens,)`, without the pause), `voice_prompt`, `warnings`, `number` (from 1) and
                `num_pieces`.

        Raises:
            AudioError, VoicePromptError, ValueError, TypeError: as a call does.
            RuntimeError: at the end, if Bark generated no speech at all.
        """
        if text is None and convert is None:
            raise ValueError("There is nothing to speak. Give a `text`, or a recording to `convert`.")
        inputs, prompt, speaking = self._prepared_call(voice, text, convert, batch_size, options)
        if inputs["text"] is not None:
            pieces = stream_text(
                self.bark, inputs["text"], prompt, tokenizer=self.bark_processor.tokenizer, **speaking
            )
        else:
            pieces = stream_conversion(self.bark, inputs["convert"], prompt, encoder=self.encoder, **speaking)
        return (
            {
                "audio": piece.waveform,
                "sampling_rate": piece.sampling_rate,
                "semantic_tokens": np.zeros(0, np.int64) if piece.result is None else piece.result.semantic_tokens,
                "voice_prompt": prompt,
                "warnings": piece.warnings,
                "number": piece.number,
                "num_pieces": piece.num_pieces,
            }
            for piece in pieces
        )

    def speak_texts(
        self, voice: Any, texts: Sequence[str], *, batch_size: int | None = None, **options: Any
    ) -> Iterator[dict[str, Any] | Exception]:
        """Speak several texts: the same samples as those of a call for each, with pieces of all of them in one batch.

        Args:
            voice, batch_size, options: as in [`~VoiceCloningPipeline.__call__`].
            texts (sequence of `str`): what to say.

        Returns:
            `Iterator[dict | Exception]`: in the order of the texts, each as soon as it is spoken, what a call returns;
                in place of a text that is empty or for which Bark says nothing, the error that a call raises.

        Raises:
            AudioError, VoicePromptError, ValueError, TypeError: as a call does, but for the texts.
        """
        _, prompt, speaking = self._prepared_call(voice, list(texts), None, batch_size, options)
        speeches = speak_texts(self.bark, texts, prompt, tokenizer=self.bark_processor.tokenizer, **speaking)
        return (speech if isinstance(speech, Exception) else _answer(speech, prompt) for speech in speeches)

    @property
    def adapter_name(self) -> str | None:
        """Name of the adapter that is set."""
        return None if self.adapter is None else self.adapter.name

    @property
    def voice_presets(self) -> list[str]:
        """Names of the Bark's preset voices."""
        return self.bark_processor.available_voice_presets

    def _prepared_call(
        self, voice: Any, text: Any, convert: Any, batch_size: int | None, options: dict[str, Any]
    ) -> tuple[dict[str, Any], VoicePrompt | None, dict[str, Any]]:
        """The results of [`preprocess`] and [`_prepare`], from which `stream` and `speak_texts` continue."""
        inputs, options = self._call_arguments(voice, text, convert, batch_size, options)
        preprocess_params, forward_params, _ = self._sanitize_parameters(**options)
        inputs = self.preprocess(inputs, **{**self._preprocess_params, **preprocess_params})
        return inputs, *self._prepare(inputs, **{**self._forward_params, **forward_params})

    def _call_arguments(
        self, voice: Any, text: Any, convert: Any, batch_size: int | None, options: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The input of [`preprocess`], and the options of this call."""
        if text is not None and convert is not None:
            raise ValueError("Give a `text` to speak or a recording to `convert`, not both.")
        if voice is None and self.adapter is not None and options.get("prompt_mode") != "none":
            voice = self.adapter.voice_prompt
        batch_size = batch_size or self._batch_size
        if batch_size is not None:
            options = {**options, "num_pieces": batch_size}
        return {"voice": voice, "text": text, "convert": convert}, options

    def _sanitize_parameters(self, source_sampling_rate=None, reference_text=None, num_pieces=None, **options):
        legal = [field.name for field in dataclasses.fields(SpeechOptions)]
        legal += ["reference_text", "source_sampling_rate", "batch_size", "on_step"]
        for name in options:
            if name not in legal:
                raise TypeError(f"There is no option `{name}`; there are {', '.join(legal)}.")
        preprocess = {} if source_sampling_rate is None else {"source_sampling_rate": source_sampling_rate}
        forward = {"reference_text": reference_text, "batch_size": num_pieces}
        return preprocess, {**options, **{name: value for name, value in forward.items() if value is not None}}, {}

    def preprocess(self, inputs: dict[str, Any], source_sampling_rate: int | None = None) -> dict[str, Any]:
        """Separate a voice prompt (`voice_prompt`) from `recordings`, and add the rate of bare arrays."""
        voice, convert = inputs["voice"], inputs["convert"]
        prompt = self._voice_prompt(voice)
        recordings = None if voice is None or prompt is not None else voice
        recordings = list(recordings) if isinstance(recordings, (list, tuple)) else [recordings]
        recordings = [_with_rate(recording, source_sampling_rate) for recording in recordings if recording is not None]
        return {
            "voice_prompt": prompt,
            "recordings": recordings,
            "text": inputs["text"],
            "convert": _with_rate(convert, source_sampling_rate),
        }

    def _forward(self, inputs: dict[str, Any], **params: Any) -> dict[str, Any]:
        prompt, speaking = self._prepare(inputs, **params)
        if inputs["text"] is not None:
            tokenizer = self.bark_processor.tokenizer
            speech = speak_text(self.bark, inputs["text"], prompt, tokenizer=tokenizer, **speaking)
        elif inputs["convert"] is not None:
            speech = convert_speech(self.bark, inputs["convert"], prompt, encoder=self.encoder, **speaking)
        else:
            return {"voice_prompt": prompt}
        return _answer(speech, prompt)

    def _prepare(
        self,
        inputs: dict[str, Any],
        reference_text: str | None = None,
        batch_size: int = 8,
        on_step: Callable[[str], Any] | None = None,
        **options: Any,
    ) -> tuple[VoicePrompt | None, dict[str, Any]]:
        """The voice prompt, and the arguments for the speaking functions."""
        settings = SpeechOptions(**options)
        prompt, recordings = inputs["voice_prompt"], inputs["recordings"]
        if reference_text is not None:
            prompt = self._prompt_of_known_words(recordings, reference_text, settings)
            if settings.prompt_mode == "acoustic":
                settings = dataclasses.replace(settings, prompt_mode="full")  # its tokens are from the text
        elif recordings and (settings.prompt_mode != "none" or (inputs["text"] is inputs["convert"] is None)):
            check_encoder(self.model, self.vocabularies["semantic_vocab_size"])
            prompt = clone_voice(
                recordings, self.encoder, codec=self.bark.codec_model, histories=self.histories
            ).prompt
        speaks = inputs["text"] is not None or inputs["convert"] is not None
        if speaks and settings.prompt_mode == "none":
            prompt = None
        elif prompt is None:
            raise VoicePromptError("There is no voice. Give a recording, a voice prompt or the name of a preset.")
        if inputs["convert"] is not None:
            check_encoder(self.model, self.vocabularies["semantic_vocab_size"])
        return prompt, {"options": settings, "batch_size": batch_size, "on_step": on_step}

    def postprocess(self, model_outputs: dict[str, Any]) -> dict[str, Any]:
        """The result of a call, without change."""
        return model_outputs

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs):
        """Save the encoder and its processor; the Bark is not saved."""
        self.encoder.save_pretrained(save_directory, **kwargs)

    def _voice_prompt(self, voice: Any) -> VoicePrompt | None:
        """The voice prompt of `voice`, checked for the Bark; `None` for recordings."""
        if isinstance(voice, VoicePrompt):
            return voice.for_bark(**self.vocabularies)
        if isinstance(voice, Mapping):
            is_prompt = any(key in voice for key in ("semantic_prompt", "fine_prompt", "fine"))
            return VoicePrompt.load(voice, **self.vocabularies) if is_prompt else None
        if not isinstance(voice, (str, os.PathLike)):
            return None
        if str(voice) in self.voice_presets:
            return self._preset(str(voice))
        if Path(voice).suffix.lower() == ".npz":
            return VoicePrompt.load(voice, **self.vocabularies)
        if not os.path.exists(voice):
            presets = ", ".join(self.voice_presets[:SHOWN_PRESETS]) or "none"
            nearest = difflib.get_close_matches(str(voice), self.voice_presets, 1)
            meant = f"Did you mean {nearest[0]}? " if nearest else ""
            raise AudioError(
                f"There is no file {str(voice)!r} and no such preset; this Bark has {len(self.voice_presets)} presets "
                f"({presets}{', ...' if len(self.voice_presets) > SHOWN_PRESETS else ''}). {meant}Check the spelling "
                "and the working directory."
            )
        return None

    def _preset(self, name: str) -> VoicePrompt:
        try:
            arrays = self.bark_processor(".", voice_preset=name, return_tensors="np")["history_prompt"]
        except (OSError, ValueError) as error:
            raise VoicePromptError(
                f"The preset {name!r} cannot be read: {error} Load the Bark again with a network, or name another one."
            ) from error
        return VoicePrompt.load(dict(arrays), **self.vocabularies)

    def _prompt_of_known_words(self, recordings: list, transcript: str, options: SpeechOptions) -> VoicePrompt:
        if options.prompt_mode == "none" or len(recordings) != 1:
            raise ValueError(
                f"`reference_text` is for one recording and any `prompt_mode` but 'none', not for {len(recordings)} "
                f"recordings and prompt_mode={options.prompt_mode!r}. Leave it out, or give these."
            )
        waveform = read_audio(recordings[0], CODEC_SAMPLING_RATE)
        duration_s = len(waveform) / CODEC_SAMPLING_RATE
        if duration_s > MAX_PIECE_S:
            raise AudioError(
                f"The recording lasts {duration_s:.1f} s; with `reference_text` it may last {MAX_PIECE_S} s, because "
                "Bark says all of its words at once. Cut it, and the text with it."
            )
        codec, tokenizer = self.bark.codec_model, self.bark_processor.tokenizer
        if options.prompt_mode == "acoustic":
            codes = encode_codes(waveform[:], codec)
            return prompt_from_transcript(self.bark, transcript, codes, tokenizer=tokenizer, options=options)
        check_encoder(self.model, self.vocabularies["semantic_vocab_size"])
        decoder = TextInformedDecoder(self.bark, tokenizer)
        read = encode_clip(waveform[:], self.encoder, codec=codec, text=transcript, bark=decoder)
        tokens, codes = read["semantic_tokens"], read["audio_codes"]
        return VoicePrompt.from_tokens_and_codes(tokens, codes, **self.vocabularies)


def _answer(speech: Speech, prompt: VoicePrompt | None) -> dict[str, Any]:
    return {
        "audio": speech.waveform,
        "sampling_rate": speech.sampling_rate,
        "voice_prompt": prompt,
        "warnings": speech.warnings,
    }


def register_pipeline() -> None:
    """Make `pipeline("voice-cloning")` known to transformers; its default is nano with its encoder."""
    if VOICE_CLONING_TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            VOICE_CLONING_TASK,
            pipeline_class=VoiceCloningPipeline,
            pt_model=AutoModel,
            default={"model": (str(packaged.NANO_ENCODER), "main")},
            type="audio",
        )


def _is_packaged(model: BarkSemanticEncoderModel) -> bool:
    return model.config.name_or_path in (str(packaged.NANO_ENCODER), str(packaged.BUILTIN_ENCODER))


def _packaged_encoder_for(vocab_size: int, model: BarkSemanticEncoderModel, processor):
    """The packaged encoder for the Bark; the default of `pipeline`, chosen without the Bark, may be the other one."""
    if getattr(model.config, "vocab_size", None) == vocab_size or not _is_packaged(model):
        return model, processor
    folder = packaged.encoder_for(vocab_size)
    if AutoConfig.from_pretrained(folder).vocab_size != vocab_size:
        return model, processor
    logger.warning("The packaged encoder in %s fits this Bark and takes the place of the other one.", folder)
    return AutoModel.from_pretrained(folder, dtype=model.dtype), None


def _processor_of(bark: BarkModel) -> BarkProcessor:
    if not bark.config.name_or_path:
        raise ValueError(
            "The Bark was not loaded from anywhere, so there is no tokenizer beside it. Pass bark_processor=."
        )
    return load_bark_processor(bark.config.name_or_path, revision=getattr(bark.config, "_commit_hash", None))


def _with_rate(recording: Any, sampling_rate: int | None) -> Any:
    if sampling_rate is None or not isinstance(recording, (np.ndarray, torch.Tensor)):
        return recording
    return {"array": recording, "sampling_rate": sampling_rate}


__all__ = ["VOICE_CLONING_TASK", "VoiceCloningPipeline", "register_pipeline"]
