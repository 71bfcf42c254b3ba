"""Turn recordings of a person into a voice prompt for Bark.

    clone_voice       recordings + encoder + codec -> ClonedVoice
    clearest_window   choose the part of a recording to use
    encode_clip       a clip's semantic tokens and codes; `encode_clips` for several clips
    read_clips        semantic tokens without codes
    encode_codes      audio codes; `decode_codes` is the inverse

    recording ──> clearest_window ──┬──> encoder ──> semantic tokens ──┐
                                    └──> codec ────> audio codes ──────┴──> VoicePrompt ──> join_prompts

Encoder and codec read the same part of the recording, so tokens and codes start at the same moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from transformers import EncodecModel

from ..audio import LongRecording, read_audio, resample
from ..bark.configs import SUNO_HISTORIES, HistoryLengths
from ..bark.loading import BANDWIDTH, check_codec
from ..bark.text_informed import TextInformedDecoder
from ..bark.voice_prompt import VoicePrompt, VoicePromptError, join_prompts
from ..configuration_bark_semantic import CODEC_HOP_LENGTH, CODEC_SAMPLING_RATE, SAMPLING_RATE
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from .window import PromptReport, PromptWindow, best_windows, prompt_report

CANDIDATES = 6  # best windows of a recording by their audio; the encoder reads all of them
CONFIDENCE_WEIGHT = 3.0  # relative to the score of the audio
MAX_RECORDINGS = 8  # a voice prompt lasts 6.83 s, and a share below 0.85 s is too short for a phrase


class SemanticEncoder(Protocol):
    """An encoder of clips to semantic tokens, such as `pipeline("audio-to-bark-semantic", model=...)`."""

    model: BarkSemanticEncoderModel

    def __call__(self, inputs: list, *, source_sampling_rate: int | None = None, **batching: Any) -> list[dict]:
        """`semantic_tokens` and `confidence`, both `(num_tokens,)`, for waveforms or `{"audio_codes": ...}`."""


@dataclass(frozen=True)
class ClonedVoice:
    """A voice prompt, with reports on the recordings.

    Args:
        prompt (`VoicePrompt`): the voice.
        report (`PromptReport`): how much of the prompt Bark reads.
        windows (`tuple[PromptWindow, ...]`): the part of each recording that was used.
        reports (`tuple[PromptReport, ...]`): a report on each part, with measures of its audio.
        confidence (`float`): the encoder's mean probability of its tokens.
        texts (`tuple[str, ...]`): the transcript of each part, if there is one.
    """

    prompt: VoicePrompt
    report: PromptReport
    windows: tuple[PromptWindow, ...]
    reports: tuple[PromptReport, ...]
    confidence: float
    texts: tuple[str, ...] = ()


def clone_voice(
    recordings: Any | Sequence[Any],
    encoder: SemanticEncoder,
    *,
    codec: EncodecModel,
    histories: HistoryLengths = SUNO_HISTORIES,
    transcribe: Callable[[np.ndarray], str] | None = None,
    bark: TextInformedDecoder | None = None,
) -> ClonedVoice:
    """Make a voice prompt of one or several recordings of a speaker.

    The clearest window of each recording is used. Together they have the length that Bark reads, 5.13 to 6.83 s for
    Suno's, in equal shares.

    Args:
        recordings: an input of [`load_audio`], or a list of them; the last one has most effect.
        encoder (`SemanticEncoder`): `pipeline("audio-to-bark-semantic", model=...)`.
        codec (`EncodecModel`): `load_codec()`, or `bark.codec_model`.
        histories (`HistoryLengths`): how much the Bark reads, `bark_generation_configs(bark).history_lengths`; the
            default is Suno's.
        transcribe (`Callable`, *optional*): returns the transcript of a waveform, `(num_samples,)` at 16 kHz, such as
            a recognizer from [`load_transcriber`]. With `bark`, the tokens are text-informed if it recognizes words.
        bark (`TextInformedDecoder`, *optional*): as in [`encode_clip`].

    Raises:
        AudioError: a recording cannot be used.
        VoicePromptError: more than `MAX_RECORDINGS` recordings, or none.
        ValueError: the codec is not the one of Bark: 24 kHz, 75 frames per second, 8 codebooks at 6 kbps.
    """
    recordings = list(recordings) if isinstance(recordings, (list, tuple)) else [recordings]
    if not 1 <= len(recordings) <= MAX_RECORDINGS:
        raise VoicePromptError(
            f"{len(recordings)} recordings were given; a voice prompt needs 1 to {MAX_RECORDINGS}. "
            "Choose the clearest."
        )
    check_codec(codec)
    share = len(recordings)
    min_s, max_s = (seconds / share for seconds in histories.window_s)
    prompts, windows, reports, confidences, texts = [], [], [], [], []
    for recording in recordings:
        waveform = read_audio(recording, CODEC_SAMPLING_RATE)
        window = clearest_window(waveform, encoder, codec=codec, min_s=min_s, max_s=max_s)
        clip = window.cut(waveform, CODEC_SAMPLING_RATE)
        if transcribe is not None:
            texts.append(transcribe(resample(clip, CODEC_SAMPLING_RATE, SAMPLING_RATE)).strip())
        text = texts[-1] or None if texts else None  # None without transcription, or without recognized words
        encoded = encode_clip(clip, encoder, codec=codec, text=text, bark=bark)
        sizes = {
            "semantic_vocab_size": encoder.model.config.vocab_size,
            "codebook_size": codec.config.codebook_size,
        }
        prompts.append(VoicePrompt.from_tokens_and_codes(encoded["semantic_tokens"], encoded["audio_codes"], **sizes))
        windows.append(window)
        reports.append(prompt_report(prompts[-1], clip, CODEC_SAMPLING_RATE, histories=histories))
        confidences.append(encoded["confidence"])
    prompt = prompts[0] if share == 1 else join_prompts(prompts, max_tokens=histories.most_tokens)
    return ClonedVoice(
        prompt=prompt,
        report=reports[0] if share == 1 else prompt_report(prompt, histories=histories),
        windows=tuple(windows),
        reports=tuple(reports),
        confidence=float(np.concatenate(confidences).mean()),
        texts=tuple(texts),
    )


def clearest_window(
    waveform: np.ndarray | LongRecording, encoder: SemanticEncoder, *, codec: EncodecModel, min_s: float, max_s: float
) -> PromptWindow:
    """The part of a recording that makes the best voice prompt, by its audio and by the encoder's confidence.

    Of the `CANDIDATES` windows with the highest scores, it has the largest sum of score and `CONFIDENCE_WEIGHT` times
    the encoder's mean confidence.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`, or `LongRecording`): 24 kHz.
        encoder (`SemanticEncoder`), codec (`EncodecModel`): as in [`encode_clip`].
        min_s (`float`), max_s (`float`): bounds of its length.

    Raises:
        VoicePromptError: as in [`best_windows`].
    """
    windows = best_windows(waveform, CODEC_SAMPLING_RATE, count=CANDIDATES, min_s=min_s, max_s=max_s)
    if len(windows) == 1:
        return windows[0]

    def clarity(window: PromptWindow) -> float:
        [read] = read_clips([window.cut(waveform, CODEC_SAMPLING_RATE)], encoder, codec=codec)
        return window.score + CONFIDENCE_WEIGHT * float(read["confidence"].mean())

    return max(windows, key=clarity)


def encode_codes(waveform: np.ndarray, codec: EncodecModel) -> np.ndarray:
    """Bark's audio codes of a waveform.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`): 24 kHz.
        codec (`EncodecModel`): Bark's codec.

    Returns:
        `np.ndarray`: int64 of shape `(8, ceil(num_samples / 320))`.
    """
    return _encode_codes([waveform], codec)[0]


def _encode_codes(waveforms: Sequence[np.ndarray], codec: EncodecModel) -> list[np.ndarray]:
    """The codes of each waveform. Padding does not change them, because it is on the right and the codec is causal."""
    lengths = [-(-len(waveform) // CODEC_HOP_LENGTH) for waveform in waveforms]
    padded = np.zeros((len(waveforms), 1, max(lengths) * CODEC_HOP_LENGTH), np.float32)  # (batch, channels, samples)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[0, : len(waveform)] = waveform
    with torch.no_grad():
        input_values = torch.from_numpy(padded).to(codec.device, codec.dtype)
        codes = codec.encode(input_values, bandwidth=BANDWIDTH).audio_codes  # (chunks, batch, codebooks, frames)
    return [row[:, :length] for row, length in zip(codes[0].cpu().numpy(), lengths, strict=True)]


@torch.inference_mode()
def decode_codes(audio_codes: np.ndarray, codec: EncodecModel) -> np.ndarray:
    """Audio codes of shape `(8, num_frames)` to a waveform, `(num_samples,)`, at 24 kHz."""
    codes = torch.from_numpy(np.asarray(audio_codes, np.int64)).to(codec.device)[:, None]  # (8, 1, num_frames)
    return codec.decoder(codec.quantizer.decode(codes))[0, 0].float().cpu().numpy()


def encode_clip(
    clip: np.ndarray,
    encoder: SemanticEncoder,
    *,
    codec: EncodecModel,
    text: str | None = None,
    bark: TextInformedDecoder | None = None,
) -> dict[str, np.ndarray]:
    """Encode a clip to semantic tokens and codes.

    Args:
        clip (`np.ndarray` of shape `(num_samples,)`): 24 kHz.
        encoder (`SemanticEncoder`): reads the waveform or, without a backbone for waveforms, the codes.
        codec (`EncodecModel`): Bark's codec.
        text (`str`, *optional*): the whole transcript of the clip; with `bark`, the tokens are likely for both encoder
            and Bark.
        bark (`TextInformedDecoder`, *optional*): a decoder with the Bark of these tokens.

    Returns:
        `dict`: the encoder's output (`semantic_tokens` `(num_tokens,)`, `confidence`, ...) and `audio_codes`
            `(8, num_frames)`.

    Raises:
        ValueError: the clip or the text is too long for one generation of Bark.
    """
    codes = [encode_codes(clip, codec)]
    words = {} if text is None else {"text": [text], "bark": bark}
    [answer] = read_clips([clip], encoder, codec=codec, audio_codes=codes, **words)
    return {**answer, "audio_codes": codes[0]}


def encode_clips(
    clips: Sequence[np.ndarray], encoder: SemanticEncoder, *, codec: EncodecModel
) -> list[dict[str, np.ndarray]]:
    """Encode several clips in one batch, each as [`encode_clip`] does without a text; shorter ones are padded."""
    codes = _encode_codes(clips, codec)
    answers = read_clips(clips, encoder, codec=codec, audio_codes=codes)
    return [{**answer, "audio_codes": row} for answer, row in zip(answers, codes, strict=True)]


def read_clips(
    clips: Sequence[np.ndarray],
    encoder: SemanticEncoder,
    *,
    codec: EncodecModel,
    audio_codes: Sequence[np.ndarray] | None = None,
    **words: Any,
) -> list[dict[str, Any]]:
    """Encode several clips in one batch to semantic tokens, as [`encode_clips`] does, but without codes.

    The codec runs only for an encoder without a backbone for waveforms, and only if `audio_codes`, `(8, num_frames)`
    for each clip, are not passed. `words` are the encoder's arguments `text`, a list with a text for each clip, and
    `bark`.
    """
    inputs: list[Any]
    if encoder.model.backbone is None:
        inputs = [{"audio_codes": row} for row in audio_codes or _encode_codes(clips, codec)]
    else:
        inputs = [resample(clip, CODEC_SAMPLING_RATE, SAMPLING_RATE) for clip in clips]
    batching = {"batch_size": len(inputs), "num_windows": None}  # as many windows as suit the device
    return encoder(inputs, source_sampling_rate=SAMPLING_RATE, **batching, **words)


__all__ = [
    "ClonedVoice",
    "clearest_window",
    "clone_voice",
    "decode_codes",
    "encode_clip",
    "encode_clips",
    "encode_codes",
    "read_clips",
]
