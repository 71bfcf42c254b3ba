"""`bark-semantic app`: a page on this machine that clones voices, speaks with them and converts recordings.

    serve         loads the models and shows the page, until it is interrupted
    build_page    the page over a `Studio`

    model, adapter, voice ──┬── Clone     recording ──> part ──> tokens ──> voice prompt and its report
                            ├── Speak     text ──> speech
                            ├── Convert   recording ──> the same words in the voice
                            └── Batch     lines ──> a zip of recordings

Recordings and texts stay on the machine: the page loads nothing from other sites (its content security policy forbids
it), reports nothing, and has no public link. On the loopback address the user's voices are stored in a folder. On any
other address, each visitor's browser stores them. The browser always stores the history.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from ..audio import SAVED_FORMATS
from ..bark.request import PROMPT_MODES
from ..packaged import nano_recording
from ..voices.speaking import LONG_FORMS
from .browser import NOTHING_CHOSEN
from .guard import LOOPBACK, Guard
from .history import FIELDS
from .look import CSS, theme
from .refusals import Blocks, Refusals
from .scripts import DRAG, LINES, OVERVIEW, PLAYER
from .shelf import Shelf
from .studio import MAX_LINES, OWN, Studio
from .visit import CONSENT, NOTHING_READ, Visit

TITLE = "Voices for Bark"
HOST, PORT = "127.0.0.1", 7860
MAX_UPLOAD = "200mb"
DELETE_FILES_S = 3_600  # recordings and results older than this are deleted from the disk
MAX_WAITING = 16  # jobs in the queue; later ones are refused
MAX_VISITS = 32  # whose fields gradio keeps in memory, about 1 MB each; no visitor depends on them
HIDDEN = gr.update(value=None, visible=False)
FORMATS = [extension.removeprefix(".") for extension in SAVED_FORMATS]
NO_SHARING = ["download"]  # without gradio's share button, which uploads the recording

CUES = ("[laughs]", "[sighs]", "♪", "—")
EXAMPLES = ("The dog runs to the river.", "Could you open the window, please?", "Five seven one nine two.")
BROWSER = {"secret": "hf_bark_semantic"}  # gradio encrypts what browsers store; a constant key outlives a restart

_PROMPTED = ("all", "only its sound", "only its tokens", "none")  # labels of PROMPT_MODES
_FOLLOWED = ("the voice", "the piece before")  # labels of LONG_FORMS

# The page loads nothing from other sites, even if one of its libraries tries to. gradio's scripts are inline.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; frame-ancestors 'self'"
)


def serve(
    studio: Studio,
    *,
    host: str = HOST,
    port: int = PORT,
    auth: tuple[str, str] | None = None,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Show the page until it is interrupted.

    Args:
        studio (`Studio`): its models are loaded before the page opens.
        host (`str`): address to listen on; with any other than the loopback address, other machines see the page.
        port (`int`): port to listen on.
        auth (`tuple[str, str]`, *optional*): name and password that visitors must type.
        allowed_hosts (`Sequence[str]`): host names that requests may use beside the loopback's, such as a proxy's.

    Raises:
        ValueError, OSError: a model cannot be loaded, or the port is taken.
    """
    studio.load_all()
    shelf = Shelf.of_user() if host in LOOPBACK else None
    page, options = build_page(studio, shelf), {"auth": auth, "allowed_hosts": allowed_hosts}
    launch(page, host=host, port=port, prevent_thread_lock=False, **options)


def launch(
    page: gr.Blocks,
    *,
    host: str = HOST,
    port: int | None = PORT,
    auth: tuple[str, str] | None = None,
    allowed_hosts: Sequence[str] = (),
    prevent_thread_lock: bool = True,
):
    """Start the server of a page, with the arguments of [`serve`]; returns what gradio's `launch` returns."""
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
        state_session_capacity=MAX_VISITS,
        auth=auth,
        app_kwargs={
            "middleware": [Middleware(Refusals), Middleware(_OnlyFromHere), Middleware(Guard, host, allowed_hosts)]
        },
        prevent_thread_lock=prevent_thread_lock,
    )


def build_page(studio: Studio, shelf: Shelf | None = None) -> gr.Blocks:
    """The page, not yet shown.

    Args:
        studio (`Studio`): loads the models and runs them.
        shelf (`Shelf`, *optional*): stores the voices of the one user of this machine. Without it, each visitor's
            browser stores its own voices, and this machine none.
    """
    visit = Visit(studio, shelf)
    fields = visit.fields
    with Blocks(title=TITLE, analytics_enabled=False, delete_cache=(DELETE_FILES_S // 4, DELETE_FILES_S)) as page:
        gr.Markdown(
            f"# {TITLE}\nClone a voice, then let it speak. Everything is computed on this machine, and recordings and "
            f"texts stay there. Your voices are kept {'in your own folder' if shelf else 'only in your browser'}. "
            "A comment in each speech file says that it is synthetic."
        )
        # The visitor's voices by name, as `pack` returns them, and the history, newest first. They are not inside a
        # tab, because gradio has no value of a component in a tab before the tab is opened.
        fields.own = gr.State({}) if shelf else gr.BrowserState({}, storage_key="bark-voices", **BROWSER)
        fields.history = gr.BrowserState([], storage_key="bark-history", **BROWSER)
        fields.last = gr.BrowserState(dict(NOTHING_CHOSEN), storage_key="bark-last", **BROWSER)
        fields.num_cancelled = gr.Number(0, visible=False)  # sent along with every job; see Studio.work
        menus = _add_menus(visit)
        with gr.Tab("Clone"):
            stops = [_clone_tab(visit)]
        settings = _add_settings(visit)
        with gr.Tab("Speak"):
            fields.text = gr.Textbox(
                label="Text, of any length; [laughs], ♪ and CAPITALS are for Bark", lines=6, max_lines=12,
                elem_id="text", render=False,
            )  # fmt: skip
            unknown = gr.Markdown(visible=False, elem_id="unknown", elem_classes="note", render=False)

            def help_to_write() -> None:
                unknown.render()
                _add_cues(fields.text)
                gr.Examples([[text] for text in EXAMPLES], fields.text, label="Examples")

            said = _speech_tab(visit, "speak", fields.text, visit.speak, settings, below=help_to_write)
            stops.append(said.stop)
            _add_history(visit, said, settings)
        fields.text.change(
            visit.name_unknown_words, [fields.bark, fields.text], unknown, queue=False, show_progress="hidden",
            trigger_mode="always_last", api_name=False,
        )  # fmt: skip
        with gr.Tab("Convert"):
            fields.source = _recording("A recording whose words the voice repeats, with the same timing", "source")
            example = partial(_offer_example, fields.source, "Try it with an example")
            stops.append(_speech_tab(visit, "convert", fields.source, visit.convert, settings, below=example).stop)
        with gr.Tab("Batch"):
            stops.append(_batch_tab(visit, settings))
        with gr.Accordion("How Bark speaks", open=False), gr.Row():
            for setting in settings:
                setting.render()
        for stop in stops:
            stop.click(visit.cancel, None, fields.num_cancelled, queue=False, show_progress="hidden", api_name=False)
        _connect_menus(visit, menus, unknown)
        arrived = [fields.own, fields.bark, fields.voice, fields.past, menus.damage]
        page.load(
            visit.arrive, {fields.own, fields.history, fields.last}, arrived, queue=False, show_progress="hidden",
            api_name="arrive",
        )  # fmt: skip
        # runs in the browser, so that the text is there before the visitor begins to write
        page.load(None, [fields.last, fields.text], fields.text, js="(last, text) => text || last?.text || ''")
        for name in NOTHING_CHOSEN:
            choice = getattr(fields, name)
            keep = f"(last, chosen) => ({{...last, {name}: chosen}})"
            choice.change(None, [fields.last, choice], fields.last, js=keep)
        page.unload(visit.leave)
    # direct calls would bypass the queue
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)


@dataclass
class _Menus:
    """Components beside the menus of Barks and voices."""

    download: gr.Button
    listen: gr.Button
    delete: gr.Button
    sample: gr.Audio
    damage: gr.Markdown


def _add_menus(visit: Visit) -> _Menus:
    """The menus of Barks, adapters and voices, and what belongs to them."""
    fields, studio = visit.fields, visit.studio
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
        fields.voice = _own_menu(
            visit.first_voices(),
            label="Voice",
            info="Your clones come first. Male and female are estimated from the pitch.",
            scale=2,
            min_width=240,
            elem_id="voice",
        )
    with gr.Row():
        download = gr.Button("Download", visible=False, elem_id="download")
        listen = gr.Button("Listen to this voice", elem_id="listen", size="sm", min_width=120)
        delete = gr.Button("Delete this voice", visible=False, elem_id="delete", size="sm", min_width=120)
    sample = gr.Audio(label="The voice", interactive=False, visible=False, buttons=[], elem_id="sample")
    damage = gr.Markdown(visible=False, elem_id="damage", elem_classes="note")
    return _Menus(download, listen, delete, sample, damage)


def _own_menu(choices: Sequence, **options: Any) -> gr.Dropdown:
    """A menu whose choices differ between visitors. The handlers check the chosen one.

    gradio's own check would refuse every choice after it has dropped the state of the visit.
    """
    menu = gr.Dropdown(choices, **options)
    menu.preprocess = lambda chosen: chosen
    return menu


def _connect_menus(visit: Visit, menus: _Menus, unknown: gr.Markdown) -> None:
    fields = visit.fields
    models, outputs = _models(visit), [fields.bark, fields.voice, menus.download, unknown]
    for menu, name in ((fields.bark, "choose_bark"), (fields.adapter, "choose_adapter")):
        menu.input(visit.choose, {*models, fields.own, fields.text}, outputs, **_computing(name, fields.voice))
    computing = _computing("download", fields.voice, concurrency_id="download")
    menus.download.click(visit.download, {*models, fields.own, fields.text}, outputs, **computing)
    voice = {fields.voice, fields.own}
    menus.listen.click(visit.listen, {*models, *voice}, menus.sample, **_computing("listen", menus.sample))
    menus.delete.click(
        visit.delete, {*models, *voice}, [fields.voice, fields.own], **_computing("delete", fields.voice)
    )
    fields.voice.change(
        lambda voice: gr.update(visible=str(voice).startswith(OWN)), fields.voice, menus.delete, queue=False,
        show_progress="hidden", api_name=False,
    )  # fmt: skip


def _models(visit: Visit) -> set[gr.Component]:
    """The inputs of every computation."""
    return {visit.fields.bark, visit.fields.adapter, visit.fields.num_cancelled}


def _add_settings(visit: Visit) -> list[gr.Component]:
    """The settings of speech. They are shown below the tabs, but must exist before them."""
    fields = visit.fields
    fields.seed = gr.Number(
        0, label="Seed", precision=0, minimum=0, info="Another seed gives another version.", render=False
    )  # fmt: skip
    for name, label, info in (
        ("temperature", "Temperature of words and sound", "0 always chooses the likeliest token."),
        ("fine_temperature", "Temperature of the fine stage", "0 always chooses the likeliest token."),
        ("guidance_scale", "Guidance by the words", "Above 1, words are clearer and speaking takes longer."),
        ("voice_guidance_scale", "Guidance by the voice", "Above 1, the voice is closer and speaking takes longer."),
    ):  # text boxes, because an empty gr.Number shows and sends 0
        setting = gr.Textbox(label=label, info=info, placeholder="this Bark's default", max_lines=1, render=False)
        setattr(fields, name, setting)
    fields.prompt_mode = gr.Dropdown(
        list(zip(_PROMPTED, PROMPT_MODES, strict=True)), value=PROMPT_MODES[0], label="Parts of the voice in use",
        info="Its tokens carry the way of speaking, its codes the sound.", render=False,
    )  # fmt: skip
    fields.long_form = gr.Radio(
        list(zip(_FOLLOWED, LONG_FORMS, strict=True)), value=LONG_FORMS[0], label="Long texts",
        info="What each piece of a long text takes as its voice prompt.", render=False,
    )  # fmt: skip
    fields.format = gr.Dropdown(FORMATS, value=FORMATS[0], label="File format", info="Of speech.", render=False)
    temperatures = [fields.temperature, fields.fine_temperature]
    guidance = [fields.guidance_scale, fields.voice_guidance_scale]
    return [fields.seed, *temperatures, *guidance, fields.prompt_mode, fields.long_form, fields.format]


def _clone_tab(visit: Visit) -> gr.Button:
    fields = visit.fields
    with gr.Row(equal_height=False):
        with gr.Column():
            fields.recording = _recording("A recording of the voice: some seconds of clear speech", "reference")
            fields.recording.render()
            _offer_example(fields.recording, "Try it with an example: a synthetic voice")
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
            fields.name = gr.Textbox("my voice", label="Name of the voice", max_lines=1, elem_id="name", render=False)
            fields.consent = gr.Checkbox(label=CONSENT, elem_id="consent", render=False)
            write = _add_transcript(visit)
            fields.name.render()
            fields.consent.render()
            with gr.Row():
                clone = gr.Button("Clone", variant="primary", elem_id="clone")
                stop = gr.Button("Cancel")
            with gr.Accordion("I have a voice prompt (.npz) already", open=False):
                fields.file = gr.File(file_types=[".npz"], label="Voice prompt", elem_id="npz")
                fields.prompt_consent = gr.Checkbox(label=CONSENT, elem_id="npz-consent")
                load = gr.Button("Use this voice prompt", elem_id="load-npz")
        with gr.Column():
            summary = gr.Textbox(label="How good this part is", lines=2, interactive=False, elem_id="summary")
            sound = gr.Audio(label="The part that becomes the voice", interactive=False, buttons=[], elem_id="sound")
            shown = gr.HTML(elem_id="picture")
            with gr.Accordion("Details", open=False):
                tokens = gr.HighlightedText(
                    label="Semantic tokens; stronger colours where the encoder is more certain", show_legend=False,
                    elem_id="tokens",
                )  # fmt: skip
                report = gr.Textbox(
                    label="What Bark uses of the voice prompt", lines=6, interactive=False, elem_id="report"
                )
            saved = gr.DownloadButton("Download the voice prompt", visible=False, elem_id="saved")
    models, bounds = _models(visit), [fields.start_s, fields.end_s]
    of_part = dict(zip([summary, sound, shown, tokens], NOTHING_READ, strict=True))
    # consent and results belong to one recording
    _reset(fields.recording.change, {fields.consent: False, part: None, **of_part, report: "", saved: HIDDEN})
    for event in (fields.recording.change, best.click, part.drop, *(bound.input for bound in bounds)):
        _reset(event, {fields.transcript: ""})  # the words belong to one part
    _reset(fields.file.change, {fields.prompt_consent: False})
    for event, name in ((fields.recording.change, "analyse"), (best.click, "best_part")):
        event(visit.best_part, {fields.recording, *models}, [*bounds, part, *of_part], **_computing(name, summary))
    chosen, voice = {fields.recording, *bounds, *models}, [fields.voice, fields.own]
    with_words = {*chosen, fields.transcript}
    for event, inputs, name in ((read.click, with_words, "read_part"), (part.drop, chosen, "drop_part")):
        event(visit.read_part, inputs, [*of_part], **_computing(name, summary))
    write.click(visit.transcribe, chosen, fields.transcript, **_computing("transcribe", fields.transcript))
    part.drag(None, part, bounds, js="(part) => [part.start_s, part.end_s]")
    for bound in bounds:
        bound.input(None, [part, *bounds], part, js="(part, start_s, end_s) => part && {...part, start_s, end_s}")
    _reset(clone.click, {report: "", saved: HIDDEN})
    outputs = [*of_part, report, saved, *voice]
    clone.click(
        visit.clone, {*with_words, fields.name, fields.consent, fields.own}, outputs, **_computing("clone", summary)
    )
    inputs = {fields.file, fields.name, fields.prompt_consent, fields.own, *models}
    _reset(load.click, {report: "", saved: HIDDEN})
    load.click(visit.load_prompt, inputs, [report, *voice], **_computing("load_prompt", summary))
    return stop


def _add_transcript(visit: Visit) -> gr.Button:
    """A field for the words of the chosen part, and a button that fills it; both only if Whisper is installed."""
    visit.fields.transcript = gr.Textbox(
        "", label="The words of this part (optional)", lines=2, elem_id="transcript",
        info="With exactly these words, Bark helps to find the tokens. Whisper tiny.en knows only English.",
        visible=visit.studio.has_whisper,
    )  # fmt: skip
    return gr.Button("Transcribe with Whisper", size="sm", elem_id="write", visible=visit.studio.has_whisper)


@dataclass
class _SpeechTab:
    """The parts of a tab that other functions need."""

    start: gr.Button
    stop: gr.Button
    inputs: set[gr.Component]
    outputs: list[gr.Component]  # a recording first
    handler: Callable
    spoken: Any  # the event


def _speech_tab(
    visit: Visit,
    name: str,
    content: gr.Component,
    handler: Callable,
    settings: list[gr.Component],
    below: Callable[[], None] | None = None,
) -> _SpeechTab:
    """A tab that speaks `content`, a text or a recording; the speech is shown beside it."""
    with gr.Row(equal_height=False):
        with gr.Column():
            content.render()
            if below is not None:
                below()
            with gr.Row():
                start = gr.Button(name.capitalize(), variant="primary", elem_id=name)
                stop = gr.Button("Cancel", elem_id=f"stop-{name}")
        with gr.Column():
            audio = gr.Audio(label="Speech", interactive=False, buttons=NO_SHARING, elem_id=f"{name}-audio")
            player = gr.HTML(
                js_on_load=PLAYER, html_template="", elem_id=f"{name}-player", elem_classes="unseen"
            )  # fmt: skip
            status = gr.Textbox(label="Result", lines=1, interactive=False, elem_id=f"{name}-result")
            shown = gr.HTML(elem_id=f"{name}-picture")
    inputs = {content, visit.fields.voice, visit.fields.own, *_models(visit), *settings}
    outputs = [audio, status, player, shown]
    _reset(start.click, {audio: None, status: "", player: None, shown: ""})
    _reset(stop.click, {player: None})
    spoken = start.click(handler, inputs, outputs, **_computing(name, audio))
    return _SpeechTab(start, stop, inputs, outputs, handler, spoken)


def _offer_example(recording: gr.Audio, words: str) -> None:
    """A button that chooses nano's example recording, if it is installed."""
    try:
        example = str(nano_recording())
    except FileNotFoundError:
        return
    button = gr.Button(words, size="sm", elem_id=f"example-{recording.elem_id}")
    button.click(lambda: example, None, recording, queue=False, show_progress="hidden", api_name=False)


def _add_cues(text: gr.Textbox) -> None:
    """Buttons for symbols that are hard to type."""
    with gr.Row():
        for cue in CUES:
            button = gr.Button(cue, size="sm", min_width=60)
            button.click(None, text, text, js=f"(text) => `${{text}} {cue} `.trimStart()")


def _add_history(visit: Visit, tab: _SpeechTab, settings: list[gr.Component]) -> None:
    """The history, with buttons that speak an entry again; the visitor's browser stores it."""
    fields = visit.fields
    fields.said = tab.outputs[1]
    with gr.Row():
        fields.past = _own_menu(
            [], label="History", info="Stored in this browser.", scale=3, min_width=240, elem_id="past"
        )
        again = gr.Button("Say it again", size="sm", min_width=100, elem_id="again")
        take = gr.Button("Another take", size="sm", min_width=100, elem_id="take")
        star = gr.Button("★ Favourite", size="sm", min_width=100, elem_id="star")
    quick = {"queue": False, "show_progress": "hidden", "api_name": False}
    entry = {fields.history, fields.past, fields.bark}
    kept = {fields.history, fields.text, fields.voice, fields.bark, fields.said, *settings}
    tab.spoken.success(visit.remember, kept, [fields.history, fields.past], **quick)
    values = [getattr(fields, name) for name in FIELDS]
    for button, recall, name in ((again, visit.recall, "again"), (take, visit.another_take, "take")):
        spoken = button.click(recall, entry, values, **quick).success(
            tab.handler, tab.inputs, tab.outputs, **_computing(name, tab.outputs[0])
        )
        spoken.success(visit.remember, kept, [fields.history, fields.past], **quick)
    star.click(visit.star, entry, [fields.history, fields.past], **quick)


def _batch_tab(visit: Visit, settings: list[gr.Component]) -> gr.Button:
    fields = visit.fields
    with gr.Row(equal_height=False):
        with gr.Column():
            fields.lines = gr.Textbox(label=f"One text per line, at most {MAX_LINES}", lines=10, elem_id="lines")
            gr.Examples([["\n".join(EXAMPLES)]], fields.lines, label="Example")
            with gr.Row():
                start = gr.Button("Speak all", variant="primary", elem_id="batch")
                stop = gr.Button("Cancel", elem_id="stop-batch")
        with gr.Column():
            status = gr.Textbox(label="Result", lines=1, interactive=False, elem_id="batch-result")
            fields.spoken_lines = gr.HTML(html_template="", js_on_load=LINES, elem_id="table")
            archive = gr.DownloadButton("Download all lines in a zip", visible=False, elem_id="zip")
    inputs = {fields.lines, fields.voice, fields.own, *_models(visit), *settings}
    outputs = [fields.spoken_lines, archive, status]
    _reset(start.click, dict(zip(outputs, ([], HIDDEN, ""), strict=True)))
    start.click(visit.speak_lines, inputs, outputs, **_computing("speak_lines", status, concurrency_id="batch"))
    return stop


def _recording(label: str, elem_id: str) -> gr.Audio:
    return gr.Audio(
        sources=["upload", "microphone"], type="filepath", editable=False, buttons=NO_SHARING, label=label,
        elem_id=elem_id, render=False,
    )  # fmt: skip


def _reset(event: Callable, values: dict[gr.Component, Any]) -> None:
    """Set components to values at once, in the browser, so that no old result is shown beside a new one."""
    event(None, None, list(values), js=f"() => {json.dumps(list(values.values()))}")


class _OnlyFromHere:
    """ASGI middleware: tells the browser to load nothing from other sites."""

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
        name (`str`): the event's name in gradio's API.
        shown_on (`gr.Component`): where progress is shown.
    """
    queue = {"concurrency_id": concurrency_id, "concurrency_limit": 1, "trigger_mode": "multiple"}
    return {"api_name": name, "show_progress_on": shown_on, **queue}


__all__ = ["build_page", "launch", "serve"]
