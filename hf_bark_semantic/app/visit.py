"""What happens when a visitor of the page clicks."""

import html
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from ..audio import read_audio, save_audio
from ..bark.voice_prompt import VoicePrompt
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..pipelines.cloning import VoiceCloningPipeline
from ..voices.cloning import clearest_window
from ..voices.provenance import Provenance, read_provenance
from ..voices.window import prompt_report
from .job import Cancelled, Job
from .studio import CLONED, Studio, encode_part, prompt_of_part, read_lines

SHOW_ERROR_S = 30
CONSENT = "It is my own voice, or its owner has agreed to this clone and to what I shall do with it."
PROGRESS = gr.Progress()  # gradio replaces it by the one of the event

# what a recording, a text or a model can raise
_FAILURES = (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError, EOFError)

Values = dict[gr.Component, Any]


def _plain_errors(handler: Callable[..., Iterator]) -> Callable[..., Iterator]:
    """Show the library's errors on the page as they are: they are written for people. To cancel is no error."""

    @wraps(handler)
    def shown(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator:
        try:
            yield from handler(self, values, request, progress)
        except Cancelled:
            gr.Info("Cancelled.")
        except _FAILURES as error:
            message = html.escape(_message(error), quote=False)
            raise gr.Error(message, duration=SHOW_ERROR_S, print_exception=False) from error

    return shown


class Visit:
    """The handlers of the page's buttons; nothing of a visitor is kept here.

    Each receives the values of components that the layout has put into `fields`, and yields values of the components
    that the layout names: nothing, if the job was cancelled.
    """

    def __init__(self, studio: Studio):
        self.studio = studio
        self.fields = SimpleNamespace()

    def first_voices(self) -> list[tuple[str, str]]:
        with self.studio.work(self.studio.bark, job=Job()) as speaker:
            return self.studio.voices(speaker, has_cloned=False)

    def cancel(self, request: gr.Request) -> int:
        return self.studio.cancel(_session(request))

    def leave(self, request: gr.Request) -> None:
        self.studio.cancel(_session(request))

    @_plain_errors
    def choose(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Load another Bark or adapter; a cloned voice stays if it has the same tokens."""
        asked = self._asked(values)
        with self._work(asked, request, progress) as (speaker, _):
            prompt = asked.prompt
            if prompt is not None and prompt.vocabularies != speaker.vocabularies:
                gr.Warning("The cloned voice belongs to another Bark, so it is gone. Clone it again for this one.")
                prompt = None
            voices = self.studio.voices(speaker, has_cloned=prompt is not None)
        yield gr.update(choices=voices, value=voices[0][1]), prompt

    @_plain_errors
    def best_part(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Find the part that makes the best voice prompt, and read it."""
        asked = self._asked(values)
        if not asked.recording:
            yield 0, 0, "", []
            return
        with self._work(asked, request, progress) as (speaker, _):
            waveform, (min_s, max_s) = read_audio(asked.recording, CODEC_SAMPLING_RATE), speaker.histories.window_s
            window = clearest_window(
                waveform, speaker.encoder, codec=speaker.bark.codec_model, min_s=min_s, max_s=max_s
            )
            _, encoded = encode_part(speaker, asked.recording, window.start_s, window.end_s)
        synthetic = read_provenance(asked.recording) is not None
        note = "\nThis file says of itself that it is synthetic speech." if synthetic else ""
        yield round(window.start_s, 2), round(window.end_s, 2), _summary(encoded) + note, _shown_tokens(encoded)

    @_plain_errors
    def read_part(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Read the part that was chosen."""
        asked = self._asked(values)
        with self._work(asked, request, progress) as (speaker, _):
            _, encoded = _encode_chosen_part(speaker, asked)
        yield _summary(encoded), _shown_tokens(encoded)

    @_plain_errors
    def clone(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Make a voice prompt of the part that was chosen."""
        asked = self._asked(values)
        with self._work(asked, request, progress) as (speaker, _):
            _check_consent(asked.consent)
            clip, encoded = _encode_chosen_part(speaker, asked)
            prompt = prompt_of_part(speaker, encoded)
            report = prompt_report(prompt, clip, CODEC_SAMPLING_RATE, histories=speaker.histories)
            menu = self._menu_with_clone(speaker)
        with _folder() as folder:
            file = str(prompt.save(folder / "voice.npz"))
            yield _summary(encoded), _shown_tokens(encoded), str(report), file, menu, prompt

    @_plain_errors
    def load_prompt(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple]:
        """Take a voice prompt that was made before."""
        asked = self._asked(values)
        with self._work(asked, request, progress) as (speaker, _):
            _check_consent(asked.prompt_consent)
            if not asked.file:
                raise ValueError("There is no voice prompt. Choose an .npz file.")
            prompt = VoicePrompt.load(asked.file, **speaker.vocabularies)
            report, menu = prompt_report(prompt, histories=speaker.histories), self._menu_with_clone(speaker)
        yield str(report), menu, prompt

    @_plain_errors
    def speak(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple[str, str]]:
        """Speak a text."""
        asked = self._asked(values)
        yield from self._speech_file(asked, request, progress, lambda: {"text": asked.text})

    @_plain_errors
    def convert(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple[str, str]]:
        """Say what a recording says."""
        asked = self._asked(values)
        yield from self._speech_file(asked, request, progress, lambda: {"convert": _given(asked.source)})

    @_plain_errors
    def speak_lines(self, values: Values, request: gr.Request, progress=PROGRESS) -> Iterator[tuple[list, Any]]:
        """Speak line after line; a line that fails is named, and what was finished before a cancellation is kept."""
        asked, rows, num_spoken = self._asked(values), [], 0
        with _folder() as folder, zipfile.ZipFile(folder / "speech.zip", "w") as archive:
            lines = read_lines(asked.lines)
            for number, line in enumerate(lines, 1):
                file = folder / f"{number:04d}.wav"
                try:
                    with self._job(asked, request, _progress_of_line(progress, number, len(lines))) as (speaker, job):
                        result = self._save_speech(speaker, asked, job, file, text=line)
                    archive.write(file, file.name)
                    file.unlink()
                    num_spoken += 1
                except Cancelled:
                    gr.Info(f"Cancelled after {number - 1} of {len(lines)} lines.")
                    break
                except _FAILURES as error:
                    result = f"failed: {_message(error)}"
                rows.append([f"{number:04d}", line, result])
                yield rows, None
            archive.writestr("lines.tsv", "".join("\t".join(row).replace("\n", " ") + "\n" for row in rows))
            archive.close()
            yield rows, str(folder / "speech.zip") if num_spoken else None

    def _asked(self, values: Values) -> SimpleNamespace:
        """The values by the names of their fields."""
        fields = vars(self.fields).items()
        return SimpleNamespace(**{name: values[component] for name, component in fields if component in values})

    @contextmanager
    def _job(self, asked: SimpleNamespace, request: gr.Request, show: Callable[[float, str], Any]):
        """The pipeline that was chosen, to oneself, and the job that it works at."""
        job, whose = Job(show=show), {"session": _session(request), "num_cancelled": asked.num_cancelled}
        with self.studio.work(asked.bark, asked.adapter or None, job=job, **whose) as speaker:
            yield speaker, job

    @contextmanager
    def _work(self, asked: SimpleNamespace, request: gr.Request, progress: gr.Progress):
        """[`_job`], with progress shown on the page."""

        def show(share: float, what: str) -> None:
            progress(share, desc=what)

        with self._job(asked, request, show) as work:
            yield work

    def _menu_with_clone(self, speaker: VoiceCloningPipeline):
        return gr.update(choices=self.studio.voices(speaker, has_cloned=True), value=CLONED)

    def _speech_file(
        self, asked: SimpleNamespace, request: gr.Request, progress: gr.Progress, content: Callable[[], dict]
    ) -> Iterator[tuple[str, str]]:
        """A file of speech, which is there until the page has taken it, and what there is to say about it."""
        with _folder() as folder:
            file = folder / "speech.wav"
            with self._work(asked, request, progress) as (speaker, job):
                result = self._save_speech(speaker, asked, job, file, **content())
            yield str(file), result

    def _save_speech(
        self, speaker: VoiceCloningPipeline, asked: SimpleNamespace, job: Job, file: Path, **content: Any
    ) -> str:
        speech = self.studio.say(
            speaker, asked.voice, asked.prompt, job=job, seed=int(asked.seed or 0),
            semantic_temperature=asked.temperature, coarse_temperature=asked.temperature,
            fine_temperature=asked.fine_temperature, guidance_scale=asked.guidance_scale,
            voice_guidance_scale=asked.voice_guidance_scale, prompt_mode=asked.prompt_mode,
            long_form=asked.long_form, **content,
        )  # fmt: skip
        provenance = Provenance.of_speech(speaker.bark, speech["voice_prompt"], adapter=speaker.adapter_name)
        save_audio(file, speech["audio"], speech["sampling_rate"], provenance=provenance)
        seconds = len(speech["audio"]) / speech["sampling_rate"]
        return "\n".join([f"{seconds:.2f} s of speech", *speech["warnings"]])


def _progress_of_line(progress: gr.Progress, number: int, num_lines: int) -> Callable[[float, str], None]:
    def show(share: float, what: str) -> None:
        progress((number - 1 + share) / num_lines, desc=f"line {number} of {num_lines}: {what}")

    return show


def _session(request: gr.Request) -> str:
    return str(getattr(request, "session_hash", None) or "")


def _given(recording: str | None) -> str:
    if not recording:
        raise ValueError("There is no recording. Upload one, or record it.")
    return recording


def _check_consent(consent: bool) -> None:
    if consent is not True:
        raise ValueError(f'Tick "{CONSENT}" first. A voice is cloned with its owner\'s consent alone.')


def _encode_chosen_part(speaker: VoiceCloningPipeline, asked: SimpleNamespace):
    return encode_part(speaker, _given(asked.recording), float(asked.start_s or 0), float(asked.end_s or 0))


def _summary(encoded: dict) -> str:
    confidence = encoded["confidence"]
    mean = f", mean confidence {confidence.mean():.0%}" if len(confidence) else ""
    return f"{encoded['num_tokens']} tokens, {encoded['seconds']:.2f} s{mean}"


def _shown_tokens(encoded: dict) -> list[tuple[str, float]]:
    pairs = zip(encoded["semantic_tokens"].tolist(), encoded["confidence"].tolist(), strict=True)
    return [(str(token), round(confidence, 2)) for token, confidence in pairs]


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for the files of one result; gradio copies them when they are yielded, and deletes its copies."""
    with tempfile.TemporaryDirectory(prefix="bark-semantic-") as folder:
        yield Path(folder)


def _message(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__


__all__ = ["CONSENT", "Visit"]
