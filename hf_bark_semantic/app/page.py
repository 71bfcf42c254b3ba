"""`bark-semantic app`: a page on this machine on which voices are cloned, speak and are converted.

    serve         loads the models and shows the page, until it is interrupted
    build_page    the page over a `Studio`

    model, adapter, voice ──┬── Clone     recording ──> part ──> tokens ──> voice prompt and its report
                            ├── Speak     text ──> speech
                            ├── Convert   recording ──> the same words in the voice
                            └── Batch     lines ──> a zip of recordings

Recordings and texts stay on the machine: the page loads nothing from elsewhere (and forbids the browser to), reports
nothing, and has no public link. A visitor's voice is kept in the visitor's session alone.
"""

from typing import Any

import gradio as gr

from ..bark.request import PROMPT_MODES
from ..voices.provenance import model_name
from ..voices.speaking import LONG_FORMS
from .studio import MAX_LINES, Studio
from .visit import CONSENT, Visit

TITLE = "Voices for Bark"
HOST, PORT = "127.0.0.1", 7860
MAX_UPLOAD = "200mb"
DELETE_FILES_S = 3_600  # how old a recording or its result gets on the disk
MAX_WAITING = 16  # jobs in the queue; whoever comes then is told to come back
NO_SHARING = ["download"]  # gradio's other button of a recording uploads it
CSS = "#tokens {max-height: 16em; overflow-y: auto}"

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


__all__ = ["build_page", "launch", "serve"]
