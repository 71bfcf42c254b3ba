"""What happens when a visitor of the page clicks."""

import base64
import contextvars
import html
import io
import queue
import re
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import soundfile

from ..audio import read_audio, save_audio, within_full_scale
from ..bark.voice_prompt import VoicePrompt, bark_of_vocabulary
from ..configuration_bark_semantic import CODEC_RATE_HZ, CODEC_SAMPLING_RATE, SEMANTIC_RATE_HZ, num_codec_frames
from ..pipelines.cloning import VoiceCloningPipeline
from ..voices.cloning import clearest_window, decode_codes
from ..voices.provenance import Provenance, read_provenance
from ..voices.window import prompt_report
from .browser import undamaged
from .downloads import download_size
from .history import FIELDS, labels, remember
from .job import Cancelled, Job
from .pictures import overview, picture
from .shelf import MAX_VOICES, Shelf, checked_name, pack
from .studio import OWN, Studio, cut_part, encode_part, prompt_of_part, read_lines, spoken_together
from .words import describe_part

SHOW_ERROR_S = 30
MAX_FILE_NAME = 60  # letters
CONSENT = "It is my own voice, or its owner has agreed to this clone and to how I will use it."
PROGRESS = gr.Progress()  # gradio replaces it by the progress of the event

# errors that a recording, a text or a model can cause
_FAILURES = (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError, EOFError)

Values = dict[gr.Component, Any]
NOTHING_READ = ("", None, "", [])  # no part of a recording: description, sound, picture, tokens


def _plain_errors(handler: Callable[..., Iterator]) -> Callable[..., Iterator]:
    """Show the messages of the library's errors on the page. Cancelling is not an error."""

    @wraps(handler)
    def shown(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator:
        _forget_replaced_fields(request)
        try:
            yield from handler(self, values, request, progress)
        except Cancelled:
            gr.Info("Cancelled.")
        except _FAILURES as error:
            message = html.escape(_message(error), quote=False)
            raise gr.Error(message, duration=SHOW_ERROR_S, print_exception=False) from error

    return shown


def _forget_replaced_fields(request: gr.Request) -> None:
    """Drop the values of fields that gradio has replaced in this visit.

    An update replaces a field by a new one with a new id. gradio keeps the values of both: 0.2 MB with every text.
    """
    app = request.request.app
    visit = app.state_holder.session_data.get(request.session_hash)
    if visit is not None:
        for field in visit.config_values.keys() - app.get_blocks().blocks.keys():
            visit.config_values.pop(field, None)


class Visit:
    """The handlers of the page's buttons. They store nothing about a visitor.

    Each handler receives the values of components that the layout has put into `fields`. It yields values for the
    components that the layout names, or nothing if the job was cancelled.
    """

    def __init__(self, studio: Studio, shelf: Shelf | None = None):
        self.studio, self.shelf = studio, shelf
        self.fields = SimpleNamespace()

    def barks(self) -> list[tuple[str, str]]:
        return [(self.studio.describe(bark), bark) for bark in self.studio.barks]

    def first_voices(self) -> list[tuple[str, str]]:
        with self.studio.work(self.studio.bark, job=Job()):
            return self.studio.voices(self.studio.bark, None, {})

    def arrive(self, values: Values) -> tuple:
        """Show the stored voices, history and choices to a visitor who opens the page.

        This computes nothing, so the page opens even when the queue is full.
        """
        asked, damage = self._asked(values), []
        own = asked.own if self.shelf is None else self.shelf.load(on_damage=damage.append)
        bark = asked.last["bark"]
        if bark not in self.studio.barks or not self.studio.is_here(bark):
            bark = self.studio.bark
        try:
            voices = self.studio.voices(bark, None, own)
        except (OSError, ValueError):  # its files are damaged; `choose` reports that when it is chosen again
            bark = self.studio.bark
            voices = self.studio.voices(bark, None, own)
        menu = _voice_menu(voices, asked.last["voice"])
        return own, bark, menu, gr.update(choices=labels(asked.history)), _note("\n\n".join(damage))

    def cancel(self, request: gr.Request) -> int:
        return self.studio.cancel(_session(request))

    def leave(self, request: gr.Request) -> None:
        self.studio.cancel(_session(request))

    @_plain_errors
    def choose(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Load another Bark or adapter and show its voices in the menu, or offer to download the Bark."""
        asked = self._asked(values)
        if not self.studio.is_here(asked.bark):
            size = f"{download_size(asked.bark) / 1e9:.1f} GB"
            button = gr.update(visible=True, value=f"Download {asked.bark} ({size})")
            yield gr.skip(), gr.skip(), button, gr.skip()
            return
        with self._work(asked, request, progress):
            voices = self.studio.voices(asked.bark, asked.adapter or None, asked.own)
        note, barks = _note(self.studio.unknown_words(asked.bark, asked.text)), gr.update(choices=self.barks())
        yield barks, _voice_menu(voices), gr.update(visible=False), note

    @_plain_errors
    def download(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Download the chosen Bark, then load it."""
        asked = self._asked(values)
        job = Job(show=_shown_on(progress))
        with self.studio.registered(job, _session(request), asked.num_cancelled):
            self.studio.download(asked.bark, job)
        yield from self.choose(values, request, progress)

    def name_unknown_words(self, bark: str, text: str):
        """The words that the chosen Bark does not know, while the text is written."""
        return _note(self.studio.unknown_words(bark, text))

    @_plain_errors
    def best_part(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Find the part that makes the best voice prompt, and encode it."""
        asked = self._asked(values)
        if not asked.recording:
            yield 0, 0, None, *NOTHING_READ
            return
        with self._work(asked, request, progress) as (speaker, _):
            waveform, (min_s, max_s) = read_audio(asked.recording, CODEC_SAMPLING_RATE), speaker.histories.window_s
            window = clearest_window(
                waveform, speaker.encoder, codec=speaker.bark.codec_model, min_s=min_s, max_s=max_s
            )
            asked.start_s, asked.end_s = round(window.start_s, 2), round(window.end_s, 2)
            part = {"start_s": asked.start_s, "end_s": asked.end_s}
            shown = {**part, "duration_s": len(waveform) / CODEC_SAMPLING_RATE, "peaks": overview(waveform)}
            read = self._read_part(speaker, asked)
        synthetic = read_provenance(asked.recording) is not None
        note = "\nA label in this file says that it is synthetic speech." if synthetic else ""
        with _folder() as folder:
            yield asked.start_s, asked.end_s, shown, *_shown_part(read, folder, note)

    @_plain_errors
    def read_part(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Encode the chosen part."""
        asked = self._asked(values)
        with self._work(asked, request, progress) as (speaker, _):
            read = self._read_part(speaker, asked)
        with _folder() as folder:
            yield _shown_part(read, folder)

    @_plain_errors
    def transcribe(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[str]:
        """Transcribe the chosen part with Whisper."""
        asked = self._asked(values)
        with self._work(asked, request, progress) as (speaker, _):
            text = self.studio.transcript(cut_part(speaker, *_chosen_part(asked)))
        if not text:
            raise ValueError("Whisper recognized no words in this part. Write them, or choose another part.")
        yield text

    @_plain_errors
    def clone(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Make a voice prompt from the chosen part."""
        asked = self._asked(values)
        with self._work(asked, request, progress) as (speaker, _):
            _check_consent(asked.consent)
            checked_name(asked.name)
            read = self._read_part(speaker, asked)
            prompt = prompt_of_part(speaker, read.encoded)
            report = prompt_report(prompt, read.clip, CODEC_SAMPLING_RATE, histories=speaker.histories)
            own, menu = self._keep(asked, prompt)
        name = checked_name(asked.name)
        words = f"Download {name}.npz, for {bark_of_vocabulary(prompt.semantic_vocab_size)} and no other"
        with _folder() as folder:
            file = gr.update(value=str(prompt.save(folder / f"{name}.npz")), label=words, visible=True)
            yield *_shown_part(read, folder), str(report), file, menu, own

    @_plain_errors
    def load_prompt(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Use a voice prompt from a file."""
        asked = self._asked(values)
        with self._work(asked, request, progress) as (speaker, _):
            _check_consent(asked.prompt_consent)
            if not asked.file:
                raise ValueError("There is no voice prompt. Choose an .npz file.")
            prompt = VoicePrompt.load(asked.file, **speaker.vocabularies)
            report = prompt_report(prompt, histories=speaker.histories)
            own, menu = self._keep(asked, prompt)
        yield str(report), menu, own

    @_plain_errors
    def delete(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Delete the chosen voice, if it is one of the visitor's own."""
        asked = self._asked(values)
        name = str(asked.voice).removeprefix(OWN)
        if not str(asked.voice).startswith(OWN) or name not in asked.own:
            raise ValueError("Choose one of your own voices to delete it. The Bark's presets cannot be deleted.")
        if self.shelf is not None:
            self.shelf.delete(name)
        own = {kept: packed for kept, packed in asked.own.items() if kept != name}
        with self._work(asked, request, progress):
            voices = self.studio.voices(asked.bark, asked.adapter or None, own)
        yield _voice_menu(voices), own

    @_plain_errors
    def listen(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[Any]:
        """Play the audio of a voice prompt."""
        asked = self._asked(values)
        with self._work(asked, request, progress) as (speaker, _):
            prompt = self.studio.prompt(speaker, asked.voice, asked.own)
            if prompt is None:
                raise ValueError("There is nothing to play: Bark makes up a new voice each time it speaks.")
            waveform = decode_codes(prompt.audio_codes.copy(), speaker.bark.codec_model)
        with _folder() as folder:
            file = save_audio(folder / "voice.wav", within_full_scale(waveform)[0], CODEC_SAMPLING_RATE)
            yield gr.update(value=str(file), visible=True)

    def remember(self, values: Values):
        """Add the latest speech to the history."""
        asked = self._asked(values)
        history = remember(asked.history, asked.bark, vars(asked)) if asked.said else asked.history
        return history, gr.update(choices=labels(history), value=0 if history else None)

    def recall(self, values: Values):
        """The text, the voice and the settings of the chosen entry of the history."""
        asked = self._asked(values)
        entry = self._remembered(asked)
        if entry["bark"] != asked.bark:
            raise gr.Error(
                f"This was spoken by {html.escape(str(entry['bark']))}. Choose it first.", print_exception=False
            )
        return tuple(entry[name] for name in FIELDS)

    def another_take(self, values: Values):
        """The same as [`recall`], with the next seed."""
        text, voice, seed, *rest = self.recall(values)
        return text, voice, int(seed or 0) + 1, *rest

    def star(self, values: Values):
        """Mark the chosen entry of the history as a favourite, or remove the mark."""
        asked = self._asked(values)
        entry = self._remembered(asked)
        history = [{**e, "favourite": not e["favourite"]} if e is entry else e for e in asked.history]
        return history, gr.update(choices=labels(history))

    def _remembered(self, asked: SimpleNamespace) -> dict[str, Any]:
        if not isinstance(asked.past, int) or not 0 <= asked.past < len(asked.history):
            raise gr.Error("Choose an entry of the history first.", print_exception=False)
        return asked.history[asked.past]

    @_plain_errors
    def speak(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Speak a text."""
        asked = self._asked(values)
        yield from self._speech(asked, request, progress, asked.text or "", text=asked.text)

    @_plain_errors
    def convert(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Speak what a recording says, in the chosen voice."""
        asked = self._asked(values)
        source = _given(asked.source)
        yield from self._speech(asked, request, progress, Path(source).stem, convert=source)

    @_plain_errors
    def speak_lines(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple[list, Any]]:
        """Speak lines, several at once. Each can be played when it is finished, and a line that fails says why.

        Yields rows of number, text, result and file, then also a zip of the files; and how many lines are finished.
        """
        asked = self._asked(values)
        lines = read_lines(asked.lines)
        with _folder() as folder:
            spoken = _SpokenLines(folder, asked, self.fields.spoken_lines.move_resource_to_block_cache)
            for group in spoken_together(lines):
                try:
                    self._speak_group(
                        group, spoken, asked, request, _progress_of_lines(progress, spoken, group, lines)
                    )
                except Cancelled:
                    gr.Info(f"Cancelled after {len(spoken.rows)} of {len(lines)} lines.")
                    break
                yield spoken.rows, gr.skip(), f"{len(spoken.rows)} of {len(lines)} lines"
            zipped = spoken.zipped()
            archive = gr.update(value=zipped, visible=zipped is not None)
            yield spoken.rows, archive, f"{len(spoken.rows)} of {len(lines)} lines"

    def _speak_group(
        self, group: list[str], spoken: "_SpokenLines", asked: SimpleNamespace, request: gr.Request, show: Callable
    ) -> None:
        """Speak the lines of a group at once, and add a row for each."""
        first = len(spoken.rows)
        try:
            with self._job(asked, request, Job(show=show)) as (speaker, job):
                speeches = self.studio.say(speaker, asked.voice, asked.own, lines=group, job=job, **_options(asked))
                for line, speech in zip(group, speeches, strict=True):
                    if isinstance(speech, Exception):
                        spoken.add_failure(line, speech)
                    else:
                        spoken.add(line, speech, _provenance(speaker, speech))
        except _FAILURES as error:
            for line in group[len(spoken.rows) - first :]:
                spoken.add_failure(line, error)

    def _asked(self, values: Values) -> SimpleNamespace:
        """The values by the names of their fields."""
        fields = vars(self.fields).items()
        asked = {name: undamaged(name, values[component]) for name, component in fields if component in values}
        if self.shelf is not None and asked.get("own") == {}:  # gradio may have dropped the state of this visit
            asked["own"] = self.shelf.load()
        return SimpleNamespace(**asked)

    @contextmanager
    def _job(self, asked: SimpleNamespace, request: gr.Request, job: Job):
        """Lock the chosen pipeline for this job; gives both."""
        whose = {"session": _session(request), "num_cancelled": asked.num_cancelled}
        with self.studio.work(asked.bark, asked.adapter or None, job=job, **whose) as speaker:
            yield speaker, job

    @contextmanager
    def _work(self, asked: SimpleNamespace, request: gr.Request, progress: gr.Progress):
        """[`_job`], with progress shown on the page."""

        with self._job(asked, request, Job(show=_shown_on(progress))) as work:
            yield work

    def _read_part(self, speaker: VoiceCloningPipeline, asked: SimpleNamespace) -> "_ReadPart":
        """Encode the chosen part, with its transcript if there is one."""
        text = getattr(asked, "transcript", "")
        clip, encoded = encode_part(speaker, *_chosen_part(asked), text)
        words = describe_part(clip, encoded["confidence"], speaker.histories)
        return _ReadPart(clip, encoded, f"{words}\n{self.studio.unknown_words(asked.bark, text)}".rstrip())

    def _keep(self, asked: SimpleNamespace, prompt: VoicePrompt) -> tuple[dict, Any]:
        """Add a voice to the visitor's own; returns all of them, and the menu with the new one chosen."""
        name = checked_name(asked.name)
        own = {name: pack(prompt), **{kept: packed for kept, packed in asked.own.items() if kept != name}}
        if len(own) > MAX_VOICES:
            raise ValueError(f"You have {MAX_VOICES} voices already. Delete one that you do not need.")
        if self.shelf is not None:
            try:
                self.shelf.keep(name, prompt)
            except OSError as error:
                _warn(f"{error} The voice is available until you leave the page.")
        voices = self.studio.voices(asked.bark, asked.adapter or None, own)
        return own, gr.update(choices=voices, value=OWN + name)

    def _speech(
        self, asked: SimpleNamespace, request: gr.Request, progress: gr.Progress, said: str, **content: Any
    ) -> Iterator[tuple]:
        """Yield each piece to the player when it is finished; then the file of all pieces, its result and picture."""
        pieces: list[dict[str, Any]] = []
        for new in self._pieces(asked, request, progress, content):
            pieces += new
            yield gr.skip(), gr.skip(), _to_play(new), gr.skip()
        audio, rate = np.concatenate([piece["audio"] for piece in pieces]), pieces[0]["sampling_rate"]
        warnings = [warning for piece in pieces for warning in piece["warnings"]]
        with _folder() as folder:
            file = folder / f"{_file_name(asked.voice, said)}.{asked.format}"
            words = _save_speech(file, audio, rate, warnings, pieces[0]["provenance"])
            tokens, times_s = _timed_tokens(pieces)
            yield str(file), words, gr.skip(), picture(audio, rate, tokens, times_s=times_s)

    def _pieces(
        self, asked: SimpleNamespace, request: gr.Request, progress: gr.Progress, content: dict[str, Any]
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield pieces of speech as they are finished. A thread computes them, so Bark does not wait for the browser.

        When the visitor leaves, gradio closes this generator, and the thread stops at its next step.
        """
        finished: queue.SimpleQueue = queue.SimpleQueue()
        job = Job(show=_shown_on(progress))

        def compute() -> None:
            try:
                with self._job(asked, request, job) as (speaker, _):
                    for piece in self.studio.stream(
                        speaker, asked.voice, asked.own, job=job, **_options(asked), **content
                    ):
                        finished.put({**piece, "provenance": _provenance(speaker, piece)})
                finished.put(None)
            except BaseException as error:
                finished.put(error)

        threading.Thread(target=contextvars.copy_context().run, args=(compute,), daemon=True).start()
        try:
            while True:
                items = [finished.get()]
                while not finished.empty():
                    items.append(finished.get())
                new = [item for item in items if isinstance(item, dict)]
                if new:
                    yield new
                if items[-1] is None:
                    return
                if isinstance(items[-1], BaseException):
                    raise items[-1]
        finally:
            job.cancel()


class _SpokenLines:
    """The spoken lines: one row of number, text, result and file for each, and a zip of the files.

    Args:
        folder (`Path`): where the zip is written.
        asked (`SimpleNamespace`): has the voice and the file format.
        offer (`Callable[[Path], str]`): copies a file to where the page can play it, and returns the copy's path.
    """

    def __init__(self, folder: Path, asked: SimpleNamespace, offer: Callable[[Path], str]):
        self.folder, self.asked, self.offer = folder, asked, offer
        self.rows: list[list[str | None]] = []
        self.archive = zipfile.ZipFile(folder / "speech.zip", "w")

    def add(self, line: str, speech: dict[str, Any], provenance: Provenance) -> None:
        file = self.folder / f"{self._number()}-{_file_name(self.asked.voice, line)}.{self.asked.format}"
        words = _save_speech(file, speech["audio"], speech["sampling_rate"], speech["warnings"], provenance)
        self.archive.write(file, file.name)
        self.rows.append([self._number(), line, words, self.offer(file)])
        file.unlink()

    def add_failure(self, line: str, error: Exception) -> None:
        self.rows.append([self._number(), line, f"failed: {_message(error)}", None])

    def zipped(self) -> str | None:
        """Finish the zip and return its path; `None` if no line was spoken."""
        lines = ("\t".join(map(str, row[:3])).replace("\n", " ") + "\n" for row in self.rows)
        self.archive.writestr("lines.tsv", "".join(lines))
        self.archive.close()
        return self.archive.filename if any(row[-1] for row in self.rows) else None

    def _number(self) -> str:
        return f"{len(self.rows) + 1:04d}"


def _voice_menu(voices: list[tuple[str, str]], chosen: str | None = None):
    """A menu of voices with the chosen one selected, or the first if the chosen one is not among them."""
    values = [value for _, value in voices]
    return gr.update(choices=voices, value=chosen if chosen in values else values[0])


def _options(asked: SimpleNamespace) -> dict[str, Any]:
    """The pipeline's options."""
    temperature = _number(asked.temperature)
    return {
        "seed": int(asked.seed or 0),
        "semantic_temperature": temperature,
        "coarse_temperature": temperature,
        "fine_temperature": _number(asked.fine_temperature),
        "guidance_scale": _number(asked.guidance_scale),
        "voice_guidance_scale": _number(asked.voice_guidance_scale),
        "prompt_mode": asked.prompt_mode,
        "long_form": asked.long_form,
    }


def _provenance(speaker: VoiceCloningPipeline, speech: dict[str, Any]) -> Provenance:
    return Provenance.of_speech(speaker.bark, speech["voice_prompt"], adapter=speaker.adapter_name)


def _save_speech(file: Path, audio: np.ndarray, rate: int, warnings: Iterable[str], provenance: Provenance) -> str:
    """Write speech to a file; returns its duration and the warnings."""
    save_audio(file, within_full_scale(audio)[0], rate, provenance=provenance)
    return "\n".join([f"{len(audio) / rate:.2f} s of speech", *warnings])


def _to_play(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """New pieces for the page's player, joined to one WAV."""
    audio = within_full_scale(np.concatenate([piece["audio"] for piece in pieces]))[0]
    file = io.BytesIO()
    soundfile.write(file, audio, pieces[0]["sampling_rate"], format="WAV", subtype="PCM_16")
    return {"first": pieces[0]["number"] == 1, "wav": base64.b64encode(file.getvalue()).decode()}


def _timed_tokens(pieces: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of all pieces, and the start of each token in seconds. A piece may begin with a pause."""
    tokens, times_s, num_samples = [], [], 0
    for piece in pieces:
        num_samples += len(piece["audio"])
        own = piece["semantic_tokens"]
        begin_s = num_samples / piece["sampling_rate"] - num_codec_frames(len(own)) / CODEC_RATE_HZ
        tokens.append(own)
        times_s.append(begin_s + np.arange(len(own)) / SEMANTIC_RATE_HZ)
    return np.concatenate(tokens), np.concatenate(times_s)


def _file_name(voice: str, said: str) -> str:
    """A file name made of a voice and a text: only letters, digits and hyphens."""
    words = re.findall(r"[^\W_]+", f"{str(voice).split(':')[-1]} {said}")
    return "-".join(words)[:MAX_FILE_NAME] or "speech"


def _progress_of_lines(
    progress: gr.Progress, spoken: "_SpokenLines", group: list[str], lines: list[str]
) -> Callable[[float, str], None]:
    first, num_lines = len(spoken.rows), len(lines)
    which = f"line {first + 1}" if len(group) == 1 else f"lines {first + 1} to {first + len(group)}"

    def show(share: float, what: str) -> None:
        progress((first + share * len(group)) / num_lines, desc=f"{which} of {num_lines}: {what}")

    return show


def _session(request: gr.Request) -> str:
    return str(getattr(request, "session_hash", None) or "")


def _given(recording: str | None) -> str:
    if not recording:
        raise ValueError("There is no recording. Upload one, or record it.")
    return recording


def _number(text: str | None) -> float | None:
    """The number in a field; `None`, for the Bark's default, if it is empty."""
    if not (text or "").strip():
        return None
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(
            f"{text!r} is not a number. Write one such as 0.7, or leave the field empty for this Bark's default."
        ) from None


def _check_consent(consent: bool) -> None:
    if consent is not True:
        raise ValueError(f'Tick "{CONSENT}" first. A voice is cloned only with its owner\'s consent.')


def _note(text: str):
    """A line of Markdown, hidden if `text` is empty."""
    return gr.update(value=html.escape(text, quote=False), visible=bool(text))


def _warn(message: str) -> None:
    gr.Warning(html.escape(message, quote=False), duration=SHOW_ERROR_S)


def _shown_on(progress: gr.Progress) -> Callable[[float, str], None]:
    def show(share: float, what: str) -> None:
        progress(share, desc=what)

    return show


@dataclass(frozen=True)
class _ReadPart:
    """A part of a recording at 24 kHz, `(num_samples,)`, its encoding, and a description of its quality."""

    clip: np.ndarray
    encoded: dict[str, Any]
    words: str


def _chosen_part(asked: SimpleNamespace) -> tuple[str, float, float]:
    return _given(asked.recording), float(asked.start_s or 0), float(asked.end_s or 0)


def _shown_part(read: _ReadPart, folder: Path, note: str = "") -> tuple:
    """Values for `NOTHING_READ`'s components."""
    tokens, confidence = read.encoded["semantic_tokens"], read.encoded["confidence"]
    file = save_audio(folder / "part.wav", read.clip, CODEC_SAMPLING_RATE)
    shown = picture(read.clip, CODEC_SAMPLING_RATE, tokens, confidence)
    return read.words + note, str(file), shown, _shown_tokens(read.encoded)


def _shown_tokens(encoded: dict) -> list[tuple[str, float]]:
    pairs = zip(encoded["semantic_tokens"].tolist(), encoded["confidence"].tolist(), strict=True)
    return [(str(token), round(confidence, 2)) for token, confidence in pairs]


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for the files of one result. gradio copies the files when they are yielded, and deletes its copies."""
    with tempfile.TemporaryDirectory(prefix="bark-semantic-") as folder:
        yield Path(folder)


def _message(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__


__all__ = ["CONSENT", "Visit"]
