"""Doors for the page's endpoints: events with arbitrary values, and invalid requests.

A page with tiny models runs in another process than the judge, because it writes files and answers requests; cases and
outcomes are exchanged with it. An answer passes if it is a result, or a refusal with a message: a status below 500, or
an error of an event. It fails if the page printed a traceback, returned a file that is not its own, or took too much
time or memory.
"""

import contextlib
import http.client
import importlib.util
import io
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from fuzz.doors.door import Door, digest
from hf_bark_semantic.app.history import FIELDS
from sound_files import tone, written
from tiny import save_tiny_encoder, tiny_bark, tiny_bark_processor, tiny_prompt

MAX_SECONDS, MAX_BYTES = 5.0, 200 * 2**20  # CPU time and additional memory of one case
PATIENCE_S = 30.0  # for an answer
SECRET = "the words of a file that is not the page's"
UPLOADED = "\0uploaded"  # placeholder for the path of an uploaded recording
BARK = "\0bark"  # placeholder for the page's Bark

FILE = {"path": UPLOADED, "meta": {"_type": "gradio.FileData"}, "orig_name": "me.wav"}
ENTRY = {**dict.fromkeys(FIELDS), "bark": BARK, "text": "a dog", "voice": "own:me", "seed": 1, "favourite": False}
LAST = {"bark": BARK, "voice": "own:me", "text": "a dog"}
MODELS = [0, BARK, ""]  # number of cancellations, Bark, adapter
SPEAKING = ["preset:announcer", 1, "", "0.5", "", "", "full", "fixed", "wav"]
EVENTS: dict[str, list[Any]] = {  # names and valid values
    "arrive": [{"me": "AAAA"}, [ENTRY], LAST],
    "choose_bark": [{}, *MODELS, "a dog"],
    "download": [{}, *MODELS, ""],
    "listen": [{}, *MODELS, "preset:announcer"],
    "delete": [{"me": "AAAA"}, *MODELS, "own:me"],
    "analyse": [*MODELS, FILE],
    "read_part": [*MODELS, FILE, 0.2, 0.9, "a dog"],
    "transcribe": [*MODELS, FILE, 0.2, 0.9],
    "clone": [{}, *MODELS, FILE, 0.2, 0.9, "me", True, "a dog"],
    "load_prompt": [{}, *MODELS, "me", FILE, True],
    "speak": [{}, *MODELS, *SPEAKING, "a dog"],
    "convert": [{}, *MODELS, *SPEAKING, FILE],
    "speak_lines": [{}, *MODELS, *SPEAKING, "a dog\nthe cat"],
}
JUNK: tuple[Any, ...] = (
    None, True, -1, 0.5, 1e308, -1e308, float("nan"), float("inf"), 2**63, 10**400, "", " ", "x", "\0", "\ud800",
    "..", "../../etc/passwd", "own:../x", "preset:../x", "nobody", "nan", "1e999", "-1", "0,5", "9" * 400,
    "ä" * 5_000, "[" * 50, [], [[]], [None] * 300, {}, {"": ""}, {"path": None}, {"path": "/etc/passwd"},
    {"path": SECRET}, {"url": "http://127.0.0.1:1/x"}, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"path": "\0", "meta": {"_type": "gradio.FileData"}},
    {"path": "x", "url": "file:///etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"__type__": "update", "value": 1}, {"me": None}, {"me": "?"}, {"me": "AAAA" * 300}, [{"text": 1}], {"bark": 1},
)  # fmt: skip


class Case(NamedTuple):
    """An event of the page with its values, or a request."""

    event: str | None = None
    values: Any = None
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def make_event(random: Random, folder: Path) -> Case:
    """An event of the page with mostly valid values."""
    name = random.choice(list(EVENTS))
    values = deepcopy(EVENTS[name])
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        _spoil(values, random)
    if random.random() < 0.05:
        values = random.choice((values[:-1], [*values, 1], [], values * 20, None, {"0": 1}, "x"))
    return Case(event=name, values=values)


def _spoil(values: list | dict, random: Random) -> None:
    """Replace one value, which may be nested."""
    place = random.choice(range(len(values)) if isinstance(values, list) else list(values))
    if isinstance(values[place], (list, dict)) and values[place] and random.random() < 0.6:
        _spoil(values[place], random)
    else:
        values[place] = deepcopy(random.choice(JUNK))


PLACES = (
    "", "config", "info", "theme.css", "login", "logout", "favicon.ico", "robots.txt", "manifest.json", "nothing",
    *(f"gradio_api/{place}" for place in (
        "", "info", "openapi.json", "queue/status", "queue/join", "upload", "upload_progress", "cancel", "reset",
        "component_server", "startup-events", "deep_link", "app_id", "token", "user", "runs", "run-history/records",
        "run/speak", "api/arrive", "call/speak", "call/nothing", "call/v2/speak", "file=NAME", "file/NAME",
        "proxy=NAME", "stream/NAME", "stream/NAME/close", "stream/NAME/0/1/playlist.m3u8",
        "stream/NAME/0/1/2.wav", "stream/NAME/0/1/playlist-file",
        "custom_component/NAME/client/component/index.js", "dev/reload", "vibe-code/",
        "call/speak/NAME", "process_recording", "monitoring/NAME",
    )),
    "static/NAME", "assets/NAME", "svelte/NAME", "monitoring", "mcp/sse",
)  # fmt: skip
NAMES = (
    "x", "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "/etc/passwd", "%2fetc%2fpasswd", "%00", "SECRET",
    "http://127.0.0.1:1/x", "http%3A%2F%2F127.0.0.1%3A1", "a" * 3_000, "%F0%9F", "C:/x", "//x/y", ".", "~", "1e9",
)  # fmt: skip
BODIES = (
    b"", b"{}", b"[]", b"null", b"1", b"{", b'"x"', b"\xff\xfe", b"[" * 5_000, b'{"data": []}', b'{"data": 1}',
    b'{"data": null}', b'{"data": [1], "fn_index": 99999}', b'{"data": [1], "fn_index": "x"}',
    b'{"data": [], "fn_index": 0, "session_hash": 1}', b'{"data": [NaN], "fn_index": 1, "session_hash": "a"}',
    b'{"data": [], "fn_index": 3, "session_hash": "a", "event_data": 1}',
    b'{"session_hash": "a", "fn_index": 0, "event_id": "a"}', b'{"event_id": "x"}',
    b'{"session_hash": "a", "fn_name": "x", "component_id": 1, "data": 1}',
    b'{"session_hash": "a", "fn_name": "__init__", "component_id": 1, "data": 1}', b'{"id": 1}',
    b"username=a&password=b",
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../x"\r\n\r\n1\r\n--x--\r\n', b"--x\r\n\r\n",
    b"--x",
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n1\r\n--x--\r\n' % (b"y" * 5_000),
    b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n',
)  # fmt: skip
TYPES = (
    "application/json", "application/json", "multipart/form-data; boundary=x", "multipart/form-data", "text/plain",
    "x",
)  # fmt: skip
HEADERS = (
    ("Host", "evil.example"), ("Host", ""), ("Origin", "http://evil.example"), ("Origin", "null"),
    ("Range", "bytes=5-1"), ("Range", "x"), ("Cookie", "access-token=x"), ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "x"), ("Accept-Language", "\xff"), ("Content-Length", "-1"),
    ("Content-Length", "99999999999"), ("Transfer-Encoding", "chunked"), ("Content-Encoding", "gzip"),
    ("x-gradio-user", "a"), ("Authorization", "x"),
)  # fmt: skip
QUERIES = (
    "", "", "", "?", "?x=1", "?session_hash=a", "?session_hash=", "?upload_id=x", "?v=%00", "?__theme=x",
    "?url=http://127.0.0.1:1", "?all_endpoints=x",
)  # fmt: skip


def make_request(random: Random, folder: Path) -> Case:
    """A request to a path of the page, or to an unknown path."""
    name = random.choice(NAMES)
    path = random.choice(PLACES).replace("NAME", name) + random.choice(QUERIES)
    headers = [("Content-Type", random.choice(TYPES))]
    headers += [random.choice(HEADERS) for _ in range(random.choice((0, 0, 0, 1, 2)))]
    method = random.choice(("GET", "GET", "GET", "POST", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "X"))
    body = random.choice(BODIES) if method in ("POST", "PUT", "X") else b""
    return Case(method=method, path=f"/{path}", headers=tuple(headers), body=body)


# ---- the judge's side


class Refused(Exception):
    """A refusal with a message."""


def on_page(make):
    """A maker of cases that also starts the page, because a reader must not start processes."""

    def make_case(random: Random, folder: Path) -> Case:
        running_page(os.getpid())
        return make(random, folder)

    return make_case


@cache
def running_page(pid: int) -> Connection:
    """The connection to a page that runs as long as this process."""
    ours, theirs = Pipe()
    if os.fork() == 0:
        with contextlib.suppress(KeyboardInterrupt, EOFError):
            ours.close()
            serve(theirs)
        os._exit(0)
    theirs.close()
    assert ours.recv() == "open"
    return ours


def read_answer(case: Case) -> str:
    page = running_page(os.getpid())
    page.send(case)
    kind, value, detail = page.recv()
    if kind == "refused":
        raise Refused(value)
    if kind == "failed":
        raise type(value, (Exception,), {})(detail)
    return digest(value)


# ---- the page's side


def serve(requests: Connection) -> None:
    """Answer cases until the connection is closed."""
    import gradio  # noqa: F401  (other doors do not need it)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="fuzzed-page-") as folder:
        words = open(Path(folder) / "words", "a+b")  # noqa: SIM115 (open as long as the process)
        for descriptor in (1, 2):
            os.dup2(words.fileno(), descriptor)
        os.environ.update(GRADIO_TEMP_DIR=str(Path(folder) / "gradio"), GRADIO_ANALYTICS_ENABLED="False")
        (Path(folder) / "SECRET").write_text(SECRET)
        os.chdir(folder)
        with opened(Path(folder)) as page:
            requests.send("open")
            with contextlib.suppress(EOFError):
                while True:
                    requests.send(answered(page, requests.recv(), words))


@contextlib.contextmanager
def opened(folder: Path) -> Iterator["Browser"]:
    from hf_bark_semantic.app import page as app
    from hf_bark_semantic.app.studio import Studio

    bark = str(folder / "bark")
    tiny_bark(max_new_tokens=20).save_pretrained(bark)
    tiny_bark_processor({"announcer": tiny_prompt().to_dict()}, folder / "bark").save_pretrained(bark)
    studio = Studio(bark, encoder=save_tiny_encoder(folder / "encoder"), device="cpu")
    if studio.has_whisper:
        studio.transcript(np.zeros(24_000, np.float32))  # its memory is that of a model, not of a case
    page = app.build_page(studio)
    _, address, _ = app.launch(page, port=None)
    yield Browser(address.rstrip("/").removeprefix("http://"), bark)
    page.close()


class Browser:
    """Sends cases to a page without changes."""

    def __init__(self, place: str, bark: str):
        self.place, self.bark, self.recording = place, bark, written(tone(1.0, 24_000), 24_000, "WAV", "PCM_16")

    def send(self, method: str, path: str, body: bytes = b"", headers=()) -> tuple[int, bytes]:
        """The status and the start of an answer."""
        connection = http.client.HTTPConnection(self.place, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            named = {name.lower() for name, _ in headers}
            connection.putrequest(method, path, skip_host="host" in named, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if not named & {"content-length", "transfer-encoding"}:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            is_endless = answer.headers.get("content-type", "").startswith("text/event-stream")
            return answer.status, b"" if is_endless else answer.read()

    def call(self, event: str, values: Any) -> tuple[str, Any]:
        """The end of an event, `"complete"` or `"error"`, and its value; or a status if the event was refused."""
        body = json.dumps({"data": self._filled(values)}).encode()
        json_type = [("Content-Type", "application/json")]
        status, content = self.send("POST", f"/gradio_api/call/{event}", body, json_type)
        if status != 200:
            return str(status), content
        connection = http.client.HTTPConnection(self.place, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", f"/gradio_api/call/{event}/{json.loads(content)['event_id']}")
            *_, end = re.findall(r"event: (complete|error)\ndata: (.*)\n", connection.getresponse().read().decode())
        return end[0], json.loads(end[1])

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._filled(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        return self._upload() if value == UPLOADED else self.bark if value == BARK else value

    def _upload(self) -> str:
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="me.wav"\r\n\r\n' + self.recording
        form = [("Content-Type", "multipart/form-data; boundary=x")]
        status, content = self.send("POST", "/gradio_api/upload", body + b"\r\n--x--\r\n", form)
        assert status == 200, content
        return json.loads(content)[0]


def answered(page: Browser, case: Case, words: io.BufferedRandom) -> tuple[str, Any, str]:
    """The outcome of a case: `"result"`, `"refused"` or `"failed"`; the result or problem; and a detail."""
    from fuzz.judge import memory

    before, start = memory().resident, time.process_time()
    try:
        if case.event is not None:
            how, content = page.call(case.event, case.values)
        else:
            status, content = page.send(case.method, case.path, case.body, case.headers)
            how = str(status)
    except TimeoutError:
        return "failed", f"no answer in {PATIENCE_S:.0f} s", repr(case)
    except (http.client.HTTPException, ConnectionError) as error:  # of an invalid request
        how, content = "400", error
    except Exception as error:  # an error of this side, which must continue
        return "failed", f"{type(error).__name__} while asking", f"{error!r} {case!r:.1500}"
    seconds, growth = time.process_time() - start, memory().resident - before
    printed = _words(words)
    detail = f"{case!r:.1500}\n{how} {content!r:.500}\n{printed[-3_000:]}"
    if "Traceback" in printed:
        return "failed", _problem(printed), detail
    if (how.startswith("5") or how == "error") and not _sentence(content):
        return "failed", f"answers {how} without a message", detail
    if SECRET in str(content) or "root:" in str(content):
        return "failed", "returns a file that is not its own", detail
    if seconds > MAX_SECONDS or growth > MAX_BYTES:
        return "failed", "takes too long" if seconds > MAX_SECONDS else "takes too much memory", detail
    if how in ("complete", "200", "204", "206", "302", "307"):
        return "result", (how, _shape(content)), ""
    return "refused", how, ""


def _words(words: io.BufferedRandom) -> str:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    words.seek(0)
    printed = words.read().decode(errors="replace")
    words.truncate(0)
    return printed


def _problem(printed: str) -> str:
    """The exception and the innermost frame of a traceback, in one line."""
    *_, place = re.findall(r'File "(?:.*/)?(.*?)", line \d+, in (\w+)', printed) or [("?", "?")]
    *_, error = re.findall(r"^([\w.]+(?:Error|Exception|Exit|Group)\w*)", printed, re.MULTILINE) or ["?"]
    return f"{error.rpartition('.')[2]} in {place[0]}: {place[1]}"


def _sentence(content: Any) -> bool:
    """Whether an error, or the JSON of an answer, has a message."""
    if isinstance(content, bytes):
        try:
            content = json.loads(content)
        except ValueError:
            return False
    return isinstance(content, dict) and bool(str(content.get("error") or content.get("detail") or "").strip())


def _shape(content: Any) -> Any:
    """The parts that do not change when a case is repeated: types of values, and text without digits."""
    if isinstance(content, dict):
        return {name: _shape(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_shape(value) for value in content]
    return type(content).__name__


HERE = ("/fuzz/doors/",)  # the page's side recognizes refusals with a message
DOORS = [
    Door("the page's events", on_page(make_event), read_answer, (Refused,), 20, HERE),
    Door("requests to the page", on_page(make_request), read_answer, (Refused,), 10, HERE),
]
if importlib.util.find_spec("gradio") is None:  # the extra app
    DOORS = []
