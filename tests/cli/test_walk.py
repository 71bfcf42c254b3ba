"""The route of training/README.md, run with its own commands in an empty folder, on nano, at tiny sizes."""

import importlib
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from documented_commands import (
    DIGITS,
    TEXTS,
    TINY,
    documented_commands,
    module_and_options,
    parsed,
    write_tiny_recipe,
)
from hf_bark_semantic import packaged
from hf_bark_semantic.audio import save_audio
from hf_bark_semantic.bark.loading import load_codec
from hf_bark_semantic.bark.voice_prompt import VoicePrompt
from hf_bark_semantic.configuration_bark_semantic import CODEC_SAMPLING_RATE
from hf_bark_semantic.corpus.rows import load_corpus
from hf_bark_semantic.packaged import recipe
from hf_bark_semantic.voices.cloning import decode_codes

README = "training/README.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("route")
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    for name in TINY:
        write_tiny_recipe(folder, name, recipe(name).read_text(encoding="utf-8"))
    return folder


def walk(commands: list[list[str]], capsys) -> list[str]:
    """Run commands in this process, each of which must say that the one behind it is next; what the last one says."""
    for place, command in enumerate(commands):
        module, options = module_and_options(command)
        assert not importlib.import_module(module).main(options), shlex.join(command)
        said = [line.removeprefix("Next: ") for line in capsys.readouterr().out.splitlines() if line[:6] == "Next: "]
        if place + 1 < len(commands):
            assert said == [shlex.join(commands[place + 1])]
    return said


def test_texts_become_an_encoder_that_can_be_published(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    commands = documented_commands(README, "encoder route")
    assert walk(commands, capsys) == [shlex.join(commands[-1]).removesuffix(" --dry-run")]
    clips = load_corpus("corpus")
    scores = json.loads(Path("cv/scores.json").read_text())
    assert scores["folds"] == sorted({clip.fold for clip in clips}) and scores["num_folds"] == len(scores["folds"])
    assert sum(row["clips"] for row in scores["table"].values()) == len(clips)
    card = Path("my-encoder/README.md").read_text()
    assert "The corpus `corpus`" in card and f"{len(clips)} of the source `synthetic`" in card


def test_recordings_become_a_bark_that_speaks(folder, monkeypatch, capsys):
    """The recordings are made of the corpus; it is the voice route that reads them as files with a table."""
    monkeypatch.chdir(folder)
    clips, codec = load_corpus("corpus"), load_codec("nano")
    Path("my_voice").mkdir()
    rows = ["file_name,text"]
    for clip in clips[:6]:
        save_audio(f"my_voice/{clip.id}.wav", decode_codes(clip.audio_codes, codec=codec), CODEC_SAMPLING_RATE)
        rows.append(f"{clip.id}.wav,{clip.text}")
    Path("my_voice/metadata.csv").write_text("\n".join(rows))
    assert walk(documented_commands(README, "voice route"), capsys) == []
    assert Path("speech.wav").stat().st_size > 1_000
    assert len(VoicePrompt.load("prepared_lora/adapter/voice.npz", semantic_vocab_size=500).semantic_tokens)


def test_a_language_is_added_by_the_commands_of_its_section(folder, monkeypatch, capsys):
    """With nano in the place of Suno's Bark, its encoder in that of the packaged one, and the corpus of the route."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(packaged, "BUILTIN_ENCODER", packaged.NANO_ENCODER)
    Path("suno").mkdir()
    Path("suno/bark-small").symlink_to(packaged.NANO_BARK)
    Path("german").symlink_to("corpus")
    generate, *commands = documented_commands(README, "add a language")
    assert parsed(generate).output == Path("german") and parsed(generate).language == "de"
    for command in commands:
        module, options = module_and_options(command)
        assert not importlib.import_module(module).main(options), shlex.join(command)
    said = capsys.readouterr().out
    assert said.count("copied from builtin: head") == 4
    assert "unseen clips, Synthetic from audio" in said and "fold 2, Synthetic from audio" in said
    card = Path("german-encoder/README.md").read_text()
    assert f"{len(load_corpus('german'))} of the source `synthetic`" in card


def test_the_texts_of_the_route_are_made_as_it_says(tmp_path):
    (command,) = documented_commands(README, "texts")
    *made, redirect, file = command
    assert (made[:2], redirect, file) == (["python", "-c"], ">", "texts.txt")
    texts = subprocess.run(["python", *made[1:]], check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(texts) == len(set(texts)) == 24 and set(" ".join(texts).replace(".", "").split()) <= set(DIGITS)
