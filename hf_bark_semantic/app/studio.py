"""The functions behind the page of `bark-semantic app`, without the page itself.

    Studio        Barks and adapters, loaded when they are first needed; one computation at a time, for all visitors
    cut_part, encode_part, prompt_of_part   a chosen part of a recording -> its tokens -> a voice prompt
    read_lines, spoken_together   pasted text -> lines to speak -> groups of lines for one batch

Only the jobs of visitors are stored here, by session; voices and texts are passed as arguments.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from transformers import BarkProcessor, pipeline

from ..audio import load_audio, read_audio, resample
from ..bark.configs import BarkGenerationConfigs, bark_generation_configs
from ..bark.loading import check_encoder, load_bark_processor, load_configs
from ..bark.presets import preset_language, preset_sex
from ..bark.prompting import MAX_PIECE_S
from ..bark.text_informed import TextInformedDecoder
from ..bark.voice_prompt import VoicePrompt, VoicePromptError
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE, SAMPLING_RATE
from ..environment import release_freed_memory
from ..evaluation.judges import Transcriber, has_whisper, load_transcriber
from ..packaged import BUILTIN, NANO, bark_folder, named_encoder, nano_bark
from ..pipelines.cloning import VOICE_CLONING_TASK, VoiceCloningPipeline
from ..voices.cloning import encode_clip
from ..voices.provenance import model_name
from ..voices.splitting import estimate_duration_s
from ..voices.unknown_words import unknown_words_warning
from .cached_barks import cached_barks
from .downloads import SUNO_BARKS, download
from .job import Cancelled, Job
from .shelf import unpack

MAX_LOADED = 2  # Barks in memory; the least recently used one is dropped
MAX_LINES = 500
LINES_AT_ONCE = 8  # or fewer long ones, which are split into pieces
MAX_LETTERS = 50_000  # of a text, or of all lines: about an hour of speech
MAX_CONVERTED_S = 600
MAX_SESSIONS = 5_000  # sessions whose number of cancellations is stored
WAIT_S = 0.2  # interval at which a waiting job checks whether it was cancelled

OWN, NOBODY, ADAPTER, PRESET = "own:", "nobody", "adapter", "preset:"  # kinds of voices; a name follows a colon


class Studio:
    """Computes for all visitors of the page, one job at a time.

    Args:
        bark (`str`): the first Bark of the menu: Hub id, folder or `"nano"`.
        encoder (`str` or sequence of `str`): Hub id or folder, or several for an ensemble; by default, the packaged
            encoder for the Bark.
        encoder_weights (sequence of `float`, *optional*): a weight for each encoder of an ensemble.
        adapters (`Mapping[str, str]`, *optional*): names and folders or Hub ids of fine-tuned adapters.
        device (`str`, *optional*), dtype (`str`): as in transformers' `pipeline`.
    """

    def __init__(
        self,
        bark: str = NANO,
        *,
        encoder: str | Sequence[str] = BUILTIN,
        encoder_weights: Sequence[float] | None = None,
        adapters: Mapping[str, str] | None = None,
        device: str | None = None,
        dtype: str = "auto",
    ):
        self.bark, self.adapters = bark, dict(adapters or {})
        self.encoders = [encoder] if isinstance(encoder, str) else list(encoder)
        self.cached = cached_barks()
        self.barks = list(dict.fromkeys([bark, *_packaged_barks(), *self.cached, *SUNO_BARKS]))
        self._loading = {"dtype": dtype, "weights": encoder_weights, **({} if device is None else {"device": device})}
        self._speakers: OrderedDict[str, VoiceCloningPipeline] = OrderedDict()
        self._descriptions: dict[str, tuple[BarkProcessor, BarkGenerationConfigs]] = {}
        self._bundles: dict[tuple[str, str], Any] = {}
        self.has_whisper = has_whisper()
        self._transcribe: Transcriber | None = None
        self._computing = threading.Lock()
        self._registering = threading.Lock()
        self._jobs: dict[str, set[Job]] = {}
        self._num_cancelled: dict[str, int] = {}

    @contextmanager
    def work(
        self, bark: str, adapter: str | None = None, *, job: Job, session: str = "", num_cancelled: int | None = None
    ) -> Iterator[VoiceCloningPipeline]:
        """A context manager that lends a Bark, with an adapter, to one job.

        Args:
            bark (`str`), adapter (`str`, *optional*): one of `barks`; one of the names of `adapters`.
            job (`Job`): the job; it is checked for cancellation at every step.
            session (`str`): the session of the job.
            num_cancelled (`int`, *optional*): the session's last result of [`cancel`] when the job was requested. A
                queued job does not start if its session has cancelled since.

        Raises:
            Cancelled: by [`cancel`].
            ValueError: no such Bark or adapter, or they do not match.
            OSError: a model cannot be loaded.
        """
        with self.registered(job, session, num_cancelled):
            while not self._computing.acquire(timeout=WAIT_S):
                job.show(0.0, "waiting for another computation")
                job.check()
            try:
                speaker = self._speaker(bark, job)
                self._set_adapter(speaker, bark, adapter)
                job.check()
                yield speaker
            finally:
                self._computing.release()
                release_freed_memory()  # jobs run in different threads, and glibc keeps memory for each

    @contextmanager
    def registered(self, job: Job, session: str = "", num_cancelled: int | None = None) -> Iterator[None]:
        """A context manager in which a session can cancel a job; arguments and errors as in [`work`]."""
        with self._registering:
            if num_cancelled is not None and num_cancelled < self._num_cancelled.get(session, 0):
                raise Cancelled
            self._jobs.setdefault(session, set()).add(job)
        try:
            yield
        finally:
            with self._registering:
                self._jobs[session].discard(job)
                if not self._jobs[session]:
                    del self._jobs[session]

    def cancel(self, session: str) -> int:
        """Stop the jobs of a session; return how often the session has cancelled."""
        with self._registering:
            self._num_cancelled[session] = self._num_cancelled.pop(session, 0) + 1
            while len(self._num_cancelled) > MAX_SESSIONS:
                del self._num_cancelled[next(iter(self._num_cancelled))]  # of the oldest session
            for job in self._jobs.get(session, ()):
                job.cancel()
            return self._num_cancelled[session]

    def is_here(self, bark: str) -> bool:
        """Whether a Bark of the menu can be used without a download."""
        return bark not in SUNO_BARKS or bark == self.bark or bark in self.cached

    def describe(self, bark: str) -> str:
        """The label of a Bark in the menu."""
        if bark == NANO:
            return "nano: 500 words, blurred voices"
        if not self.is_here(bark):
            return f"{bark}, to be downloaded"
        size = f", {self.cached[bark]} on this machine" if bark in self.cached else ""
        return model_name(bark) + size

    def download(self, bark: str, job: Job) -> None:
        """Download one of Suno's Barks from the Hub.

        Raises:
            Cancelled: by [`cancel`]; the finished part is kept.
            OSError: the Hub cannot be reached.
        """

        def show(share: float) -> None:
            job.check()
            job.show(share, f"downloading {bark}")

        if bark in SUNO_BARKS:
            download(bark, show)
        self.cached = cached_barks()

    def unknown_words(self, bark: str, text: str) -> str:
        """The result of [`unknown_words_warning`]; empty for a Bark whose voices have not been shown yet."""
        if bark not in self._descriptions or not text:
            return ""
        processor, configs = self._descriptions[bark]
        return unknown_words_warning(text, processor.tokenizer, configs) or ""

    def transcript(self, clip: np.ndarray) -> str:
        """The transcript of a clip, `(num_samples,)` at 24 kHz, by Whisper tiny.en, which is for English only.

        Raises:
            ImportError: the extra `asr` is not installed.
        """
        if self._transcribe is None:
            self._transcribe = load_transcriber()
        return self._transcribe(resample(clip, CODEC_SAMPLING_RATE, SAMPLING_RATE)).strip()

    def load_all(self) -> None:
        """Load the first Bark and every adapter, so that errors appear before the page opens."""
        for adapter in self.adapters or [None]:
            with self.work(self.bark, adapter, job=Job()):
                pass

    def voices(self, bark: str, adapter: str | None, own: Mapping[str, str]) -> list[tuple[str, str]]:
        """Labels and values of the voices to choose from: the visitor's, the adapter's, the Bark's, none.

        The Bark need not be loaded; the voice of an adapter is known once [`work`] has lent the Bark with it.

        Args:
            bark (`str`), adapter (`str`, *optional*): as in [`work`].
            own (`Mapping[str, str]`): the visitor's voices by name, from [`pack`]; those for another Bark are left
                out.

        Raises:
            OSError, ValueError: there is no such Bark on this machine, or its files are damaged.
        """
        processor, configs = self._description(bark)
        voices = [(name, OWN + name) for name in own if _fits(own[name], configs.vocabularies)]
        bundle = self._bundles.get((bark, adapter))
        if bundle is not None and bundle.voice_prompt is not None:
            voices.append((f"the voice of the adapter {bundle.name}", ADAPTER))
        voices += [(_preset_label(name, bark), PRESET + name) for name in processor.available_voice_presets]
        return [*voices, ("no voice: Bark makes one up", NOBODY)]

    def prompt(self, speaker: VoiceCloningPipeline, voice: str, own: Mapping[str, str]) -> VoicePrompt | None:
        """The voice prompt of a value of [`voices`]."""
        argument = _voice_argument(speaker, voice, own)
        return None if argument is None else speaker(argument)["voice_prompt"]

    def stream(
        self,
        speaker: VoiceCloningPipeline,
        voice: str,
        own: Mapping[str, str],
        *,
        text: str | None = None,
        convert: Any = None,
        job: Job,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        """Speak a text, or the words of a recording, piece by piece, as in the pipeline's `stream`.

        Args:
            speaker (`VoiceCloningPipeline`): from [`work`].
            voice (`str`), own (`Mapping[str, str]`): a value of [`voices`], and its argument.
            text, convert, options: as in the pipeline.
            job (`Job`): the argument of [`work`].
        """
        content = _checked_recording(convert, job) if convert is not None else _checked_text(text, job)
        return speaker.stream(_voice_argument(speaker, voice, own), **content, **_speaking(voice, job, options))

    def say(
        self,
        speaker: VoiceCloningPipeline,
        voice: str,
        own: Mapping[str, str],
        *,
        lines: Sequence[str],
        job: Job,
        **options: Any,
    ) -> Iterator[dict[str, Any] | Exception]:
        """Speak lines in one batch, as in the pipeline's `speak_texts`; other arguments as in [`stream`]."""
        job.expected_s, job.num_texts = sum(map(estimate_duration_s, lines)), len(lines)
        return speaker.speak_texts(_voice_argument(speaker, voice, own), lines, **_speaking(voice, job, options))

    def _speaker(self, bark: str, job: Job) -> VoiceCloningPipeline:
        if bark not in self.barks:
            raise ValueError(f"{bark!r} is not one of the models of this page: {', '.join(self.barks)}.")
        if not self.is_here(bark):
            raise ValueError(f"{bark} is not on this machine. Choose it in the menu, and download it first.")
        if bark not in self._speakers:
            job.show(0.0, f"loading {bark}")
            bark_folder(bark)  # its error for a missing nano has the remedy
            encoder = named_encoder(self.encoders, bark)
            while len(self._speakers) >= MAX_LOADED:
                name, _ = self._speakers.popitem(last=False)
                self._bundles = {key: bundle for key, bundle in self._bundles.items() if key[0] != name}
            speaker = pipeline(VOICE_CLONING_TASK, model=encoder, bark=bark, **self._loading)
            self._descriptions[bark] = speaker.bark_processor, bark_generation_configs(speaker.bark)
            self._speakers[bark] = speaker
        job.check()
        self._speakers.move_to_end(bark)
        return self._speakers[bark]

    def _description(self, bark: str) -> tuple[BarkProcessor, BarkGenerationConfigs]:
        """What is known of a Bark on this machine without its weights."""
        if bark not in self._descriptions:
            here = {"local_files_only": True}
            self._descriptions[bark] = load_bark_processor(bark, **here), load_configs(bark, **here)
        return self._descriptions[bark]

    def _set_adapter(self, speaker: VoiceCloningPipeline, bark: str, adapter: str | None) -> None:
        if not self.adapters:
            if adapter is not None:
                raise ValueError(f"There is no adapter {adapter!r}. Start the page with --adapter {adapter}=FOLDER.")
            return
        from ..bark.adapter_bundle import load_adapters  # needs the extra peft
        from ..bark.adapters import set_adapters

        if adapter is not None and adapter not in self.adapters:
            raise ValueError(f"There is no adapter {adapter!r}; there are {', '.join(self.adapters)}.")
        if adapter is not None and (bark, adapter) not in self._bundles:
            self._bundles[bark, adapter] = load_adapters(speaker.bark, self.adapters[adapter], name=adapter)
        set_adapters(speaker.bark, {} if adapter is None else adapter)
        speaker.adapter = self._bundles.get((bark, adapter))


def _packaged_barks() -> list[str]:
    try:
        nano_bark()
    except FileNotFoundError:
        return []
    return [NANO]


def cut_part(speaker: VoiceCloningPipeline, recording: Any, start_s: float, end_s: float) -> np.ndarray:
    """A part of a recording, `(num_samples,)` at 24 kHz.

    Args:
        recording: an input of [`load_audio`].
        start_s (`float`), end_s (`float`): bounds of the part.

    Raises:
        AudioError: the recording cannot be used.
        ValueError: the bounds are out of order, too far apart, or beyond the recording.
    """
    waveform = read_audio(recording, CODEC_SAMPLING_RATE)
    duration_s = len(waveform) / CODEC_SAMPLING_RATE
    if not 0 <= start_s < end_s or start_s >= duration_s:
        raise ValueError(
            f"The part from {start_s:.2f} s to {end_s:.2f} s is not a part of a recording of {duration_s:.2f} s. "
            "Choose a part inside the recording."
        )
    if end_s - start_s > MAX_PIECE_S:
        raise ValueError(
            f"The part lasts {end_s - start_s:.2f} s; Bark uses the last {speaker.histories.window_s[1]:.2f} s of a "
            f"voice, and a part may last at most {MAX_PIECE_S:.0f} s. Choose a shorter part."
        )
    clip = waveform[round(start_s * CODEC_SAMPLING_RATE) : round(end_s * CODEC_SAMPLING_RATE)]
    return load_audio({"array": clip, "sampling_rate": CODEC_SAMPLING_RATE}, CODEC_SAMPLING_RATE)  # checks the part


def encode_part(
    speaker: VoiceCloningPipeline, recording: Any, start_s: float, end_s: float, text: str | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Encode a part of a recording.

    Args:
        recording, start_s, end_s: as in [`cut_part`].
        text (`str`, *optional*): the whole transcript of the part, for text-informed tokens.

    Returns:
        The part, `(num_samples,)` at 24 kHz, and the result of [`encode_clip`].

    Raises:
        AudioError, ValueError: as in [`cut_part`]; or the text is too long for one generation of Bark.
    """
    clip, words = cut_part(speaker, recording, start_s, end_s), (text or "").strip()
    check_encoder(speaker.model, speaker.vocabularies["semantic_vocab_size"])
    informed: dict[str, Any] = {}
    if words:
        _check_length(words)
        informed = {"text": words, "bark": TextInformedDecoder(speaker.bark, speaker.bark_processor.tokenizer)}
    return clip, encode_clip(clip, speaker.encoder, codec=speaker.bark.codec_model, **informed)


def prompt_of_part(speaker: VoiceCloningPipeline, encoded: Mapping[str, np.ndarray]) -> VoicePrompt:
    """The voice prompt from the result of [`encode_part`]."""
    tokens, codes = encoded["semantic_tokens"], encoded["audio_codes"]
    return VoicePrompt.from_tokens_and_codes(tokens, codes, **speaker.vocabularies)


def read_lines(text: str | None) -> list[str]:
    """The lines of a text that are not empty.

    Raises:
        ValueError: none, or more than `MAX_LINES`.
    """
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not 1 <= len(lines) <= MAX_LINES:
        raise ValueError(f"There are {len(lines)} lines; 1 to {MAX_LINES} are spoken at once.")
    _check_length("".join(lines))
    return lines


def spoken_together(lines: Sequence[str]) -> list[list[str]]:
    """Divide lines, in order, into groups whose pieces fill a batch."""
    groups: list[list[str]] = []
    num_pieces = LINES_AT_ONCE
    for line in lines:
        pieces = max(1, math.ceil(estimate_duration_s(line) / MAX_PIECE_S))
        if num_pieces + pieces > LINES_AT_ONCE:
            groups.append([])
            num_pieces = 0
        groups[-1].append(line)
        num_pieces += pieces
    return groups


def _check_length(text: str) -> None:
    if len(text) > MAX_LETTERS:
        raise ValueError(
            f"The text has {len(text):,} letters; the page speaks at most {MAX_LETTERS:,} at once. Use a part of it, "
            "or `bark-semantic speak` for all of it."
        )


def _checked_text(text: str | None, job: Job) -> dict[str, Any]:
    if not (text or "").strip():
        raise ValueError("There is no text. Write a text to speak.")
    _check_length(text)
    job.expected_s = estimate_duration_s(text)
    return {"text": text}


def _checked_recording(recording: Any, job: Job) -> dict[str, Any]:
    waveform = load_audio(recording, CODEC_SAMPLING_RATE)
    job.expected_s = len(waveform) / CODEC_SAMPLING_RATE
    if job.expected_s > MAX_CONVERTED_S:
        raise ValueError(
            f"The recording lasts {job.expected_s:.0f} s; at most {MAX_CONVERTED_S} s are converted at once. Cut "
            "it, or use `bark-semantic speak --convert`."
        )
    return {"convert": {"array": waveform, "sampling_rate": CODEC_SAMPLING_RATE}}


def _speaking(voice: str, job: Job, options: dict[str, Any]) -> dict[str, Any]:
    """The options for the pipeline."""
    job.num_steps = 0
    return {**options, "on_step": job.step, **({"prompt_mode": "none"} if voice == NOBODY else {})}


def _voice_argument(speaker: VoiceCloningPipeline, voice: str, own: Mapping[str, str]) -> Any:
    if voice == NOBODY:
        return None
    if voice == ADAPTER and speaker.adapter is not None and speaker.adapter.voice_prompt is not None:
        return speaker.adapter.voice_prompt
    kind, colon, name = str(voice).partition(":")
    if kind + colon == OWN and name in own:
        return unpack(own[name])
    if kind + colon == PRESET and name in speaker.voice_presets:
        return name
    raise VoicePromptError("There is no such voice yet. Clone a recording, or choose another voice.")


def _fits(packed: str, vocabularies: Mapping[str, int]) -> bool:
    try:
        unpack(packed).for_bark(**vocabularies)
    except ValueError:
        return False
    return True


def _preset_label(name: str, bark: str) -> str:
    known = [word for word in (preset_language(name, bark), preset_sex(name, bark)) if word]
    return f"{', '.join(known)}: {name}" if known else f"preset {name}"


__all__ = ["Studio", "cut_part", "encode_part", "prompt_of_part", "read_lines", "spoken_together"]
