"""What happens when a visitor of the page clicks."""

import html
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from ..audio import load_audio, save_audio
from ..bark.voice_prompt import VoicePrompt
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..voices.provenance import Provenance, read_provenance
from ..voices.window import best_window, prompt_report
from .studio import CLONED, Cancelled, Job, Studio, encode_part, prompt_of_part, read_lines

SHOW_ERROR_S = 30
CONSENT = "It is my own voice, or its owner has agreed to this clone and to what I shall do with it."

# what a recording, a text or a model can be guilty of
_FAILURES = (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError, EOFError)


class Visit:
    """What happens when a visitor clicks; nothing of a visitor is kept here.

    Arguments and results are values of the page's components, in the order of the layout above.
    """

    def __init__(self, studio: Studio):
        self.studio = studio

    def first_voices(self) -> list[tuple[str, str]]:
        with self.studio.work(self.studio.bark, job=Job()) as speaker:
            return self.studio.voices(speaker, has_cloned=False)

    def cancel(self, request: gr.Request) -> int:
        return self.studio.cancel(_session(request))

    def leave(self, request: gr.Request) -> None:
        self.studio.cancel(_session(request))

    def choose(self, bark, adapter, prompt, num_cancelled, request: gr.Request, progress=gr.Progress()):  # noqa: B008
        """Load another Bark or adapter; a cloned voice stays if it has the same tokens."""
        with self._job(bark, adapter, num_cancelled, request, progress) as (speaker, _):
            if prompt is not None and not _is_of(prompt, speaker):
                gr.Warning("The cloned voice belongs to another Bark, so it is gone. Clone it again for this one.")
                prompt = None
            voices = self.studio.voices(speaker, has_cloned=prompt is not None)
        return gr.update(choices=voices, value=voices[0][1]), prompt

    def best_part(self, recording, bark, adapter, num_cancelled, request: gr.Request, progress=gr.Progress()):  # noqa: B008
        """Find the part that makes the best voice prompt, and read it."""
        if not recording:
            return 0, 0, "", []
        with self._job(bark, adapter, num_cancelled, request, progress) as (speaker, _):
            waveform, (min_s, max_s) = load_audio(recording, CODEC_SAMPLING_RATE), speaker.histories.window_s
            window = best_window(waveform, CODEC_SAMPLING_RATE, min_s=min_s, max_s=max_s)
            _, encoded = encode_part(speaker, recording, window.start_s, window.end_s)
        note = "\nThis file says of itself that it is synthetic speech." if read_provenance(recording) else ""
        return round(window.start_s, 2), round(window.end_s, 2), _summary(encoded) + note, _shown_tokens(encoded)

    def read_part(
        self, recording, start_s, end_s, bark, adapter, num_cancelled, request: gr.Request, progress=gr.Progress()  # noqa: B008
    ):  # fmt: skip
        """Read the part that was chosen."""
        with self._job(bark, adapter, num_cancelled, request, progress) as (speaker, _):
            _, encoded = encode_part(speaker, _given(recording), float(start_s or 0), float(end_s or 0))
        return _summary(encoded), _shown_tokens(encoded)

    def clone(
        self, recording, start_s, end_s, consent, bark, adapter, num_cancelled, request: gr.Request,
        progress=gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple]:  # fmt: skip
        """Make a voice prompt of the part that was chosen."""
        with _plain_errors():
            _check_consent(consent)
        with self._job(bark, adapter, num_cancelled, request, progress) as (speaker, _):
            clip, encoded = encode_part(speaker, _given(recording), float(start_s or 0), float(end_s or 0))
            prompt = prompt_of_part(speaker, encoded)
            report = prompt_report(prompt, clip, CODEC_SAMPLING_RATE, histories=speaker.histories)
            voices = self.studio.voices(speaker, has_cloned=True)
        menu = gr.update(choices=voices, value=CLONED)
        with _folder() as folder:
            file = str(prompt.save(folder / "voice.npz"))
            yield _summary(encoded), _shown_tokens(encoded), str(report), file, menu, prompt

    def load_prompt(self, file, consent, bark, adapter, num_cancelled, request: gr.Request, progress=gr.Progress()):  # noqa: B008
        """Take a voice prompt that was made before."""
        with _plain_errors():
            _check_consent(consent)
        with self._job(bark, adapter, num_cancelled, request, progress) as (speaker, _):
            prompt = VoicePrompt.load(_given(file), **speaker.vocabularies)
            voices = self.studio.voices(speaker, has_cloned=True)
        return str(prompt_report(prompt, histories=speaker.histories)), gr.update(choices=voices, value=CLONED), prompt

    def speak(
        self, text, bark, adapter, voice, prompt, num_cancelled, seed, temperature, fine_temperature, prompt_mode,
        long_form, request: gr.Request, progress=gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[str, str]]:  # fmt: skip
        """Speak a text."""
        options = _speech_options(seed, temperature, fine_temperature, prompt_mode, long_form)
        job = self._job(bark, adapter, num_cancelled, request, progress)
        yield from self._speech_file(job, voice, prompt, lambda: {"text": text}, options)

    def convert(
        self, source, bark, adapter, voice, prompt, num_cancelled, seed, temperature, fine_temperature, prompt_mode,
        long_form, request: gr.Request, progress=gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[str, str]]:  # fmt: skip
        """Say what a recording says."""
        options = _speech_options(seed, temperature, fine_temperature, prompt_mode, long_form)
        job = self._job(bark, adapter, num_cancelled, request, progress)
        yield from self._speech_file(job, voice, prompt, lambda: {"convert": _given(source)}, options)

    def speak_lines(
        self, text, bark, adapter, voice, prompt, num_cancelled, seed, temperature, fine_temperature, prompt_mode,
        long_form, request: gr.Request, progress=gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[list, Any]]:  # fmt: skip
        """Speak line after line; a line that fails is named, and what was finished before a cancellation is kept."""
        options = _speech_options(seed, temperature, fine_temperature, prompt_mode, long_form)
        with _plain_errors():
            lines = read_lines(text)
        rows = []
        with _folder() as folder, zipfile.ZipFile(folder / "speech.zip", "w") as archive, _plain_errors():
            for number, line in enumerate(lines, 1):
                job = Job(show=_progress_of_line(progress, number, len(lines)))
                session = _session(request)
                try:
                    with self.studio.work(
                        bark, adapter or None, job=job, session=session, num_cancelled=num_cancelled
                    ) as speaker:
                        file = folder / f"{number:04d}.wav"
                        result = self._say(speaker, voice, prompt, job, file, text=line, **options)
                    archive.write(file, file.name)
                    file.unlink()
                except Cancelled:
                    gr.Info(f"Cancelled after {number - 1} of {len(lines)} lines.")
                    break
                except _FAILURES as error:
                    result = f"failed: {_message(error)}"
                rows.append([f"{number:04d}", line, result])
                yield rows, None
            archive.writestr("lines.tsv", "".join("\t".join(row).replace("\n", " ") + "\n" for row in rows))
            archive.close()
            yield rows, str(folder / "speech.zip")

    @contextmanager
    def _job(self, bark, adapter, num_cancelled, request, progress):
        job = Job(show=lambda share, what: progress(share, desc=what))
        session = _session(request)
        with (
            _plain_errors(),
            self.studio.work(bark, adapter or None, job=job, session=session, num_cancelled=num_cancelled) as speaker,
        ):
            yield speaker, job

    def _speech_file(
        self, work, voice, prompt, content: Callable[[], dict], options: dict
    ) -> Iterator[tuple[str, str]]:
        """What is said of `content` within `work`, as a file that is there until the page has taken it."""
        with _folder() as folder:
            file = folder / "speech.wav"
            with work as (speaker, job):
                result = self._say(speaker, voice, prompt, job, file, **content(), **options)
            yield str(file), result

    def _say(self, speaker, voice, prompt, job, file: Path, **content) -> str:
        """Save some speech, and give what is to be said about it."""
        speech = self.studio.say(speaker, voice, prompt, job=job, **content)
        provenance = Provenance.of_speech(speaker.bark, speech["voice_prompt"], adapter=speaker.adapter_name)
        save_audio(file, speech["audio"], speech["sampling_rate"], provenance=provenance)
        seconds = len(speech["audio"]) / speech["sampling_rate"]
        return "\n".join([f"{seconds:.2f} s of speech", *speech["warnings"]])


def _progress_of_line(progress: gr.Progress, number: int, num_lines: int):
    def show(share: float, what: str) -> None:
        progress((number - 1 + share) / num_lines, desc=f"line {number} of {num_lines}: {what}")

    return show


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What went wrong, in the page's words: those of the library, which are for people."""
    try:
        yield
    except Cancelled:
        raise gr.Error("Cancelled.", title="Cancelled", print_exception=False) from None
    except _FAILURES as error:
        raise gr.Error(
            html.escape(_message(error), quote=False), duration=SHOW_ERROR_S, print_exception=False
        ) from error


def _session(request: gr.Request) -> str:
    return str(getattr(request, "session_hash", None) or "")


def _given(recording: str | None) -> str:
    if not recording:
        raise ValueError("There is no recording. Upload one, or record it.")
    return recording


def _check_consent(consent: bool) -> None:
    if consent is not True:
        raise ValueError(f'Tick "{CONSENT}" first. A voice is cloned with its owner\'s consent alone.')


def _is_of(prompt: VoicePrompt, speaker) -> bool:
    return prompt.vocabularies == speaker.vocabularies


def _speech_options(seed, temperature, fine_temperature, prompt_mode, long_form) -> dict[str, Any]:
    return {
        "seed": int(seed or 0),
        "semantic_temperature": temperature,
        "coarse_temperature": temperature,
        "fine_temperature": fine_temperature,
        "prompt_mode": prompt_mode,
        "long_form": long_form,
    }


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
