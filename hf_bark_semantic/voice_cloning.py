"""Recordings of a person to a voice prompt for Bark.

    clone_voice    recordings + encoder + codec -> ClonedVoice
    load_codec     Bark's codec: EnCodec itself, or the part of a Bark checkpoint

    recording ──> best_window ──┬──> encoder ──> semantic tokens ──┐
                                └──> codec ────> audio codes ──────┴──> VoicePrompt ──> join_prompts

Both readers hear the same cut of the recording, so tokens and codes start at the same moment.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, EncodecModel

from .audio import load_audio, resample
from .configuration_bark_semantic import (
    CODEC_RATE_HZ,
    CODEC_SAMPLING_RATE,
    NUM_CODEBOOKS,
    SAMPLING_RATE,
    SEMANTIC_RATE_HZ,
)
from .pipelines import AudioToBarkSemanticPipeline
from .voice_prompt import (
    FINE_HISTORY_FRAMES,
    SEMANTIC_HISTORY_TOKENS,
    PromptReport,
    PromptWindow,
    VoicePrompt,
    VoicePromptError,
    best_window,
    join_prompts,
)

DEFAULT_CODEC = "facebook/encodec_24khz"  # the codec inside of every Suno Bark
BANDWIDTH = 6.0  # kbps: 8 codebooks; suno-ai/bark, generation.py: load_codec_model
MAX_RECORDINGS = 8  # a voice prompt lasts 6.83 s, and a share below 0.85 s holds no phrase


@dataclass(frozen=True)
class ClonedVoice:
    """A voice prompt and how it was made.

    Args:
        prompt (`VoicePrompt`): the voice.
        report (`PromptReport`): what Bark reads of it.
        windows (`tuple[PromptWindow, ...]`): the part of each recording that was taken.
        reports (`tuple[PromptReport, ...]`): of each part, with measures of its sound.
        confidence (`float`): the encoder's mean probability of its tokens.
    """

    prompt: VoicePrompt
    report: PromptReport
    windows: tuple[PromptWindow, ...]
    reports: tuple[PromptReport, ...]
    confidence: float


def clone_voice(
    recordings: Any | Sequence[Any], encoder: AudioToBarkSemanticPipeline, *, codec: EncodecModel
) -> ClonedVoice:
    """Make a voice prompt of one or several recordings of a speaker.

    Of each recording the best window is taken: 5.13 to 6.83 s, which several recordings share equally.

    Args:
        recordings: what [`load_audio`] reads, or a list of that; the last one weighs most.
        encoder (`AudioToBarkSemanticPipeline`): `pipeline("audio-to-bark-semantic", model=...)`.
        codec (`EncodecModel`): `load_codec()`, or `bark.codec_model`.

    Raises:
        AudioError: a recording cannot be used.
        VoicePromptError: more than `MAX_RECORDINGS` recordings, or none.
        ValueError: the codec is not the one of Bark: 24 kHz, 75 frames per second, 8 codebooks at 6 kbps.
    """
    recordings = list(recordings) if isinstance(recordings, (list, tuple)) else [recordings]
    if not 1 <= len(recordings) <= MAX_RECORDINGS:
        raise VoicePromptError(
            f"{len(recordings)} recordings were given; a voice prompt takes 1 to {MAX_RECORDINGS}. "
            "Choose the clearest."
        )
    _check_codec(codec)
    share = len(recordings)
    prompts, windows, reports, confidences = [], [], [], []
    for recording in recordings:
        waveform = load_audio(recording, CODEC_SAMPLING_RATE)
        window = best_window(
            waveform,
            CODEC_SAMPLING_RATE,
            min_s=SEMANTIC_HISTORY_TOKENS / SEMANTIC_RATE_HZ / share,
            max_s=FINE_HISTORY_FRAMES / CODEC_RATE_HZ / share,
        )
        clip = window.cut(waveform, CODEC_SAMPLING_RATE)
        encoded = _encode(clip, encoder, codec)
        prompts.append(VoicePrompt.from_tokens_and_codes(encoded["semantic_tokens"], encoded["audio_codes"]))
        windows.append(window)
        reports.append(prompts[-1].report(clip, CODEC_SAMPLING_RATE))
        confidences.append(encoded["confidence"])
    prompt = prompts[0] if share == 1 else join_prompts(prompts)
    return ClonedVoice(
        prompt=prompt,
        report=reports[0] if share == 1 else prompt.report(),
        windows=tuple(windows),
        reports=tuple(reports),
        confidence=float(np.concatenate(confidences).mean()),
    )


def encode_codes(waveform: np.ndarray, codec: EncodecModel) -> np.ndarray:
    """Bark's audio codes of a waveform.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`): 24 kHz.
        codec (`EncodecModel`): Bark's.

    Returns:
        `np.ndarray`: int64 of shape `(8, ceil(num_samples / 320))`.
    """
    input_values = torch.from_numpy(waveform).to(codec.device, codec.dtype)[None, None]  # (batch, channels, samples)
    with torch.no_grad():
        codes = codec.encode(input_values, bandwidth=BANDWIDTH).audio_codes  # (chunks, batch, codebooks, frames)
    return codes[0, 0].cpu().numpy()


def load_codec(name: str | os.PathLike = DEFAULT_CODEC, **kwargs) -> EncodecModel:
    """Load Bark's codec, without the rest of Bark.

    Args:
        name (`str` or `Path`): Hub id or folder of an EnCodec (24 kHz), or of a Bark, whose `codec_model` is taken.
        kwargs: as in `from_pretrained`: `dtype`, `device_map`, `revision`, `cache_dir`, ...

    Raises:
        OSError: there is no such model, or it isn't cached and the Hub cannot be reached.
        ValueError: it is neither an EnCodec nor a Bark, or not the codec of Bark.
    """
    location = {key: kwargs[key] for key in ("revision", "cache_dir", "token", "local_files_only") if key in kwargs}
    try:
        config = AutoConfig.from_pretrained(name, **location)
    except OSError as error:
        raise OSError(
            f"Cannot load the codec {str(name)!r}: {_first_line(error)} With a network, type `hf download {name}` "
            "once; without one, copy it from a machine that has it and name its folder."
        ) from error
    if config.model_type == "bark":
        config, kwargs["key_mapping"] = config.codec_config, {r"^codec_model\.": ""}
    if config.model_type != "encodec":
        raise ValueError(
            f"{str(name)!r} is a {config.model_type!r} model; Bark's codec is an EnCodec ({DEFAULT_CODEC})."
        )
    codec, loading = _CodecOfBark.from_pretrained(name, config=config, output_loading_info=True, **kwargs)
    if loading["missing_keys"]:
        raise ValueError(
            f"{str(name)!r} lacks weights of the codec, such as {sorted(loading['missing_keys'])[0]!r}. Take another "
            f"checkpoint, or {DEFAULT_CODEC}."
        )
    _check_codec(codec)
    return codec.eval()


class _CodecOfBark(EncodecModel):
    """An EnCodec that finds the rest of Bark in its checkpoint and says nothing about it."""

    _keys_to_ignore_on_load_unexpected = [r"^(semantic|coarse_acoustics|fine_acoustics)\."]


def _check_codec(codec: EncodecModel) -> None:
    config = codec.config
    frame_rate, codebooks = config.frame_rate, int(1000 * BANDWIDTH // (config.frame_rate * 10))  # 10 bits per code
    if (config.sampling_rate, frame_rate, codebooks) != (CODEC_SAMPLING_RATE, CODEC_RATE_HZ, NUM_CODEBOOKS):
        raise ValueError(
            f"The codec works at {config.sampling_rate} Hz with {frame_rate} frames per second; Bark's at "
            f"{CODEC_SAMPLING_RATE} Hz with {CODEC_RATE_HZ}. Take {DEFAULT_CODEC}, or the codec_model of a Bark."
        )
    if BANDWIDTH not in config.target_bandwidths:
        raise ValueError(
            f"The codec offers {config.target_bandwidths} kbps; Bark's codes need {BANDWIDTH}. Take {DEFAULT_CODEC}."
        )


def _encode(clip: np.ndarray, encoder: AudioToBarkSemanticPipeline, codec: EncodecModel) -> dict[str, np.ndarray]:
    """Tokens, confidence and codes of a clip at 24 kHz; an encoder without ears reads the codes."""
    codes = encode_codes(clip, codec)
    if encoder.model.backbone is None:
        result = encoder({"audio_codes": codes})
    else:
        result = encoder(resample(clip, CODEC_SAMPLING_RATE, SAMPLING_RATE), source_sampling_rate=SAMPLING_RATE)
    return {**result, "audio_codes": codes}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


__all__ = ["ClonedVoice", "clone_voice", "encode_codes", "load_codec"]
