"""`bark-semantic app`: a page on this machine on which voices are cloned, speak and are converted.

    serve         loads the models and shows the page, until it is interrupted
    build_page    the page over a `Studio`
    Visit         what happens when a visitor clicks

    model, adapter, voice ──┬── Clone     recording ──> part ──> tokens ──> voice prompt and its report
                            ├── Speak     text ──> speech
                            ├── Convert   recording ──> the same words in the voice
                            └── Batch     lines ──> a zip of recordings

Recordings and texts stay on the machine: the page loads nothing from elsewhere (and forbids the browser to), reports
nothing, and has no public link. A visitor's voice is kept in the visitor's session alone.
"""

import html
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..audio import load_audio, save_audio
from ..bark.request import PROMPT_MODES
from ..bark.voice_prompt import VoicePrompt
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..voices.provenance import Provenance, model_name, read_provenance
from ..voices.speaking import LONG_FORMS
from ..voices.window import best_window, prompt_report
from .studio import (
    CLONED,
    MAX_LINES,
    Cancelled,
    Job,
    Studio,
    encode_part,
    prompt_of_part,
    read_lines,
)

try:
    import gradio as gr
except ImportError as error:
    raise ImportError(
        f'The page needs gradio, whose import failed: {error}. Type: pip install "hf_bark_semantic[app]"'
    ) from error

TITLE = "Voices for Bark"
HOST, PORT = "127.0.0.1", 7860
MAX_UPLOAD = "200mb"
DELETE_FILES_S = 3_600  # how old a recording or its result gets on the disk
SHOW_ERROR_S = 30
MAX_WAITING = 16  # jobs in the queue; whoever comes then is told to come back
CONSENT = "It is my own voice, or its owner has agreed to this clone and to what I shall do with it."
NO_SHARING = ["download"]  # gradio's other button of a recording uploads it
CSS = "#tokens {max-height: 16em; overflow-y: auto}"

# what a recording, a text or a model can be guilty of
_FAILURES = (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError, EOFError)

# nothing from elsewhere, whatever the page's libraries may want; gradio's scripts are inline
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; frame-ancestors 'self'"
)


def serve(studio: Studio, *, host: str = HOST, port: int = PORT) -> None:
    """Show the page until it is interrupted.

    Args:
        studio (`Studio`): its models are loaded before the page opens.
        host (`str`): address to listen on; with any other than the loopback address, other machines see the page.
        port (`int`): of the page.

    Raises:
        ValueError, OSError: a model cannot be loaded, or the port is taken.
    """
    studio.load_all()
    launch(build_page(studio), host=host, port=port, prevent_thread_lock=False)


def launch(page: gr.Blocks, *, host: str = HOST, port: int | None = PORT, prevent_thread_lock: bool = True):
    """Start the server of a page; gives what gradio's `launch` gives."""
    from starlette.middleware import Middleware

    return page.launch(
        server_name=host,
        server_port=port,
        share=False,
        theme=_theme(),
        css=CSS,
        footer_links=[],
        run_history=False,  # gradio would keep the visitors' recordings in their browsers
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        max_file_size=MAX_UPLOAD,
        app_kwargs={"middleware": [Middleware(_OnlyFromHere)]},
        prevent_thread_lock=prevent_thread_lock,
    )


def build_page(studio: Studio) -> gr.Blocks:
    """The page, not yet shown."""
    visit = Visit(studio)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(DELETE_FILES_S // 4, DELETE_FILES_S)) as page:
        gr.Markdown(
            f"# {TITLE}\nClone a voice, then let it speak. Everything is computed on this machine, and recordings and "
            "texts stay there. Files of speech say in their comment that they are synthetic."
        )
        prompt = gr.State(None)  # VoicePrompt, of this visitor
        num_cancelled = gr.Number(0, visible=False)  # sent along with every job; see Studio.work
        with gr.Row():
            barks = [(model_name(name), name) for name in studio.barks]
            bark = gr.Dropdown(barks, value=studio.bark, label="Bark", info=_cache_note(studio), scale=2)
            adapters = [("none", ""), *((name, name) for name in studio.adapters)]
            adapter = gr.Dropdown(
                adapters, value="", label="Adapter", info="Fine-tuned changes to this Bark.",
                visible=bool(studio.adapters),
            )  # fmt: skip
            voice = gr.Dropdown(
                visit.first_voices(), label="Voice", info="Who speaks. A clone appears here.", scale=2, elem_id="voice"
            )
        shared = [bark, adapter, voice, prompt, num_cancelled]
        with gr.Tab("1. Clone"):
            stops = [_clone_tab(visit, shared)]
        options = _Options()
        with gr.Tab("2. Speak"):
            stops.append(_speak_tab(visit, shared, options))
        with gr.Tab("Convert"):
            stops.append(_convert_tab(visit, shared, options))
        with gr.Tab("Batch"):
            stops.append(_batch_tab(visit, shared, options))
        with gr.Accordion("How Bark speaks", open=False):
            options.render()
        for stop in stops:
            stop.click(visit.cancel, None, num_cancelled, queue=False, show_progress="hidden", api_name=False)
        for menu, name in ((bark, "choose_bark"), (adapter, "choose_adapter")):
            menu.input(
                visit.choose, [bark, adapter, prompt, num_cancelled], [voice, prompt], **_computing(name, voice)
            )
        page.unload(visit.leave)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


class _Options:
    """The settings of speech, shared by all tabs; they stand below the tabs, and are made before."""

    def __init__(self):
        self.components = [
            gr.Number(0, label="Seed", precision=0, minimum=0, info="Another seed, another take.", render=False),
            gr.Number(None, minimum=0, step=0.05, label="Temperature of words and sound", render=False,
                      placeholder="the Bark's own", info="0 takes the likeliest."),
            gr.Number(None, minimum=0, step=0.05, label="Temperature of the fine stage", render=False,
                      placeholder="the Bark's own"),
            gr.Dropdown(list(PROMPT_MODES), value=PROMPT_MODES[0], label="Stages that hear the voice", render=False,
                        info="all; its sound alone; its words alone; none"),
            gr.Radio(list(LONG_FORMS), value=LONG_FORMS[0], label="Long texts", render=False,
                     info="each piece hears the voice, or the piece before"),
        ]  # fmt: skip

    def render(self) -> None:
        with gr.Row():
            for component in self.components:
                component.render()


def _clone_tab(visit: "Visit", shared: list) -> gr.Button:
    bark, adapter, voice, prompt, num_cancelled = shared
    with gr.Row(equal_height=False):
        with gr.Column():
            recording = _recording("A recording of the voice: some seconds of clear speech", "reference")
            with gr.Row():
                start_s = gr.Number(0, minimum=0, step=0.1, label="Part from (s)")
                end_s = gr.Number(0, minimum=0, step=0.1, label="to (s)")
            with gr.Row():
                best = gr.Button("Find the best part")
                read = gr.Button("Read this part")
            consent = gr.Checkbox(label=CONSENT, elem_id="consent")
            with gr.Row():
                clone = gr.Button("Clone", variant="primary", elem_id="clone")
                stop = gr.Button("Cancel")
            with gr.Accordion("I have a voice prompt (.npz) already", open=False):
                file = gr.File(file_types=[".npz"], label="Voice prompt", elem_id="npz")
        with gr.Column():
            summary = gr.Textbox(label="What the encoder hears", lines=2, interactive=False, elem_id="summary")
            tokens = gr.HighlightedText(
                label="Semantic tokens; the darker, the surer the encoder is", show_legend=False, elem_id="tokens"
            )
            report = gr.Textbox(
                label="What Bark will read of the voice prompt", lines=6, interactive=False, elem_id="report"
            )
            saved = gr.File(label="Voice prompt, for this and every other Bark program", interactive=False, height=120)
    part, heard = [recording, start_s, end_s], [summary, tokens]
    job = [bark, adapter, num_cancelled]
    for event, name in ((recording.change, "analyse"), (best.click, "best_part")):
        event(visit.best_part, [recording, *job], [start_s, end_s, *heard], **_computing(name, summary))
    read.click(visit.read_part, [*part, *job], heard, **_computing("read_part", summary))
    results = [*heard, report, saved, voice, prompt]
    clone.click(visit.clone, [*part, consent, *job], results, **_computing("clone", report))
    file.upload(visit.load_prompt, [file, consent, *job], [report, voice, prompt], **_computing("load_prompt", report))
    return stop


def _speak_tab(visit: "Visit", shared: list, options: _Options) -> gr.Button:
    with gr.Row(equal_height=False):
        with gr.Column():
            text = gr.Textbox(
                label="Text, of any length; [laughs], ♪ and CAPITALS are for Bark", lines=6, elem_id="text"
            )
            with gr.Row():
                speak = gr.Button("Speak", variant="primary", elem_id="speak")
                stop = gr.Button("Cancel", elem_id="stop")
        with gr.Column():
            audio = _speech("speech")
            status = gr.Textbox(label="Result", lines=1, interactive=False, elem_id="spoken")
    speak.click(visit.speak, [text, *shared, *options.components], [audio, status], **_computing("speak", audio))
    return stop


def _convert_tab(visit: "Visit", shared: list, options: _Options) -> gr.Button:
    with gr.Row(equal_height=False):
        with gr.Column():
            source = _recording("A recording whose words the voice shall say, as they are said", "source")
            with gr.Row():
                convert = gr.Button("Convert", variant="primary", elem_id="convert")
                stop = gr.Button("Cancel")
        with gr.Column():
            audio = _speech("converted")
            status = gr.Textbox(label="Result", lines=1, interactive=False)
    convert.click(
        visit.convert, [source, *shared, *options.components], [audio, status], **_computing("convert", audio)
    )
    return stop


def _batch_tab(visit: "Visit", shared: list, options: _Options) -> gr.Button:
    with gr.Row(equal_height=False):
        with gr.Column():
            lines = gr.Textbox(label=f"One text per line, at most {MAX_LINES}", lines=10, elem_id="lines")
            with gr.Row():
                start = gr.Button("Speak all", variant="primary", elem_id="batch")
                stop = gr.Button("Cancel", elem_id="stop-batch")
        with gr.Column():
            table = gr.Dataframe(
                headers=["line", "text", "result"], label="Lines", interactive=False, wrap=True, elem_id="table"
            )
            archive = gr.File(label="All of them, as wav in a zip", interactive=False, height=120, elem_id="zip")
    start.click(
        visit.speak_lines, [lines, *shared, *options.components], [table, archive],
        **_computing("speak_lines", archive, concurrency_id="batch"),
    )  # fmt: skip
    return stop


def _recording(label: str, elem_id: str) -> gr.Audio:
    sources = ["upload", "microphone"]
    return gr.Audio(
        sources=sources, type="filepath", editable=False, buttons=NO_SHARING, label=label, elem_id=elem_id
    )  # fmt: skip


def _speech(elem_id: str) -> gr.Audio:
    return gr.Audio(label="Speech", interactive=False, buttons=NO_SHARING, elem_id=elem_id)


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


class _OnlyFromHere:
    """ASGI middleware: tells the browser to load nothing from elsewhere."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                headers = [(b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            await send(message)

        await self.app(scope, receive, send_with_policy)


def _theme() -> gr.themes.Base:
    """A theme of the system's fonts, which are on every machine."""
    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def _computing(name: str, shown_on: gr.Component, concurrency_id: str = "bark") -> dict[str, Any]:
    """Settings of an event that computes: one at a time, for all visitors.

    Args:
        name (`str`): of the event, for programs.
        shown_on (`gr.Component`): where progress is shown.
    """
    queue = {"concurrency_id": concurrency_id, "concurrency_limit": 1, "trigger_mode": "multiple"}
    return {"api_name": name, "show_progress_on": shown_on, **queue}


def _cache_note(studio: Studio) -> str:
    if not studio.cached:
        return "No Bark is in this machine's Hub cache. Others: start the page with --bark ID."
    cached = ", ".join(f"{name} ({size})" for name, size in studio.cached.items())
    return f"On this machine: {cached}. Others: start the page with --bark ID."


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


__all__ = ["Visit", "build_page", "launch", "serve"]
