"""Speech in one voice: text of any length, or the words of a recording.

    SpeechOptions            options of prompting and sampling
    speak_text               text + voice prompt -> Speech; `speak_texts` speaks several texts in batches
    speak_tokens             semantic tokens + voice prompt -> Speech
    convert_speech           a recording + voice prompt -> Speech: the same words in the other voice
    stream_text, stream_conversion   the same as an iterator over SpokenPieces
    prompt_from_transcript   a voice prompt with semantic tokens that Bark generates from the recording's transcript

    text ──> split_text ──> pieces ──> synthesize ──> waveforms ──> one waveform, with short pauses

No part of the text is dropped without a warning: a piece that Bark does not finish is spoken again, and a piece that
fails twice is in the warnings. Speech is the joined stream, so both have the same samples; in both, the first piece is
short and computed alone.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from transformers import BarkModel, PreTrainedTokenizerBase

from ..audio import MIN_DURATION_S, is_silent, load_audio, resample
from ..bark.configs import bark_generation_configs
from ..bark.prompting import MAX_PIECE_S, longest_generation, text_to_ids
from ..bark.request import FLAWS, PROMPT_MODES, SynthesisRequest, SynthesisResult
from ..bark.sampling import Sampling
from ..bark.synthesis import synthesize, text_to_semantic
from ..bark.voice_prompt import VoicePrompt, VoicePromptError, join_prompts
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE, SAMPLING_RATE, num_codec_frames, num_semantic_tokens
from .cloning import SemanticEncoder, read_clips
from .splitting import piece_fits, split_text
from .unknown_words import unknown_words_warning

logger = logging.getLogger(__name__)

LONG_FORMS = ("fixed", "rolling")
MIN_TRANSCRIPT_SHARE = 0.6  # share of a recording that its words should take; speakers differ by less
SHOWN_CHARACTERS = 40


class NothingSaid(RuntimeError):
    """Bark generated no speech for a text."""


@dataclass(frozen=True)
class SpeechOptions:
    """How Bark is prompted and sampled.

    Args:
        prompt_mode (`str`): which stages receive the voice prompt: all (`"full"`), the coarse and the fine one
            (`"acoustic"`), the text stage (`"semantic"`) or none (`"none"`).
        semantic_temperature, coarse_temperature, fine_temperature (`float`, *optional*): of the three stages; 0 always
            chooses the likeliest token. By default `speech_temperature` of the Bark's generation config; if it has
            none, as Suno's, 0.7, 0.7 and 0.5.
        min_eos_p (`float`, *optional*): the text stage stops as soon as the end token has this probability.
        guidance_scale (`float`, *optional*), voice_guidance_scale (`float`, *optional*): classifier-free guidance of
            the text and the coarse stage by the content and by the voice prompt, see [`Sampling`]. Above 1, words are
            clearer or the voice is closer, and a stage takes two or three times as long. By default those of the
            Bark's generation config; if it has none, as Suno's, 1.
        seed (`int`): the same seed gives the same speech.
        long_form (`str`): the prompt of each piece of a long text. `"fixed"`: the voice prompt; after the first piece,
            `batch_size` pieces are computed at once. `"rolling"`: the end of the piece before, preceded by the earlier
            prompt if that piece is short.
        pause_s (`float`): silence between two pieces of text, in seconds.

    Raises:
        ValueError: a value outside of its range.
    """

    prompt_mode: str = "full"
    semantic_temperature: float | None = None
    coarse_temperature: float | None = None
    fine_temperature: float | None = None
    min_eos_p: float | None = 0.2
    guidance_scale: float | None = None
    voice_guidance_scale: float | None = None
    seed: int = 0
    long_form: str = "fixed"
    pause_s: float = 0.15

    def __post_init__(self):
        for name, value, legal in (
            ("prompt_mode", self.prompt_mode, PROMPT_MODES),
            ("long_form", self.long_form, LONG_FORMS),
        ):
            if value not in legal:
                raise ValueError(f"`{name}` is {value!r}; it must be one of {', '.join(map(repr, legal))}.")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"`seed` is {self.seed!r}; it must be a whole number, 0 or more.")
        if not 0 <= self.pause_s <= 10:
            raise ValueError(f"`pause_s` is {self.pause_s!r}; it must be between 0 and 10 seconds.")
        self._samplings()  # checks the other options

    def request(self, *, number: int = 0, **content: Any) -> SynthesisRequest:
        """The request for piece `number` of a speech; `content` as in [`SynthesisRequest`]."""
        content = {"prompt_mode": self.prompt_mode, **content}
        return SynthesisRequest(**content, seed=_derived_seed(self.seed, number, 0), **self._samplings())

    def _samplings(self) -> dict[str, Any]:
        """The sampling of the three stages."""
        guidance: dict[str, Any] = {
            "guidance_scale": self.guidance_scale,
            "voice_guidance_scale": self.voice_guidance_scale,
        }
        return {
            "semantic": Sampling(self.semantic_temperature, min_eos_p=self.min_eos_p, **guidance),
            "coarse": Sampling(self.coarse_temperature, **guidance),
            "fine": Sampling(self.fine_temperature),
        }


@dataclass(frozen=True, eq=False)
class Speech:
    """What a Bark has spoken.

    Args:
        waveform (`np.ndarray`): float32 of shape `(num_samples,)`.
        sampling_rate (`int`): of the waveform, in Hz.
        pieces (`tuple[SynthesisResult, ...]`): the results that were joined, in order.
        warnings (`tuple[str, ...]`): messages about words that the Bark does not know, and words that may be missing.
    """

    waveform: np.ndarray
    sampling_rate: int
    pieces: tuple[SynthesisResult, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SpokenPiece:
    """A piece of a speech.

    Args:
        waveform (`np.ndarray`): float32 of shape `(num_samples,)`, with the pause before it; no samples if Bark
            generated none. The waveforms of all pieces, joined, are the waveform of the speech.
        sampling_rate (`int`): of the waveform, in Hz.
        number (`int`), num_pieces (`int`): number of this piece, from 1, and of all pieces.
        result (`SynthesisResult`, *optional*): the result of the synthesis; `None` for a silent part of a recording.
        warnings (`tuple[str, ...]`): as in [`Speech`].
    """

    waveform: np.ndarray
    sampling_rate: int
    number: int
    num_pieces: int
    result: SynthesisResult | None
    warnings: tuple[str, ...] = ()


def speak_text(
    bark: BarkModel,
    text: str,
    voice: VoicePrompt | None,
    *,
    tokenizer: PreTrainedTokenizerBase,
    options: SpeechOptions | None = None,
    batch_size: int = 8,
    on_step: Callable[[str], Any] | None = None,
) -> Speech:
    """Speak a text of any length.

    Text that does not fit into one generation is split at sentences, and the first piece is short, see [`split_text`].
    A piece that Bark does not finish, or for which it generates nothing, is spoken once more with another seed. If it
    fails again, the warnings of the result name it. They also name words that the Bark does not know, see
    [`unknown_words_warning`]. Warnings are also logged; those about unknown words before anything is computed.

    Args:
        bark (`BarkModel`): any.
        text (`str`): in Bark's notation, with `[laughs]`, ♪, MAN:, WOMAN: and CAPITALS.
        voice (`VoicePrompt`, *optional*): of this Bark's vocabularies; `None` with `prompt_mode="none"` only.
        tokenizer (`PreTrainedTokenizerBase`): the Bark's.
        options (`SpeechOptions`, *optional*): the defaults of the class.
        batch_size (`int`): pieces that are computed at once, after the first, which is computed alone.
        on_step (`Callable[[str], Any]`, *optional*): as in [`synthesize`].

    Raises:
        ValueError: an empty text, or no voice for a mode that needs one.
        RuntimeError: Bark generated no speech at all.
    """
    return _joined(
        stream_text(bark, text, voice, tokenizer=tokenizer, options=options, batch_size=batch_size, on_step=on_step),
        bark,
    )


def stream_text(
    bark: BarkModel,
    text: str,
    voice: VoicePrompt | None,
    *,
    tokenizer: PreTrainedTokenizerBase,
    options: SpeechOptions | None = None,
    batch_size: int = 8,
    on_step: Callable[[str], Any] | None = None,
) -> Iterator[SpokenPiece]:
    """Speak a text, and yield each piece as soon as it is spoken. Pieces that are not requested are not computed.

    Arguments and errors are those of [`speak_text`]; the error for no speech at all is raised at the end.
    """
    speaker = _Speaker(bark, tokenizer, options or SpeechOptions(), batch_size, on_step)
    return speaker.finished(speaker.speak(speaker.split(text), voice), text)


def speak_texts(
    bark: BarkModel,
    texts: Sequence[str],
    voice: VoicePrompt | None,
    *,
    tokenizer: PreTrainedTokenizerBase,
    options: SpeechOptions | None = None,
    batch_size: int = 8,
    on_step: Callable[[str], Any] | None = None,
) -> Iterator[Speech | ValueError | NothingSaid]:
    """Speak several texts, each as [`speak_text`] does, with pieces of all of them in one batch.

    With `long_form="rolling"`, where a piece waits for the one before, the texts are spoken one by one.

    Args:
        texts (sequence of `str`): of any length.
        batch_size (`int`): pieces that are computed at once.
        bark, voice, tokenizer, options, on_step: as in [`speak_text`].

    Returns:
        `Iterator[Speech | Exception]`: in the order of the texts, each as soon as it is spoken. For a text that is
            empty or for which Bark generates no speech, it yields the error that [`speak_text`] raises.

    Raises:
        VoicePromptError: no voice for a mode that needs one.
    """
    speaker = _Speaker(bark, tokenizer, options or SpeechOptions(), batch_size, on_step)
    planned: list[list[dict[str, Any]] | ValueError] = []
    for text in texts:
        try:
            planned.append(speaker.split(text))
        except ValueError as error:
            planned.append(error)
    speakable = [contents for contents in planned if isinstance(contents, list)]
    spoken = speaker.speak_side_by_side(speakable, voice)
    for text, contents in zip(texts, planned, strict=True):
        if isinstance(contents, ValueError):
            yield contents
            continue
        try:
            speech: Speech | NothingSaid = _joined(speaker.finished(islice(spoken, len(contents)), text), bark)
        except NothingSaid as error:
            speech = error
        yield speech


def speak_tokens(
    bark: BarkModel,
    pieces: Sequence[np.ndarray],
    voice: VoicePrompt | None,
    *,
    options: SpeechOptions | None = None,
    batch_size: int = 8,
    on_step: Callable[[str], Any] | None = None,
) -> Speech:
    """Speak semantic tokens.

    Args:
        pieces (sequence of `np.ndarray` of shape `(num_tokens,)`): ids of this Bark's vocabulary; the speech of the
            pieces is joined without pauses.
        bark, voice, options, batch_size, on_step: as in [`speak_text`]; the text stage does not run.
    """
    speaker = _Speaker(bark, None, options or SpeechOptions(), batch_size, on_step)
    return _joined(speaker.speak([{"semantic_tokens": tokens} for tokens in pieces], voice), bark)


def convert_speech(
    bark: BarkModel,
    recording: Any,
    voice: VoicePrompt | None,
    *,
    encoder: SemanticEncoder,
    options: SpeechOptions | None = None,
    batch_size: int = 8,
    on_step: Callable[[str], Any] | None = None,
) -> Speech:
    """Speak the words of a recording in another voice, with the same timing.

    Args:
        recording: an input of [`load_audio`]. If it is longer than 14 s, it is cut at its quietest moments. A part
            without sound becomes silence of the same length.
        encoder (`SemanticEncoder`): of this Bark's tokens.
        on_step (`Callable[[str], Any]`, *optional*): as in [`synthesize`], with `"encoder"` for each part.
        bark, voice, options, batch_size: as in [`speak_tokens`].

    Returns:
        `Speech`: as long as the recording, except for rounding to tokens, at most 20 ms for each part.

    Raises:
        AudioError: the recording cannot be used.
    """
    return _joined(
        stream_conversion(
            bark, recording, voice, encoder=encoder, options=options, batch_size=batch_size, on_step=on_step
        ),
        bark,
    )


def stream_conversion(
    bark: BarkModel,
    recording: Any,
    voice: VoicePrompt | None,
    *,
    encoder: SemanticEncoder,
    options: SpeechOptions | None = None,
    batch_size: int = 8,
    on_step: Callable[[str], Any] | None = None,
) -> Iterator[SpokenPiece]:
    """Convert a recording, and yield each part as soon as it is spoken. The encoder reads all parts first.

    Arguments and errors are those of [`convert_speech`].
    """
    waveform = load_audio(recording, CODEC_SAMPLING_RATE)
    silences: list[np.ndarray | None] = []
    contents = []
    for clip in cut_at_quiet_moments(waveform, CODEC_SAMPLING_RATE, MAX_PIECE_S):
        if on_step is not None:
            on_step("encoder")
        if is_silent(resample(clip, CODEC_SAMPLING_RATE, SAMPLING_RATE)):
            silences.append(np.zeros_like(clip))
        else:
            silences.append(None)
            [read] = read_clips([clip], encoder, codec=bark.codec_model)
            contents.append({"semantic_tokens": read["semantic_tokens"]})
    speaker = _Speaker(bark, None, options or SpeechOptions(), batch_size, on_step)
    return _with_silences(speaker.speak(contents, voice), silences, bark.generation_config.sample_rate)


def prompt_from_transcript(
    bark: BarkModel,
    transcript: str,
    audio_codes: np.ndarray,
    *,
    tokenizer: PreTrainedTokenizerBase,
    options: SpeechOptions | None = None,
) -> VoicePrompt:
    """Make a voice prompt without an encoder: Bark's text stage generates the tokens from the recording's words.

    This is the first method of Serp.ai's bark-with-voice-clone. Tokens and codes are cut to the shorter of the two.
    Nothing else aligns them, so if the text stage speaks with another timing, words and sound do not match.

    Args:
        transcript (`str`): all words of the recording.
        audio_codes (`np.ndarray` of shape `(8, num_frames)`): its codes.
        bark, tokenizer, options: as in [`speak_text`].

    Raises:
        ValueError: more text than Bark reads at once, or no text.
        RuntimeError: the text stage generated no tokens.
    """
    options, configs = options or SpeechOptions(), bark_generation_configs(bark)
    max_ids = configs.semantic.max_input_semantic_length
    num_ids = len(text_to_ids(transcript, tokenizer))
    if not 1 <= num_ids <= max_ids:
        raise ValueError(
            f"`reference_text` has {num_ids} text tokens; Bark reads 1 to {max_ids} at once. Use a shorter part of "
            "the recording with its words."
        )
    most_tokens = longest_generation(configs, bark.semantic.config.block_size)
    num_tokens = min(num_semantic_tokens(audio_codes.shape[1]), most_tokens)
    request = options.request(text=transcript, voice_prompt=None, prompt_mode="none", max_semantic_tokens=num_tokens)
    ((tokens, _),) = text_to_semantic(bark, [request], tokenizer=tokenizer)
    if not len(tokens):
        raise RuntimeError("Bark's text stage made nothing of `reference_text`. Check it, or try another seed.")
    if len(tokens) < MIN_TRANSCRIPT_SHARE * num_tokens:
        logger.warning(
            "Bark says %s in %.1f s, but the recording lasts %.1f s; only that much of it becomes the voice prompt. "
            "Is this all that is said there?",
            _shown(transcript),
            len(tokens) / configs.semantic.semantic_rate_hz,
            audio_codes.shape[1] / configs.coarse.coarse_rate_hz,
        )
    return VoicePrompt(tokens, audio_codes[:, : num_codec_frames(len(tokens))], **configs.vocabularies)


def cut_at_quiet_moments(waveform: np.ndarray, sampling_rate: int, max_s: float) -> list[np.ndarray]:
    """Cut a waveform into parts of at most `max_s` seconds, each at the quietest 0.1 s of its second half.

    The last part may be 0.1 s longer, because a shorter rest has no speech.
    """
    parts, longest, frame = [], round(max_s * sampling_rate), round(0.02 * sampling_rate)
    while len(waveform) > longest + MIN_DURATION_S * sampling_rate:
        first = longest // 2
        energy = np.square(waveform[first : longest - (longest - first) % frame]).reshape(-1, frame).sum(1)
        quietest = int(np.argmin(np.convolve(energy, np.ones(5), "valid"))) + 2  # the middle of five frames
        end = first + quietest * frame + frame // 2
        parts.append(waveform[:end])
        waveform = waveform[end:]
    return [*parts, waveform]


class _Piece(NamedTuple):
    """A request for piece `number`, from 1, of the `num_pieces` of a speech."""

    number: int
    num_pieces: int
    request: SynthesisRequest


@dataclass(frozen=True)
class _Speaker:
    """Synthesizes the pieces of speeches, again with another seed if words may be missing."""

    bark: BarkModel
    tokenizer: PreTrainedTokenizerBase | None
    options: SpeechOptions
    batch_size: int
    on_step: Callable[[str], Any] | None

    def split(self, text: str) -> list[dict[str, Any]]:
        """The pieces of a text."""
        fits = piece_fits(self.tokenizer, bark_generation_configs(self.bark), self.bark.semantic.config.block_size)
        return [{"text": piece} for piece in split_text(text, fits, short_first=True)]

    def finished(self, pieces: Iterable[SpokenPiece], text: str) -> Iterator[SpokenPiece]:
        """The pieces of a text with pauses; the first has the warning about unknown words."""
        spoken = _with_pauses(pieces, text, self.options.pause_s)
        warning = unknown_words_warning(text, self.tokenizer, bark_generation_configs(self.bark))
        if warning is None:
            return spoken
        logger.warning("%s", warning)
        return (
            replace(piece, warnings=(warning, *piece.warnings)) if piece.number == 1 else piece for piece in spoken
        )

    def speak(self, contents: Sequence[dict[str, Any]], voice: VoicePrompt | None) -> Iterator[SpokenPiece]:
        """The spoken pieces of one speech, without pauses; each is a text or semantic tokens."""
        pieces = self._pieces(contents, voice)
        return self._speak_fixed(pieces) if self.options.long_form == "fixed" else self._speak_rolling(pieces)

    def speak_side_by_side(
        self, speeches: Sequence[Sequence[dict[str, Any]]], voice: VoicePrompt | None
    ) -> Iterator[SpokenPiece]:
        """The spoken pieces of several speeches, in order, in full batches."""
        if self.options.long_form == "rolling":
            for contents in speeches:
                yield from self.speak(contents, voice)
            return
        pieces = [piece for contents in speeches for piece in self._pieces(contents, voice)]
        for first in range(0, len(pieces), self.batch_size):
            yield from self._speak_together(pieces[first : first + self.batch_size])

    def _pieces(self, contents: Sequence[dict[str, Any]], voice: VoicePrompt | None) -> list[_Piece]:
        mode = self.options.prompt_mode
        if mode != "none" and voice is None:
            raise VoicePromptError(
                f"prompt_mode={mode!r} needs a voice. Give one, or speak without: prompt_mode='none'."
            )
        voice = None if mode == "none" else voice
        return [
            _Piece(i + 1, len(contents), self.options.request(number=i, voice_prompt=voice, **what))
            for i, what in enumerate(contents)
        ]

    def _speak_fixed(self, pieces: Sequence[_Piece]) -> Iterator[SpokenPiece]:
        """Pieces that are all prompted with the voice: the first one alone, then in batches."""
        bounds = [0, *range(1, len(pieces), self.batch_size), len(pieces)]
        for first, end in pairwise(bounds):
            yield from self._speak_together(pieces[first:end])

    def _speak_rolling(self, pieces: Sequence[_Piece]) -> Iterator[SpokenPiece]:
        """Pieces that are each prompted with the end of the preceding one."""
        prompt = pieces[0].request.voice_prompt if pieces else None
        for piece in pieces:
            if piece.number > 1 and prompt is not None:
                mode = "full" if piece.request.prompt_mode == "none" else piece.request.prompt_mode
                piece = piece._replace(request=replace(piece.request, voice_prompt=prompt, prompt_mode=mode))
            (spoken,) = self._speak_together([piece])
            yield spoken
            prompt = self._next_prompt(prompt, spoken.result)

    def _speak_together(self, pieces: Sequence[_Piece]) -> list[SpokenPiece]:
        """Pieces in one batch; if words may be missing, the text stage runs twice."""

        def retry(index: int, request: SynthesisRequest, finish_reason: str) -> SynthesisRequest:
            logger.warning("%s. It is tried again with another seed.", _flaw(pieces[index], finish_reason))
            return replace(request, seed=_derived_seed(request.seed, pieces[index].number - 1, 1))

        results = synthesize(
            self.bark,
            [piece.request for piece in pieces],
            tokenizer=self.tokenizer,
            batch_size=self.batch_size,
            on_step=self.on_step,
            retry=retry,
        )
        return [_spoken(pieces[result.index], result) for result in results]

    def _next_prompt(self, prompt: VoicePrompt | None, result: SynthesisResult | None) -> VoicePrompt | None:
        if result is None or not len(result.semantic_tokens):
            return prompt
        configs = bark_generation_configs(self.bark)
        tokens, codes = result.semantic_tokens, result.audio_codes
        spoken = VoicePrompt.from_tokens_and_codes(tokens, codes, **configs.vocabularies)
        histories = configs.history_lengths
        if prompt is None or spoken.num_tokens > histories.coarse_tokens:
            return spoken
        return join_prompts([prompt, spoken], max_tokens=histories.most_tokens)


def _spoken(piece: _Piece, result: SynthesisResult) -> SpokenPiece:
    warnings: tuple[str, ...] = ()
    if result.finish_reason in FLAWS:
        warning = (
            f"{_flaw(piece, result.finish_reason)} again, so words are missing from the "
            "speech. Listen to it; another seed, a lower semantic_temperature or shorter sentences may help."
        )
        warnings = (warning,)
        logger.warning("%s", warning)
    return SpokenPiece(result.waveform, result.sampling_rate, piece.number, piece.num_pieces, result, warnings)


def _flaw(piece: _Piece, finish_reason: str) -> str:
    flaw = "Bark said nothing for" if finish_reason == "empty" else "Bark did not finish"
    return f"{flaw} piece {piece.number} of {piece.num_pieces} ({_shown(piece.request.text or '')})"


def _derived_seed(seed: int, number: int, attempt: int) -> int:
    """A seed for an attempt at a piece; for the first attempt at the first piece, the seed itself."""
    if number == attempt == 0:
        return seed
    return int(np.random.SeedSequence([seed, number, attempt]).generate_state(1)[0])


def _with_pauses(pieces: Iterable[SpokenPiece], text: str, pause_s: float) -> Iterator[SpokenPiece]:
    """The pieces of a text with pauses between them."""
    speaks = False
    for piece in pieces:
        if len(piece.waveform) and speaks:
            pause = np.zeros(round(pause_s * piece.sampling_rate), np.float32)
            piece = replace(piece, waveform=np.concatenate([pause, piece.waveform]))
        speaks = speaks or len(piece.waveform) > 0
        yield piece
    if not speaks:
        raise NothingSaid(
            f"Bark said nothing for {_shown(text)}, with {piece.num_pieces} pieces and two seeds each. Try another "
            "seed, a longer text or another voice."
        )


def _with_silences(
    pieces: Iterator[SpokenPiece], silences: Sequence[np.ndarray | None], sampling_rate: int
) -> Iterator[SpokenPiece]:
    """All parts of a recording in order: spoken ones, and silence."""
    for number, silence in enumerate(silences, 1):
        if silence is None:
            yield replace(next(pieces), number=number, num_pieces=len(silences))
        else:
            yield SpokenPiece(silence, sampling_rate, number, len(silences), None)


def _joined(pieces: Iterable[SpokenPiece], bark: BarkModel) -> Speech:
    pieces = list(pieces)
    waveform = np.concatenate([np.zeros(0, np.float32), *(piece.waveform for piece in pieces)])
    results = tuple(piece.result for piece in pieces if piece.result is not None)
    warnings = tuple(warning for piece in pieces for warning in piece.warnings)
    return Speech(waveform, bark.generation_config.sample_rate, results, warnings)


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "...")


__all__ = [
    "NothingSaid",
    "Speech",
    "SpeechOptions",
    "SpokenPiece",
    "convert_speech",
    "cut_at_quiet_moments",
    "prompt_from_transcript",
    "speak_text",
    "speak_texts",
    "speak_tokens",
    "stream_conversion",
    "stream_text",
]
