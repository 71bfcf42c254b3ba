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

import json
from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from ..bark.request import PROMPT_MODES
from ..voices.speaking import LONG_FORMS
from .look import CSS, theme
from .studio import MAX_LINES, Studio
from .visit import CONSENT, NOTHING_READ, Visit

TITLE = "Voices for Bark"
HOST, PORT = "127.0.0.1", 7860
MAX_UPLOAD = "200mb"
DELETE_FILES_S = 3_600  # how old a recording or its result gets on the disk
MAX_WAITING = 16  # jobs in the queue; later ones are refused
NO_SHARING = ["download"]  # gradio's other button of a recording uploads it

# a recording as a whole, and the part of it that was chosen
OVERVIEW = """${value ? `<svg viewBox="0 -1 ${value.peaks.length} 2" preserveAspectRatio="none">
    ${value.peaks.map((peak, i) => `<path class="peaks" d="M${i + 0.5} ${-peak}V${peak}"/>`).join("")}
    <rect class="part" x="${value.start_s / value.duration_s * value.peaks.length}" y="-1" height="2"
        width="${(value.end_s - value.start_s) / value.duration_s * value.peaks.length}"/></svg>` : ""}"""
DRAG = """
let dragged = false;
const move = (event) => {
    const {left, width} = element.getBoundingClientRect(), {duration_s, start_s, end_s} = props.value;
    const length = end_s - start_s, middle = (event.clientX - left) / width * duration_s;
    const start = Math.max(0, Math.min(duration_s - length, middle - length / 2));
    const round = (seconds) => Math.round(seconds * 100) / 100;
    props.value = {...props.value, start_s: round(start), end_s: round(start + length)};
    trigger('drag');
};
element.addEventListener('pointerdown', (event) => {
    if (!props.value) return;
    dragged = true;
    element.setPointerCapture(event.pointerId);
    move(event);
});
element.addEventListener('pointermove', (event) => dragged && move(event));
element.addEventListener('pointerup', () => {
    if (dragged) trigger('drop');
    dragged = false;
});
"""

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
        theme=theme(),
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
    fields = visit.fields
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(DELETE_FILES_S // 4, DELETE_FILES_S)) as page:
        gr.Markdown(
            f"# {TITLE}\nClone a voice, then let it speak. Everything is computed on this machine, and recordings and "
            "texts stay there. Files of speech say in their comment that they are synthetic."
        )
        fields.prompt = gr.State(None)  # VoicePrompt, of this visitor
        fields.num_cancelled = gr.Number(0, visible=False)  # sent along with every job; see Studio.work
        with gr.Row():
            fields.bark = gr.Dropdown(
                visit.barks(),
                value=studio.bark,
                label="Bark",
                info="The model that speaks.",
                scale=2,
                min_width=240,
                elem_id="bark",
            )
            adapters = [("none", ""), *((name, name) for name in studio.adapters)]
            fields.adapter = gr.Dropdown(
                adapters, value="", label="Adapter", info="Fine-tuned changes to this Bark.",
                visible=bool(studio.adapters),
            )  # fmt: skip
            fields.voice = gr.Dropdown(
                visit.first_voices(),
                label="Voice",
                info="Who speaks. A clone appears here.",
                scale=2,
                min_width=240,
                elem_id="voice",
            )
        download = gr.Button("Download", visible=False, elem_id="download")
        with gr.Tab("Clone"):
            stops = [_clone_tab(visit)]
        settings = _add_settings(visit)
        with gr.Tab("Speak"):
            fields.text = gr.Textbox(
                label="Text, of any length; [laughs], ♪ and CAPITALS are for Bark", lines=6, max_lines=12,
                elem_id="text", render=False,
            )  # fmt: skip
            unknown = gr.Markdown(visible=False, elem_id="unknown", elem_classes="note", render=False)
            stops.append(_speech_tab(visit, "speak", fields.text, visit.speak, settings, below=[unknown]))
        fields.text.change(
            visit.name_unknown_words, [fields.bark, fields.text], unknown, queue=False, show_progress="hidden",
            trigger_mode="always_last", api_name=False,
        )  # fmt: skip
        with gr.Tab("Convert"):
            fields.source = _recording("A recording whose words the voice shall say, as they are said", "source")
            stops.append(_speech_tab(visit, "convert", fields.source, visit.convert, settings))
        with gr.Tab("Batch"):
            stops.append(_batch_tab(visit, settings))
        with gr.Accordion("How Bark speaks", open=False), gr.Row():
            for setting in settings:
                setting.render()
        for stop in stops:
            stop.click(visit.cancel, None, fields.num_cancelled, queue=False, show_progress="hidden", api_name=False)
        chosen, outputs = (
            {*_models(visit), fields.prompt, fields.text},
            [fields.bark, fields.voice, fields.prompt, download, unknown],
        )
        for menu, name in ((fields.bark, "choose_bark"), (fields.adapter, "choose_adapter")):
            menu.input(visit.choose, chosen, outputs, **_computing(name, fields.voice))
        computing = _computing("download", fields.voice, concurrency_id="download")
        download.click(visit.download, chosen, outputs, **computing)
        page.unload(visit.leave)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def _models(visit: Visit) -> set[gr.Component]:
    """What every computation needs to know."""
    return {visit.fields.bark, visit.fields.adapter, visit.fields.num_cancelled}


def _add_settings(visit: Visit) -> list[gr.Component]:
    """The settings of speech, which stand below all tabs, and are made before."""
    fields = visit.fields
    fields.seed = gr.Number(
        0, label="Seed", precision=0, minimum=0, info="Another seed, another take.", render=False
    )  # fmt: skip
    for name, label, info in (
        ("temperature", "Temperature of words and sound", "0 takes the likeliest."),
        ("fine_temperature", "Temperature of the fine stage", "0 takes the likeliest."),
        ("guidance_scale", "Guidance by the words", "Above 1 words are clearer, and speaking takes longer."),
        ("voice_guidance_scale", "Guidance by the voice", "Above 1 the voice is closer, and speaking takes longer."),
    ):  # texts: a gr.Number without a value shows, and then sends, 0
        setting = gr.Textbox(label=label, info=info, placeholder="the Bark's own", max_lines=1, render=False)
        setattr(fields, name, setting)
    fields.prompt_mode = gr.Dropdown(
        list(PROMPT_MODES), value=PROMPT_MODES[0], label="Stages that receive the voice",
        info="all; its sound alone; its words alone; none", render=False,
    )  # fmt: skip
    fields.long_form = gr.Radio(
        list(LONG_FORMS), value=LONG_FORMS[0], label="Long texts",
        info="each piece follows the voice, or the piece before", render=False,
    )  # fmt: skip
    temperatures = [fields.temperature, fields.fine_temperature]
    guidance = [fields.guidance_scale, fields.voice_guidance_scale]
    return [fields.seed, *temperatures, *guidance, fields.prompt_mode, fields.long_form]


def _clone_tab(visit: Visit) -> gr.Button:
    fields = visit.fields
    with gr.Row(equal_height=False):
        with gr.Column():
            fields.recording = _recording("A recording of the voice: some seconds of clear speech", "reference")
            fields.recording.render()
            part = gr.HTML(
                label="The chosen part; drag it", html_template=OVERVIEW, js_on_load=DRAG, elem_id="part",
                elem_classes="overview",
            )  # fmt: skip
            with gr.Row(elem_id="bounds"):
                fields.start_s = gr.Number(0, minimum=0, step=0.1, label="Part from (s)", min_width=100)
                fields.end_s = gr.Number(0, minimum=0, step=0.1, label="to (s)", min_width=100)
            with gr.Row():
                best = gr.Button("Find the best part", min_width=100)
                read = gr.Button("Read this part", min_width=100)
            fields.consent = gr.Checkbox(label=CONSENT, elem_id="consent")
            with gr.Row():
                clone = gr.Button("Clone", variant="primary", elem_id="clone")
                stop = gr.Button("Cancel")
            with gr.Accordion("I have a voice prompt (.npz) already", open=False):
                fields.file = gr.File(file_types=[".npz"], label="Voice prompt", elem_id="npz")
                fields.prompt_consent = gr.Checkbox(label=CONSENT, elem_id="npz-consent")
                load = gr.Button("Use this voice prompt", elem_id="load-npz")
        with gr.Column():
            summary = gr.Textbox(label="The part, in words", lines=2, interactive=False, elem_id="summary")
            sound = gr.Audio(label="The part that becomes the voice", interactive=False, buttons=[], elem_id="sound")
            shown = gr.HTML(elem_id="picture")
            with gr.Accordion("Details", open=False):
                tokens = gr.HighlightedText(
                    label="Semantic tokens; the stronger the colour, the surer the encoder is", show_legend=False,
                    elem_id="tokens",
                )  # fmt: skip
                report = gr.Textbox(
                    label="What Bark will read of the voice prompt", lines=6, interactive=False, elem_id="report"
                )
            saved = gr.File(label="Voice prompt", interactive=False, visible=False, height=120, elem_id="saved")
    models, bounds = _models(visit), [fields.start_s, fields.end_s]
    of_part = dict(zip([summary, sound, shown, tokens], NOTHING_READ, strict=True))
    # consent is for one recording, and so is what was made of it
    _reset(fields.recording.change, {fields.consent: False, part: None, **of_part, report: "", saved: None})
    _reset(fields.file.change, {fields.prompt_consent: False})
    for event, name in ((fields.recording.change, "analyse"), (best.click, "best_part")):
        event(visit.best_part, {fields.recording, *models}, [*bounds, part, *of_part], **_computing(name, summary))
    chosen, voice = {fields.recording, *bounds, *models}, [fields.voice, fields.prompt]
    for event, name in ((read.click, "read_part"), (part.drop, "drop_part")):
        event(visit.read_part, chosen, [*of_part], **_computing(name, summary))
    part.drag(None, part, bounds, js="(part) => [part.start_s, part.end_s]")
    for bound in bounds:
        bound.input(None, [part, *bounds], part, js="(part, start_s, end_s) => part && {...part, start_s, end_s}")
    _reset(clone.click, {report: "", saved: None})
    outputs = [*of_part, report, saved, *voice]
    clone.click(visit.clone, {*chosen, fields.consent}, outputs, **_computing("clone", summary))
    inputs = {fields.file, fields.prompt_consent, *models}
    _reset(load.click, {report: "", saved: None})
    load.click(visit.load_prompt, inputs, [report, *voice], **_computing("load_prompt", summary))
    return stop


def _speech_tab(
    visit: Visit,
    name: str,
    content: gr.Component,
    handler: Callable,
    settings: list[gr.Component],
    below: Iterable[gr.Component] = (),
) -> gr.Button:
    """What is to be said, and the file that is made of it."""
    with gr.Row(equal_height=False):
        with gr.Column():
            for component in (content, *below):
                component.render()
            with gr.Row():
                start = gr.Button(name.capitalize(), variant="primary", elem_id=name)
                stop = gr.Button("Cancel", elem_id=f"stop-{name}")
        with gr.Column():
            audio = gr.Audio(label="Speech", interactive=False, buttons=NO_SHARING, elem_id=f"{name}-audio")
            status = gr.Textbox(label="Result", lines=1, interactive=False, elem_id=f"{name}-result")
    inputs = {content, visit.fields.voice, visit.fields.prompt, *_models(visit), *settings}
    _reset(start.click, {audio: None, status: ""})
    start.click(handler, inputs, [audio, status], **_computing(name, audio))
    return stop


def _batch_tab(visit: Visit, settings: list[gr.Component]) -> gr.Button:
    fields = visit.fields
    with gr.Row(equal_height=False):
        with gr.Column():
            fields.lines = gr.Textbox(label=f"One text per line, at most {MAX_LINES}", lines=10, elem_id="lines")
            with gr.Row():
                start = gr.Button("Speak all", variant="primary", elem_id="batch")
                stop = gr.Button("Cancel", elem_id="stop-batch")
        with gr.Column():
            table = gr.Dataframe(
                headers=["line", "text", "result"], label="Lines", interactive=False, wrap=True, elem_id="table"
            )
            archive = gr.File(label="All of them, as wav in a zip", interactive=False, height=120, elem_id="zip")
    inputs = {fields.lines, fields.voice, fields.prompt, *_models(visit), *settings}
    _reset(start.click, {table: None, archive: None})
    computing = _computing("speak_lines", archive, concurrency_id="batch")
    start.click(visit.speak_lines, inputs, [table, archive], **computing)
    return stop


def _recording(label: str, elem_id: str) -> gr.Audio:
    return gr.Audio(
        sources=["upload", "microphone"], type="filepath", editable=False, buttons=NO_SHARING, label=label,
        elem_id=elem_id, render=False,
    )  # fmt: skip


def _reset(event: Callable, values: dict[gr.Component, Any]) -> None:
    """Set components to values in the browser at once, so that no result of before stands beside what comes."""
    event(None, None, list(values), js=f"() => {json.dumps(list(values.values()))}")


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


def _computing(name: str, shown_on: gr.Component, concurrency_id: str = "bark") -> dict[str, Any]:
    """Settings of an event that computes: one at a time, for all visitors.

    Args:
        name (`str`): of the event, for programs.
        shown_on (`gr.Component`): where progress is shown.
    """
    queue = {"concurrency_id": concurrency_id, "concurrency_limit": 1, "trigger_mode": "multiple"}
    return {"api_name": name, "show_progress_on": shown_on, **queue}


__all__ = ["build_page", "launch", "serve"]
