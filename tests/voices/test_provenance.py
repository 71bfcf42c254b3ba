"""Synthesized files are labelled in every format, and no label of a file can do harm."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile
from transformers import pipeline

from hf_bark_semantic import load_audio
from hf_bark_semantic.audio import AudioError, save_audio
from hf_bark_semantic.bark.loading import load_bark
from hf_bark_semantic.cli import main as cli
from hf_bark_semantic.voices.provenance import (
    MARK,
    MAX_VALUE_LENGTH,
    Provenance,
    model_name,
    prompt_sha256,
    read_provenance,
)
from tiny import noise, tiny_encoder, tiny_prompt

DATE = "2025-01-31T12:00:00Z"
FORMATS = [("wav", "FLOAT"), ("wav", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS")]


def full() -> Provenance:
    return Provenance("suno/bark-small", revision="a" * 40, adapter="mine", voice_prompt_sha256="0" * 64, created=DATE)


def write(path, subtype=None, *, comment: str | None = None, provenance: Provenance | None = None):
    """Any format and any comment, as soundfile writes them."""
    with soundfile.SoundFile(path, "w", 24_000, 1, subtype=subtype) as sound:
        if provenance is not None:
            provenance.write_to(sound)
        if comment is not None:
            sound.comment = comment
        sound.write(noise(0.2, sampling_rate=24_000))
    return path


# ---- round trip


@pytest.mark.parametrize(("extension", "subtype"), FORMATS)
def test_facts_come_back_from_every_format(tmp_path, extension, subtype):
    path = write(tmp_path / f"speech.{extension}", subtype, provenance=full())
    assert read_provenance(path) == asdict(full())
    assert read_provenance(str(path))["software"].startswith("hf_bark_semantic")


@pytest.mark.parametrize("extension", ["wav", "flac", "mp3", "ogg"])
def test_saved_speech_has_the_facts_and_the_same_samples(tmp_path, extension):
    waveform = noise(0.5, sampling_rate=24_000)
    plain = save_audio(tmp_path / f"plain.{extension}", waveform, 24_000)
    marked = save_audio(tmp_path / f"marked.{extension}", waveform, 24_000, provenance=full())
    assert read_provenance(plain) is None
    assert read_provenance(marked) == asdict(full())
    assert np.array_equal(load_audio(plain, 24_000), load_audio(marked, 24_000))


@pytest.mark.parametrize("name", ["Bärk ♪ 声", '"quoted"\\', "x" * MAX_VALUE_LENGTH, "声" * MAX_VALUE_LENGTH])
def test_names_of_any_alphabet_come_back_whole(tmp_path, name):
    for extension, subtype in FORMATS:
        provenance = replace(full(), model=name)
        assert read_provenance(write(tmp_path / f"a.{extension}", subtype, provenance=provenance))["model"] == name


def test_players_find_the_facts_where_they_look(tmp_path):
    content = save_audio(tmp_path / "speech.wav", noise(0.2), 16_000, provenance=full()).read_bytes()
    position, chunks = 12, {}
    while position < len(content):
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        chunks[content[position : position + 4]] = content[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
    assert chunks[b"LIST"].startswith(b"INFO")
    for tag, text in ((b"ICMT", b"synthetic speech {"), (b"ISFT", b"hf_bark_semantic"), (b"ICRD", DATE.encode())):
        assert chunks[b"LIST"].partition(tag)[2][4:].startswith(text)


def test_same_date_makes_the_same_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1738324800")
    provenance = [Provenance("nano"), Provenance("nano")]
    assert provenance[0].created == DATE
    files = [
        save_audio(tmp_path / f"{i}.flac", noise(0.2), 16_000, provenance=facts) for i, facts in enumerate(provenance)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ValueError, match="SOURCE_DATE_EPOCH is 'yesterday'; it must be a whole number"):
        Provenance("nano")


# ---- what is written


def test_provenance_of_speech_names_the_model_and_the_voice(bark_folder):
    bark, _ = load_bark(bark_folder)
    provenance = Provenance.of_speech(bark, tiny_prompt(), adapter="mine")
    assert provenance.model == bark_folder.rpartition("/")[2]
    assert provenance.voice_prompt_sha256 == prompt_sha256(tiny_prompt())
    assert (provenance.adapter, provenance.revision) == ("mine", None)
    assert Provenance.of_speech(bark, None).voice_prompt_sha256 is None


def test_hash_of_a_prompt_is_that_of_its_arrays(tmp_path):
    prompt = tiny_prompt()
    expected = prompt_sha256(prompt)
    assert re.fullmatch(r"[0-9a-f]{64}", expected)
    saved = type(prompt).load(prompt.save(tmp_path / "voice.npz"), semantic_vocab_size=50)
    assert prompt_sha256(saved) == expected
    changed = prompt.audio_codes.copy()
    changed[0, 0] = (changed[0, 0] + 1) % 1024
    assert prompt_sha256(type(prompt)(prompt.semantic_tokens, changed, semantic_vocab_size=50)) != expected


def test_no_path_of_the_machine_gets_into_a_file(tmp_path, monkeypatch):
    (tmp_path / "my bark").mkdir()
    assert model_name(tmp_path / "my bark") == "my bark"
    assert model_name("/nowhere/secret/bark") == "bark"
    assert model_name("suno/bark") == "suno/bark"
    monkeypatch.chdir(tmp_path / "my bark")
    assert model_name(".") == "my bark"
    assert model_name("a\nb" + "x" * 300) == "a?b" + "x" * 252
    assert model_name("") == "unnamed"


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("model", "", "printable text of 1 to 255 characters"),
        ("model", "x" * 256, "printable text"),
        ("model", "a\x1b[31mb", "printable text"),
        ("model", None, "given"),
        ("adapter", 3, "printable text"),
        ("voice_prompt_sha256", "0" * 63, "64 hexadecimal digits"),
        ("created", "yesterday", "a time such as"),
        ("software", None, "given"),
    ],
)
def test_facts_that_are_none_are_refused(field, value, rule):
    with pytest.raises(ValueError, match=f"`{field}` of a provenance is .*{rule}"):
        replace(full(), **{field: value})


def test_facts_that_no_wav_holds_are_refused():
    with pytest.raises(ValueError, match="more than 2,000. Shorten it"):
        replace(full(), model="声" * 255, adapter="声" * 255, software="声" * 255)


# ---- what others write


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg"])
@pytest.mark.parametrize(
    "comment",
    [
        "recorded at home",
        MARK,
        f"{MARK} nonsense",
        f"{MARK} []",
        f"{MARK} {{}}",
        f"{MARK} " + "[" * 1_900,
        f"{MARK} " + "9" * 1_900,
        f"{MARK} " + json.dumps({"model": {"a": 1}}),
        f"{MARK} " + json.dumps({"model": "a\x1b]0;title\x07"}),
        f"{MARK} " + json.dumps({"model": "a\nb"}),
        f"{MARK} " + json.dumps({"model": "\ud800"}),
        f"{MARK} " + json.dumps({"model": "x" * 256}),
        f"{MARK} " + json.dumps({"model": "a", "voice_prompt_sha256": "<script>"}),
        f"{MARK} " + json.dumps({"model": "a", "created": "2025-99-99T00:00:00Z"}),
        f"{MARK} " + json.dumps({"model": "a", "software": ["b"]}),
    ],
)
def test_comment_of_another_form_is_no_provenance(tmp_path, extension, comment):
    assert read_provenance(write(tmp_path / f"a.{extension}", comment=comment)) is None


@pytest.mark.parametrize("extension", ["flac", "ogg"])
def test_huge_comment_is_no_provenance(tmp_path, extension):
    comment = f"{MARK} " + json.dumps({"model": "a", "other": "x" * 3_000_000})
    assert read_provenance(write(tmp_path / f"a.{extension}", comment=comment)) is None


def test_unknown_facts_are_left_out(tmp_path):
    comment = f"{MARK} " + json.dumps({"model": "a", "__class__": "b", "created": None})
    assert read_provenance(write(tmp_path / "a.flac", comment=comment)) == {"model": "a"}


def test_comment_that_is_no_text_is_no_provenance(tmp_path):
    path = write(tmp_path / "a.wav", comment="synthetic speech {'model': 'aaaa'}")
    path.write_bytes(path.read_bytes().replace(b"aaaa", b"\xff\xfe\xfd\xfc"))
    assert read_provenance(path) is None


def test_what_is_no_sound_file_is_an_audio_error(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    for path in (tmp_path / "text.wav", tmp_path / "nowhere.wav", tmp_path):
        with pytest.raises(AudioError):
            read_provenance(path)
    with pytest.raises(TypeError, match="path of a sound file"):
        read_provenance(b"RIFF")


# ---- the command line


def test_speak_marks_its_file_unless_told_not_to(bark_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1738324800")
    tiny_encoder().save_pretrained(tmp_path / "encoder")
    pipeline("audio-to-bark-semantic", model=tiny_encoder(), device="cpu").save_pretrained(tmp_path / "encoder")
    voice = tiny_prompt().save(tmp_path / "voice.npz")
    command = [
        "speak",
        "the dog",
        "--voice",
        str(voice),
        "--bark",
        bark_folder,
        "--encoder",
        str(tmp_path / "encoder"),
    ]
    command += ["--device", "cpu", "--output"]
    assert cli.main([*command, str(tmp_path / "marked.wav")]) == 0
    assert cli.main([*command, str(tmp_path / "plain.wav"), "--no-provenance"]) == 0
    facts = read_provenance(tmp_path / "marked.wav")
    assert facts.pop("software").startswith("hf_bark_semantic")
    assert facts == {
        "model": bark_folder.rpartition("/")[2],
        "voice_prompt_sha256": prompt_sha256(tiny_prompt()),
        "created": DATE,
    }
    assert read_provenance(tmp_path / "plain.wav") is None
    assert cli.main([*command, str(tmp_path / "nobody.wav"), "--prompt-mode", "none"]) == 0
    assert "voice_prompt_sha256" not in read_provenance(tmp_path / "nobody.wav")
    marked, plain = (soundfile.read(tmp_path / name)[0] for name in ("marked.wav", "plain.wav"))
    assert len(marked)
    assert np.array_equal(marked, plain)
