"""What the page accepts and refuses: hosts, origins, files, sizes and passwords."""

import contextlib
import http.client
import json
import os
import signal
import time
import urllib.parse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gradio as gr
import pytest

from hf_bark_semantic import save_audio
from hf_bark_semantic.app import guard, page
from hf_bark_semantic.app.job import Job
from hf_bark_semantic.app.studio import MAX_LETTERS, NOBODY, Studio, read_lines
from hf_bark_semantic.cli import main as cli
from processes import free_port
from tiny import noise


def sender(place: str) -> Callable:
    """A function that sends a request to a host and port, and gives status and body."""

    def send(method: str, path: str, body=None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(place, timeout=30)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Host": place, **names})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")

    return send


@pytest.fixture(scope="module")
def place(address) -> str:
    return urllib.parse.urlsplit(address).netloc


@pytest.fixture(scope="module")
def ask(place) -> Callable:
    return sender(place)


@pytest.fixture
def small_page():
    """A function that shows a page with a few words, with options of `launch`; gives what asks it."""
    shown = []

    def show(**options) -> Callable:
        with gr.Blocks(analytics_enabled=False) as blocks:
            gr.Markdown("inside")
        shown.append(blocks)
        return sender(urllib.parse.urlsplit(page.launch(blocks, port=None, **options)[1]).netloc)

    yield show
    for blocks in shown:
        blocks.close()


def upload(ask: Callable, name: str, content: bytes) -> tuple[int, str]:
    head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    form = "multipart/form-data; boundary=b"
    return ask("POST", "/gradio_api/upload", head + content + b"\r\n--b--\r\n", Content_Type=form)


def test_a_name_that_was_made_to_point_here_is_refused(ask, place):
    port = place.partition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", "localhost"):
        assert ask("GET", "/config", Host=host)[0] == 200, host
    for host in (f"evil.example:{port}", "", "127.0.0.1.evil.example", "localhost.", "[::1", "127.0.0.1@evil.example"):
        status, said = ask("GET", "/config", Host=host)
        assert status == 403 and "does not answer as" in said, host


def test_other_pages_are_refused_whatever_they_ask_for(ask, place):
    others = (
        "http://evil.example",
        "null",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1:1",
        f"http://a@{place}",
    )
    for origin in others:
        for method, path in (("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/upload")):
            status, said = ask(method, path, b"{}" if method == "POST" else None, Origin=origin)
            assert status == 403 and "refuses requests from other pages" in said, (origin, path)
    assert ask("GET", "/config", Origin=f"http://{place}")[0] == 200


def test_behind_a_proxy_its_name_is_allowed():
    behind = guard.Guard(None, "127.0.0.1", ["voices.example"])
    assert behind.flaw_of("127.0.0.1:7860", "https://voices.example") is None
    assert behind.flaw_of("voices.example", "https://voices.example") is None
    assert "--allowed-host other.example" in behind.flaw_of("other.example", None)
    anywhere = guard.Guard(None, "0.0.0.0")
    assert anywhere.flaw_of("192.168.0.7:80", "http://192.168.0.7:80") is None
    assert "refuses requests from other pages" in anywhere.flaw_of("192.168.0.7:80", "http://evil.example")


def test_a_request_that_is_too_large_or_does_not_say_its_size_is_refused_unread(ask):
    size = str(guard.MAX_REQUEST_BYTES + 1)
    status, said = ask("POST", "/gradio_api/queue/join", b"{}", Content_Length=size)
    assert status == 413 and "at most" in said
    status, said = ask("POST", "/gradio_api/queue/join", iter([b"{}"]), Transfer_Encoding="chunked")
    assert status == 411 and "Content-Length" in said


def test_an_upload_that_is_too_large_is_refused(small_page, monkeypatch):
    monkeypatch.setattr(page, "MAX_UPLOAD", "1kb")
    status, said = upload(small_page(), "long.wav", bytes(2_000))
    assert status == 413 and "size" in said


def test_requests_that_no_page_sends_are_refused_in_words(ask, capfd):
    body = {"Content_Type": "application/json"}
    for method, path, content, headers in (
        ("POST", "/gradio_api/api/arrive", b"\xff\xfe", {"Content_Type": "text/plain"}),
        ("POST", "/gradio_api/queue/join", b'{"data": [], "fn_index": 99999, "session_hash": "a"}', body),
        ("POST", "/gradio_api/call/nothing", b'{"data": []}', body),
        ("GET", f"/assets/{'a' * 3_000}", None, {}),
        ("GET", "/theme.css", None, {"Range": "x"}),
    ):
        status, said = ask(method, path, content, **headers)
        assert 400 <= status < 500 and said or path == "/theme.css", (path, status)
    status, said = ask("POST", "/gradio_api/run/speak", b'{"data": []}', **body)  # past the queue
    assert status == 404 and "does not accept direct" in said
    assert "Traceback" not in capfd.readouterr().err


def test_values_that_no_field_of_the_page_has_are_refused_in_words(ask, studio, capfd):
    models, file = [0, studio.bark, ""], {"meta": {"_type": "gradio.FileData"}}
    for values, refusal in (
        ([*models, {"path": "x"}], "cannot read a value"),
        ([*models, {**file, "path": "\0"}], "cannot read a value"),
        ([*models, {**file, "path": "/etc/passwd"}], "cannot read a value"),
        ([*models, [1]], "cannot read a value"),
        ([0], "cannot read a value"),
        ([0, "suno/other", "", None], "not in the list of choices"),
    ):
        status, said = ask(
            "POST", "/gradio_api/call/analyse", json.dumps({"data": values}), Content_Type="application/json"
        )
        assert status == 200, said
        _, said = ask("GET", f"/gradio_api/call/analyse/{json.loads(said)['event_id']}")
        assert "event: error" in said and refusal in said, values
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["../../../tmp/outside.wav", "/tmp/outside.wav", r"..\\outside.wav", "a/../../b.wav"])
def test_a_file_name_leads_nowhere_else(ask, name):
    _, said = upload(ask, "plain.wav", b"one")
    uploads = Path(json.loads(said)[0]).resolve().parents[1]
    status, said = upload(ask, name, b"two")
    file = Path(json.loads(said)[0])
    assert status == 200 and file.resolve().parents[1] == uploads and file.read_bytes() == b"two"


def test_files_of_the_machine_and_of_other_visitors_are_not_given_by_guessing(ask, tmp_path):
    (tmp_path / "secret.npz").write_bytes(b"secret")
    guesses = ["/etc/passwd", tmp_path / "secret.npz", __file__, page.__file__, "../setup.py", "/proc/self/environ"]
    mine = json.loads(upload(ask, "mine.wav", b"my voice")[1])[0]
    folder = Path(mine).parent
    guesses += [folder.parent, folder, f"{folder}/../..", f"{mine}/../../../../etc/passwd"]
    for guess in map(str, guesses):
        for form in (guess, urllib.parse.quote(guess, safe="")):
            status, content = ask("GET", f"/gradio_api/file={form}")
            assert status in (403, 404) and "root:" not in content, (guess, status)
    assert ask("GET", f"/gradio_api/file={urllib.parse.quote(mine)}") == (200, "my voice")


def test_a_password_is_read_from_a_file_and_its_absence_is_told(tmp_path, monkeypatch, capsys):
    password, empty, none = (tmp_path / name for name in ("password.txt", "empty.txt", "none.txt"))
    password.write_text("secret words\nsecond line\n")
    empty.write_text("\n")
    served = []
    monkeypatch.setattr(page, "serve", lambda studio, **options: served.append(options))
    monkeypatch.setattr("hf_bark_semantic.app.studio.Studio", lambda *names, **options: None)
    command = ["app", "--host", "0.0.0.0", "--port", str(free_port())]
    assert cli.main([*command, "--auth", f"anna:{password}"]) == 0
    assert served[-1]["auth"] == ("anna", "secret words") and "Everybody" not in capsys.readouterr().err
    assert cli.main([*command, "--allowed-host", "voices.example"]) == 0
    assert served[-1]["allowed_hosts"] == ["voices.example"]
    assert "Everybody who reaches 0.0.0.0 can use this page; --auth" in capsys.readouterr().err
    for wrong, word in (("anna", "USER:FILE"), (f"anna:{none}", "cannot be read"), (f"anna:{empty}", "is empty")):
        with pytest.raises(SystemExit):
            cli.main([*command, "--auth", wrong])
        assert word in capsys.readouterr().err


def test_without_the_password_nothing_is_shown(small_page):
    ask, form = small_page(auth=("anna", "secret words")), {"Content_Type": "application/x-www-form-urlencoded"}
    for path in ("/config", "/gradio_api/info", "/gradio_api/queue/status"):
        status, content = ask("GET", path)
        assert status == 401 and "inside" not in content, path
    assert ask("POST", "/login", "username=anna&password=wrong", **form)[0] == 400
    assert ask("POST", "/login", "username=anna&password=secret+words", **form)[0] == 200


def test_what_would_take_hours_is_refused_with_another_way(tmp_path, monkeypatch):
    speak = partial(Studio.stream, None, None, NOBODY, {}, job=Job())
    with pytest.raises(ValueError, match="The text has 50,001 letters; the page speaks at most 50,000 at once"):
        speak(text="a" * (MAX_LETTERS + 1))
    with pytest.raises(ValueError, match="The text has 50,001 letters"):
        read_lines("a" * MAX_LETTERS + "\nb")
    monkeypatch.setattr("hf_bark_semantic.app.studio.MAX_CONVERTED_S", 1)
    with pytest.raises(ValueError, match="The recording lasts 2 s; at most 1 s are converted at once"):
        speak(convert=str(save_audio(tmp_path / "long.wav", noise(2.0), 16_000)))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_temporary_files_are_gone_when_the_page_ends(end, tmp_path, monkeypatch):
    def serve(studio, **options):
        Path(os.environ["GRADIO_TEMP_DIR"], "upload.wav").write_bytes(b"RIFF")
        assert len(list(folder.iterdir())) == 1
        os.kill(os.getpid(), end)
        time.sleep(10)

    folder = tmp_path / "not" / "there"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    monkeypatch.setattr(page, "serve", serve)
    monkeypatch.setattr("hf_bark_semantic.app.studio.Studio", lambda *names, **options: None)
    with contextlib.suppress(SystemExit, KeyboardInterrupt):
        cli.main(["app", "--port", str(free_port())])
    assert not list(folder.iterdir()) and os.environ["GRADIO_TEMP_DIR"] == str(folder)


def test_of_visitors_who_left_little_is_remembered(monkeypatch):
    monkeypatch.setattr("hf_bark_semantic.app.studio.MAX_SESSIONS", 3)
    studio = Studio()
    assert [studio.cancel(session) for session in "abcaad"] == [1, 1, 1, 2, 3, 1]
    assert len(studio._num_cancelled) == 3 and studio.cancel("b") == 1 and studio.cancel("a") == 4
