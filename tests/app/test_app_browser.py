"""The page in headless Chromium; most tests run only with `pytest -m slow tests/app/test_app_browser.py`.

Needs selenium, and Debian's `chromium` and `chromium-driver` (or others of these names on the path).
"""

import json
import shutil
import threading
import urllib.request
from functools import partial

import pytest

from hf_bark_semantic import load_audio, nano_recording, save_audio
from hf_bark_semantic.app.studio import Studio
from hf_bark_semantic.evaluation.judges import has_whisper, load_transcriber
from hf_bark_semantic.evaluation.sequences import word_errors
from hf_bark_semantic.voices.provenance import read_provenance
from processes import free_port
from tiny import noise, tiny_prompt

pytest.importorskip("gradio")
pytest.importorskip("selenium")
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

slow = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_S = 300  # of a machine with other things to do
STAGES = ("text to tokens", "tokens to sound", "finer sound")  # of the progress bar
FLAGS = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1500"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--no-first-run"]


# texts whose contrast with their ground is below that of WCAG's AA, that are cut at the right, or that a button covers
FAULTS = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const parse = (colour) => { const [r, g, b, a] = numbers(colour); return [r, g, b, a ?? 1]; };
const over = (upper, lower) => [0, 1, 2].map((i) => upper[i] * upper[3] + lower[i] * (1 - upper[3])).concat(1);
const luminance = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const part = colour[i] / 255;
    return sum + weight * (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
}, 0);
const ground = (element) => {
    const colours = [];
    for (let e = element; e; e = e.parentElement) colours.push(parse(getComputedStyle(e).backgroundColor));
    return colours.reverse().reduce((lower, upper) => over(upper, lower), [255, 255, 255, 1]);
};
const shown = (element) => element.checkVisibility({opacityProperty: true, visibilityProperty: true});
const buttons = [...document.querySelectorAll("button:not([role=tab], [aria-dropeffect])")].filter(shown);
// tokens are in a box that scrolls: those below its edge are not seen
const covers = (button, element, box) => {
    const {left, right, top, bottom} = button.getBoundingClientRect();
    const [width, height] = [
        Math.min(right, box.right) - Math.max(left, box.left), Math.min(bottom, box.bottom) - Math.max(top, box.top),
    ];
    return width > 1 && height > 1 && !element.closest("button, #tokens") && !element.contains(button);
};
const faults = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    if (!text || !box.width || !box.height || !element.checkVisibility({opacityProperty: true})) continue;
    const back = ground(element), front = over(parse(getComputedStyle(element).color), back);
    const [low, high] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5) faults.push(`${text}: ${((high + 0.05) / (low + 0.05)).toFixed(2)}`);
    const lines = [...range.getClientRects()];
    if (buttons.some((button) => lines.some((line) => covers(button, element, line)))) faults.push(`${text}: covered`);
    if (box.right > document.documentElement.clientWidth + 1) faults.push(`${text}: cut`);
}
return faults;
"""
# what a person can operate; of radio buttons the arrow keys reach the others
CONTROLS = "button, a[href], input:not([type=file]):not([type=radio]), textarea, [role=slider]"
REACH = """
const element = document.activeElement, style = getComputedStyle(element);
if (element.dataset.reached === arguments[0]) return true;
if (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) element.dataset.reached = arguments[0];
"""
TO_THE_BEGINNING = "document.activeElement.blur(); document.body.tabIndex = -1; document.body.focus();"
# records the microphone and uploads what was recorded
RECORD = """
const [type, name, seconds, done] = arguments;
navigator.mediaDevices.getUserMedia({audio: true}).then((stream) => {
    const recorder = new MediaRecorder(stream, {mimeType: type}), parts = [], files = new DataTransfer();
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
        files.items.add(new File(parts, name, {type}));
        const input = document.querySelector("#reference input[type=file]");
        input.files = files.files;
        input.dispatchEvent(new Event("change", {bubbles: true}));
        done(null);
    };
    recorder.start();
    setTimeout(() => recorder.stop(), 1_000 * seconds);
}).catch((error) => done(String(error)));
"""
PLAYED_S = "return Number(document.querySelector('#speak-player [data-played-s]')?.dataset.playedS ?? 0)"


class Visitor:
    """A browser on the page."""

    def __init__(self, place: str, downloads, flags=()):
        options = webdriver.ChromeOptions()
        for flag in (*FLAGS, *flags):
            options.add_argument(flag)
        options.binary_location = CHROMIUM
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        self.browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.wait = WebDriverWait(self.browser, PATIENCE_S, ignored_exceptions=[WebDriverException])
        self.downloads = downloads
        self.browser.get(place)
        self.find("#clone")

    def find(self, selector: str):
        return self.wait.until(lambda browser: browser.find_element(By.CSS_SELECTOR, selector))

    def click(self, selector: str) -> None:
        self.wait.until(lambda browser: browser.find_element(By.CSS_SELECTOR, selector).click() or True)

    def click_text(self, text: str) -> None:
        self.wait.until(lambda browser: browser.find_element(By.XPATH, f"//*[text()='{text}']").click() or True)

    def open_tab(self, name: str) -> None:
        def click(browser):
            tabs = browser.find_elements(By.CSS_SELECTOR, "button[role=tab]")
            tab = next((tab for tab in tabs if name in tab.text), None)
            return tab is not None and (tab.click() or True)

        self.wait.until(click)

    def type(self, selector: str, text: str) -> None:
        """Into a text box, as quickly as a paste."""
        box = self.find(f"{selector} textarea")
        self.wait.until(lambda _: box.is_displayed())
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}));"
        self.browser.execute_script(script, box, text)

    def value(self, selector: str) -> str:
        return self.browser.find_element(By.CSS_SELECTOR, f"{selector} textarea").get_attribute("value")

    def wait_for_value(self, selector: str, part: str) -> str:
        self.wait.until(lambda _: part in self.value(selector))
        return self.value(selector)

    def wait_for_text(self, *parts: str) -> None:
        """Until any of the parts is to be seen."""

        def is_there(browser):
            text = browser.find_element(By.TAG_NAME, "body").text
            return any(part in text for part in parts)

        self.wait.until(is_there)

    def upload(self, selector: str, path) -> None:
        self.find(f"{selector} input[type=file]").send_keys(str(path))

    def clone(self, path) -> None:
        self.upload("#reference", path)
        self.wait_for_value("#summary", "prompt")
        self.click("#consent input")
        self.click("#clone")
        self.wait.until(lambda _: "my voice" in self.find("#voice input").get_attribute("value"))

    def speak(self, text: str):
        """The downloaded file of what was said."""
        self.open_tab("Speak")
        self.type("#text", text)
        self.click("#speak")
        self.wait_for_value("#speak-result", "s of speech")
        self.click("#speak-audio a[download]")
        name = f"*{'-'.join(text.split()[:2])}*.wav"  # a file has the name of its text
        self.wait.until(lambda _: list(self.downloads.glob(name)))
        return next(self.downloads.glob(name))

    def begin_to_speak(self, text: str) -> None:
        self.open_tab("Speak")
        self.type("#text", text)
        self.click("#speak")
        self.wait_for_text(*STAGES)

    def requests(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]


@pytest.fixture
def browsers(tmp_path):
    if not (CHROMIUM and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are not installed")
    visitors = []

    def open_page(place: str, *flags) -> Visitor:
        visitors.append(Visitor(place, tmp_path, flags))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.browser.quit()


@pytest.fixture
def visit(browsers, address):
    return partial(browsers, address)


def recording(folder, seed: int = 0):
    return save_audio(folder / f"voice{seed}.wav", noise(6, seed, 24_000), 24_000)


def test_upload_clone_and_speak_without_a_word_to_the_world(visit, address, tmp_path):
    visitor = visit()
    visitor.click_text("Details")
    visitor.clone(recording(tmp_path))
    assert len(visitor.browser.find_elements(By.CSS_SELECTOR, "#tokens .textfield > *")) > 250
    assert "voice_prompt_sha256" in read_provenance(visitor.speak("the dog runs"))
    for request in visitor.requests():
        assert request.startswith((address, "data:", "blob:")), request
    errors = [entry for entry in visitor.browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors
    assert not visitor.browser.find_elements(By.CSS_SELECTOR, "button[aria-label=Share]")


@slow
def test_nano_clones_a_recording(browsers, tmp_path):
    from hf_bark_semantic.app import page as app

    page = app.build_page(Studio("nano", device="cpu"))
    _, place, _ = app.launch(page, port=None)
    visitor = browsers(place)
    visitor.clone(nano_recording())
    speech = load_audio(visitor.speak("five seven one nine two"))
    page.close()
    assert word_errors("five seven one nine two", load_transcriber()(speech)).errors <= 2


@slow
def test_text_renamed_to_wav_is_refused_in_plain_words(visit, tmp_path):
    (tmp_path / "<u>bad.wav").write_text("this is a text")
    visitor = visit()
    visitor.upload("#reference", tmp_path / "<u>bad.wav")
    visitor.wait_for_text("Cannot decode")
    visitor.wait_for_text("It is damaged or in a format that is not supported")
    assert not visitor.browser.find_elements(By.CSS_SELECTOR, ".toast-body u")


@slow
def test_clone_without_consent_is_refused(visit, tmp_path):
    visitor = visit()
    visitor.upload("#reference", recording(tmp_path))
    visitor.wait_for_value("#summary", "prompt")
    visitor.click("#clone")
    visitor.wait_for_text("first. A voice is cloned only with its owner's consent.")
    assert "my voice" not in visitor.find("#voice input").get_attribute("value")


@slow
def test_consent_and_report_belong_to_one_recording(visit, tmp_path):
    visitor = visit()
    visitor.click_text("Details")
    visitor.clone(recording(tmp_path, 0))
    visitor.wait_for_value("#report", "fine stage reads")
    visitor.click("#reference button[aria-label='Clear']")
    visitor.upload("#reference", recording(tmp_path, 1))
    visitor.wait.until(lambda _: not visitor.find("#consent input").is_selected())
    visitor.wait_for_value("#summary", "prompt")
    assert visitor.value("#report") == ""
    visitor.click("#clone")
    visitor.wait_for_text("first. A voice is cloned only with its owner's consent.")


@slow
def test_voice_prompt_that_was_uploaded_before_the_tick_is_used_after_it(visit, tmp_path):
    visitor = visit()
    visitor.click_text("Details")
    visitor.click_text("I have a voice prompt (.npz) already")
    visitor.upload("#npz", tiny_prompt().save(tmp_path / "voice.npz"))
    visitor.wait.until(lambda _: "voice" in visitor.find("#npz").text)
    visitor.click("#load-npz")
    visitor.wait_for_text("first. A voice is cloned only with its owner's consent.")
    visitor.click("#npz-consent input")
    visitor.click("#load-npz")
    visitor.wait_for_value("#report", "60 semantic tokens")
    visitor.wait.until(lambda _: "my voice" in visitor.find("#voice input").get_attribute("value"))


@slow
def test_speech_shows_its_progress_and_is_cancelled_without_a_stale_result(visit, studio, long_text):
    visitor = visit()
    visitor.speak("the dog runs")
    visitor.begin_to_speak(long_text)
    assert visitor.value("#speak-result") == ""
    visitor.click("#stop-speak")
    visitor.wait_for_text("Cancelled")
    visitor.wait.until(lambda _: not studio._jobs)
    assert not visitor.browser.find_elements(By.CSS_SELECTOR, ".toast-body.error")
    assert not visitor.browser.find_elements(By.CSS_SELECTOR, "#speak-audio a[download]")
    visitor.type("#text", "the dog runs")
    visitor.click("#speak")
    visitor.wait_for_value("#speak-result", "s of speech")


@slow
def test_work_for_a_page_that_was_closed_is_stopped(visit, studio, long_text):
    visitor = visit()
    visitor.begin_to_speak(long_text)
    assert studio._jobs
    visitor.browser.get("about:blank")
    visitor.wait.until(lambda _: not studio._jobs)


@slow
def test_cancelled_lines_keep_what_was_finished(visit):
    visitor = visit()
    visitor.open_tab("Batch")
    visitor.type("#lines", "the dog\n" * 400)
    visitor.click("#batch")
    visitor.wait.until(lambda _: "0002" in visitor.find("#table").text)
    visitor.click("#table button[aria-label='Play line 1']")
    visitor.wait.until(lambda _: any("0001-v2-en-a-the-dog.wav" in request for request in visitor.requests()))
    visitor.click("#stop-batch")
    visitor.wait_for_value("#batch-result", "of 400 lines")
    visitor.wait.until(lambda _: visitor.find("#zip").is_displayed())


@slow
def test_texts_of_lines_are_shown_as_they_are(visit):
    visitor = visit()
    visitor.open_tab("Batch")
    visitor.type("#lines", "the <b>dog</b> ${document.title = 'executed'} `x` {{y}}")
    visitor.click("#batch")
    visitor.wait_for_value("#batch-result", "1 of 1 lines")
    assert "<b>dog</b> ${document.title = 'executed'} `x` {{y}}" in visitor.find("#table").text
    assert visitor.browser.title != "executed"


@slow
def test_two_users_at_once_keep_their_own_voices(visit, tmp_path):
    first, second = visit(), visit()
    first.clone(recording(tmp_path, 0))
    assert "my voice" not in second.find("#voice input").get_attribute("value")
    second.clone(recording(tmp_path, 1))
    for visitor in (first, second):
        visitor.open_tab("Speak")
        visitor.type("#text", "the dog runs")
    for visitor in (first, second):
        visitor.click("#speak")
    for visitor in (first, second):
        visitor.wait_for_value("#speak-result", "s of speech")
    sources = [visitor.find("#speak-audio a[download]").get_attribute("href") for visitor in (first, second)]
    hashes = set()
    for source in sources:
        with urllib.request.urlopen(source) as answer:
            (tmp_path / "downloaded.wav").write_bytes(answer.read())
        hashes.add(read_provenance(tmp_path / "downloaded.wav")["voice_prompt_sha256"])
    assert len(hashes) == 2


@pytest.mark.parametrize("look", ["light", "dark", "mobile"])
def test_texts_are_readable_and_not_cut(visit, tmp_path, look):
    visitor = visit()
    if look == "mobile":
        metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        visitor.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    visitor.browser.get(f"{visitor.browser.current_url}?__theme={'dark' if look == 'dark' else 'light'}")
    visitor.click_text("Details")
    visitor.clone(recording(tmp_path))
    visitor.click_text("How Bark speaks")
    visitor.open_tab("Batch")
    visitor.type("#lines", f"a cat\n{'Donaudampfschifffahrt' * 5} Zürich")
    visitor.click("#batch")
    visitor.wait_for_value("#batch-result", "2 of 2 lines")
    for tab in ("Clone", "Speak", "Convert", "Batch"):
        visitor.open_tab(tab)
        visitor.wait.until(lambda _, tab=tab: visitor.find(f"#{tab.lower()}").is_displayed())
        assert visitor.browser.execute_script(FAULTS) == []


def test_keys_reach_everything_and_everything_has_a_name(visit, tmp_path):
    visitor = visit()
    for accordion in ("Details", "I have a voice prompt (.npz) already", "How Bark speaks"):
        visitor.click_text(accordion)
    visitor.clone(recording(tmp_path))
    visitor.wait_for_value("#report", "fine stage reads")
    for tab in ("Clone", "Speak", "Convert", "Batch"):
        visitor.open_tab(tab)
        visitor.wait.until(lambda _, tab=tab: visitor.find(f"#{tab.lower()}").is_displayed())
        visitor.browser.execute_script(TO_THE_BEGINNING)
        for _ in range(100):
            ActionChains(visitor.browser).send_keys(Keys.TAB).perform()
            if visitor.browser.execute_script(REACH, tab):
                break
        visitor.browser.execute_script(TO_THE_BEGINNING)
        shown = [e for e in visitor.browser.find_elements(By.CSS_SELECTOR, CONTROLS) if e.is_displayed()]
        controls = [e for e in shown if e.is_enabled() and e.get_attribute("tabindex") != "-1"]
        assert len(controls) > 15
        unreached = [e.get_attribute("outerHTML")[:200] for e in controls if e.get_attribute("data-reached") != tab]
        assert unreached == []
        assert [e.get_attribute("outerHTML")[:200] for e in controls if not e.accessible_name] == []


@slow
def test_the_part_is_dragged_on_the_recording(visit, tmp_path):
    visitor = visit()
    visitor.upload("#reference", save_audio(tmp_path / "long.wav", noise(60, 0, 24_000), 24_000))
    visitor.wait_for_value("#summary", "prompt")
    bounds = visitor.browser.find_elements(By.CSS_SELECTOR, "#bounds input[type=number]")
    before = [float(bound.get_attribute("value")) for bound in bounds]
    picture = visitor.find("#picture").get_attribute("innerHTML")
    drawn = visitor.find("#part svg")
    ActionChains(visitor.browser).move_to_element(drawn).click_and_hold().move_by_offset(60, 0).release().perform()
    visitor.wait.until(lambda _: visitor.find("#picture").get_attribute("innerHTML") not in ("", picture))
    after = [float(bound.get_attribute("value")) for bound in bounds]
    assert after[0] > 30
    assert after[1] - after[0] == pytest.approx(before[1] - before[0], abs=0.02)
    drawn.send_keys(Keys.HOME)
    visitor.wait.until(lambda _: float(bounds[0].get_attribute("value")) == 0)
    drawn.send_keys(Keys.ARROW_RIGHT)
    visitor.wait.until(lambda _: float(bounds[0].get_attribute("value")) == 0.1)


@slow
def test_whisper_writes_what_is_said(browsers):
    from hf_bark_semantic.app import page as app

    if not has_whisper():
        pytest.skip("the extra asr is not installed")
    page = app.build_page(Studio("nano", device="cpu"))
    visitor = browsers(app.launch(page, port=None)[1])
    visitor.click("#example-reference")
    visitor.wait_for_value("#summary", "prompt")
    visitor.click("#write")
    assert len(visitor.wait_for_value("#transcript", " ").split()) > 3
    visitor.find("#part svg").send_keys(Keys.ARROW_LEFT)  # another part says something else
    visitor.wait.until(lambda _: visitor.value("#transcript") == "")
    page.close()


@slow
def test_what_is_damaged_in_the_browser_s_storage_is_left_out(visit):
    visitor = visit()
    script = "for (const name of ['bark-last', 'bark-history']) localStorage.setItem(name, arguments[0])"
    for damaged in ("damaged", "{}", "U2FsdGVkX18AAAAA"):
        visitor.browser.execute_script(script, damaged)
        visitor.browser.refresh()
        visitor.wait.until(lambda _: visitor.find("#voice input").get_attribute("value"))
        visitor.open_tab("Speak")
        assert visitor.value("#text") == ""
        assert not visitor.browser.find_elements(By.CSS_SELECTOR, ".toast-body.error")
    visitor.speak("the dog runs")


@slow
def test_what_bark_does_not_know_is_named_while_it_is_written(visit):
    visitor = visit()
    visitor.open_tab("Speak")
    visitor.type("#text", "the dog runs to Zürich")
    visitor.wait_for_text('Bark cannot read "to", "Zürich"')
    visitor.type("#text", "the dog runs")
    visitor.wait.until(lambda _: "cannot read" not in visitor.find("body").text)


@slow
def test_settings_that_nobody_touched_are_the_bark_s_own(visit, studio, monkeypatch):
    asked = []
    stream = Studio.stream

    def note(self, *arguments, **options):
        asked.append({options[name] for name in ("semantic_temperature", "fine_temperature", "guidance_scale")})
        return stream(self, *arguments, **options)

    monkeypatch.setattr(Studio, "stream", note)
    visitor = visit()
    visitor.click_text("How Bark speaks")
    visitor.speak("the dog runs")
    assert asked == [{None}]


@slow
def test_what_was_said_and_the_voice_outlive_a_refresh(visit, studio, tmp_path):
    visitor = visit()
    visitor.clone(recording(tmp_path))
    visitor.speak("the dog runs")
    visitor.wait.until(lambda _: "seed 0" in visitor.find("#past input").get_attribute("value"))
    visitor.click("#take")
    visitor.wait.until(lambda _: "seed 1" in visitor.find("#past input").get_attribute("value"))
    visitor.click("#star")
    visitor.wait.until(lambda _: visitor.find("#past input").get_attribute("value").startswith("★"))
    visitor.browser.refresh()
    visitor.wait.until(lambda _: "my voice" in visitor.find("#voice input").get_attribute("value"))
    visitor.open_tab("Speak")
    visitor.click("#past input")
    said = visitor.wait.until(lambda browser: browser.find_elements(By.CSS_SELECTOR, "[role=option]"))
    assert [option.text.lstrip("✓ ") for option in said] == [
        "★ the dog runs (my voice, seed 1)",
        "the dog runs (my voice, seed 0)",
    ]


@slow
def test_a_refresh_in_the_middle_stops_the_work_and_keeps_the_text(visit, studio, long_text):
    visitor = visit()
    visitor.begin_to_speak(long_text)
    assert studio._jobs
    visitor.browser.refresh()
    visitor.wait.until(lambda _: not studio._jobs)
    visitor.open_tab("Speak")
    visitor.wait_for_value("#text", long_text.strip())
    assert not visitor.browser.find_elements(By.CSS_SELECTOR, ".toast-body.error")
    visitor.speak("the dog runs")


@slow
def test_speech_plays_before_its_second_piece_is_computed_and_cancel_stops_it(visit, studio, monkeypatch):
    heard, stream = threading.Event(), Studio.stream

    def wait_for_the_first(self, *arguments, **options):
        for number, piece in enumerate(stream(self, *arguments, **options)):
            assert number == 0 or heard.wait(PATIENCE_S)
            yield piece

    monkeypatch.setattr(Studio, "stream", wait_for_the_first)
    visitor = visit()
    visitor.open_tab("Speak")
    visitor.type("#text", "The dog runs. A cat sleeps. The dog runs. A cat sleeps.")
    visitor.click("#speak")
    visitor.wait.until(lambda browser: browser.execute_script(PLAYED_S) > 0)
    assert visitor.value("#speak-result") == ""
    heard.set()
    said = float(visitor.wait_for_value("#speak-result", "s of speech").split()[0])
    visitor.wait.until(lambda browser: browser.execute_script(PLAYED_S) == pytest.approx(said, abs=0.05))
    visitor.click("#stop-speak")
    visitor.wait.until(lambda browser: browser.execute_script(PLAYED_S) == 0)


@slow
def test_on_a_network_each_browser_keeps_its_own_voices(browsers, studio, tmp_path):
    from hf_bark_semantic.app import page as app

    page = app.build_page(studio)
    _, place, _ = app.launch(page, port=None)
    first, second = browsers(place), browsers(place)
    first.clone(recording(tmp_path))
    for visitor, has in ((first, True), (second, False)):
        visitor.browser.refresh()
        visitor.wait.until(lambda _, v=visitor: v.find("#voice input").get_attribute("value"))
        visitor.wait.until(
            lambda _, v=visitor, has=has: ("my voice" in v.find("#voice input").get_attribute("value")) is has
        )
    page.close()


@slow
def test_own_voices_are_there_while_the_queue_is_full(browsers, studio, tmp_path, monkeypatch):
    from hf_bark_semantic.app import page as app

    port = free_port()  # of both pages: a browser keeps voices by address
    page = app.build_page(studio)
    _, place, _ = app.launch(page, port=port)
    visitor = browsers(place)
    visitor.clone(recording(tmp_path))
    page.close()
    monkeypatch.setattr(app, "MAX_WAITING", 0)
    page = app.build_page(studio)
    app.launch(page, port=port)
    visitor.browser.get(place)
    visitor.wait.until(lambda _: "my voice" in visitor.find("#voice input").get_attribute("value"))
    assert not visitor.browser.find_elements(By.CSS_SELECTOR, ".toast-body.error")
    page.close()


@slow
def test_damaged_voices_of_the_user_are_named_on_the_page(visit, shelf):
    (shelf.folder / "<u>Ben.npz").write_bytes(b"damaged")
    visit().wait_for_text(f"The voice in {shelf.folder / '<u>Ben.npz'} cannot be used")


@pytest.fixture
def microphone(tmp_path) -> list[str]:
    """Flags of a Chromium whose microphone is a recording."""
    flags = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    return [*flags, f"--use-file-for-fake-audio-capture={recording(tmp_path)}"]


@slow
def test_microphone_records_a_voice(visit, microphone):
    visitor = visit(*microphone)
    visitor.click("#reference button[aria-label='Record audio']")
    visitor.click("#reference .record-button")
    visitor.wait.until(lambda _: "0:02" in visitor.find("#reference").text)
    visitor.click("#reference .stop-button")
    visitor.wait_for_value("#summary", "prompt")
    assert visitor.find("#picture").get_attribute("innerHTML").count("<rect") > 50


@slow
@pytest.mark.parametrize(("kind", "name"), [("audio/webm", "browser.webm"), ("audio/mp4", "phone.m4a")])
def test_what_browsers_and_phones_record_is_read(visit, microphone, kind, name):
    visitor = visit(*microphone)
    visitor.browser.set_script_timeout(PATIENCE_S)
    assert visitor.browser.execute_async_script(RECORD, kind, name, 3) is None
    visitor.wait_for_value("#summary", "prompt")
    assert visitor.find("#picture").get_attribute("innerHTML").count("<rect") > 50
