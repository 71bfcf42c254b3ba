"""`bark-semantic`, run in this process on tiny encoders in temporary folders."""

import argparse
import functools
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import BarkProcessor, EncodecConfig, EncodecModel, pipeline

import hf_bark_semantic
from hf_bark_semantic.audio import load_audio, save_audio
from hf_bark_semantic.bark.voice_prompt import VoicePrompt
from hf_bark_semantic.cli import console, encode, progress, records, speech
from hf_bark_semantic.cli import main as cli
from hf_bark_semantic.evaluation import judges
from hf_bark_semantic.pipelines.cloning import VoiceCloningPipeline
from hf_bark_semantic.pipelines.encoding import TASK, AudioToBarkSemanticPipeline
from hf_bark_semantic.voices.provenance import read_provenance
from tiny import noise, random_codes, save_tiny_encoder, tiny_prompt


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """A folder with an encoder for audio and codes, and its accuracy."""
    folder = tmp_path_factory.mktemp("encoder")
    save_tiny_encoder(folder, codec_hidden_size=16)
    (folder / "evaluation.json").write_text('{"top_1": 0.3, "accuracy_line": "right in 30 % of unseen voices"}')
    return str(folder)


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    (folder / "deep").mkdir(parents=True)
    save_audio(folder / "a.wav", noise(1.0), 16_000)
    save_audio(folder / "b.flac", noise(2.0, 1), 16_000)
    save_audio(folder / "deep" / "a.wav", noise(0.5, 2), 16_000)
    return folder


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# ---- encode


def test_json_has_one_object_per_file_with_the_pipeline_s_result(encoder, recordings, capsys):
    assert cli.main(["encode", str(recordings), "--encoder", encoder, "--json", "--top-k", "2"]) == 0
    output = capsys.readouterr()
    records = lines(output.out)
    assert [record["file"] for record in records] == [
        str(recordings / name) for name in ("a.wav", "b.flac", "deep/a.wav")
    ]
    encode = pipeline(TASK, model=encoder, device="cpu")
    for record in records:
        expected = encode(record["file"], top_k=2)
        assert record["semantic_tokens"] == expected["semantic_tokens"].tolist()
        assert record["top_k_tokens"] == expected["top_k_tokens"].tolist()
        assert np.allclose(record["confidence"], expected["confidence"], atol=1e-4)
        assert record["num_tokens"] == len(record["semantic_tokens"])
    assert [record["seconds"] for record in records] == [1.0, 2.0, 0.5]


def test_what_a_folder_holds_and_is_not_read_is_named_once(encoder, recordings, monkeypatch, capsys):
    for name in ("notes.txt", "deep/cover.JPG", "deep/more.txt"):
        (recordings / name).write_text("no audio")
    arguments = ["encode", str(recordings), "--encoder", encoder, "--json"]
    assert cli.main(arguments) == 0
    output = capsys.readouterr()
    assert len(lines(output.out)) == 3
    said = f"in {recordings}, 3 files are not read: {Path('deep/cover.JPG')}, {Path('deep/more.txt')}"
    assert output.err.count(f"{said}, notes.txt\n") == 1
    monkeypatch.setattr(records, "SHOWN_FILES", 2)
    cli.main(arguments)
    assert f"{said}, and 1 more\n" in capsys.readouterr().err


def test_what_is_audio_in_a_folder_and_cannot_be_read_fails(encoder, recordings, capsys):
    (recordings / "b.ape").write_bytes(b"MAC nonsense")
    (recordings / "deep" / "b.mp3").write_bytes(b"nonsense")
    assert cli.main(["encode", str(recordings), "--encoder", encoder, "--json"]) == 1
    found = [(Path(record["file"]).name, record.get("error", "")) for record in lines(capsys.readouterr().out)]
    assert [name for name, error in found if not error] == ["a.wav", "b.flac", "a.wav"]
    assert [name for name, error in found if f"Cannot decode {name!r}" in error] == ["b.ape", "b.mp3"]


def test_accuracy_is_said_once_and_not_on_stdout(encoder, recordings, capsys):
    cli.main(["encode", str(recordings), "--encoder", encoder, "--json"])
    output = capsys.readouterr()
    assert output.err.splitlines().count("right in 30 % of unseen voices") == 1
    assert "right in" not in output.out


@pytest.mark.parametrize("content", [None, "", "[]", '{"accuracy_line": 3}', "{"])
def test_encoder_without_accuracy_is_silent(tmp_path, content):
    if content is not None:
        (tmp_path / "evaluation.json").write_text(content)
    assert encode.accuracy_line(str(tmp_path)) is None


def test_people_get_one_line_per_file(encoder, recordings, capsys):
    assert cli.main(["encode", str(recordings / "a.wav"), "--encoder", encoder]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    tokens = pipeline(TASK, model=encoder, device="cpu")(recordings / "a.wav")["semantic_tokens"]
    assert line.startswith(f"{recordings / 'a.wav'}: 50 tokens, 1.00 s, confidence ")
    assert line.endswith(": " + " ".join(map(str, tokens[:10])) + " ...")


def test_failed_files_do_not_stop_the_rest(encoder, recordings, tmp_path, capsys):
    (recordings / "broken.wav").write_bytes(b"RIFF nonsense")
    (recordings / "fake.npz").write_bytes(b"PK\x03\x04 nonsense")
    (recordings / "empty.npy").write_bytes(b"")
    np.save(recordings / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    files = [str(recordings / name) for name in ("broken.wav", "fake.npz", "a.wav", "empty.npy", "pickled.npy")]
    files.insert(2, str(tmp_path / "nowhere.wav"))
    code = cli.main(["encode", *files, "--encoder", encoder, "--json"])
    records = {record["file"]: record for record in lines(capsys.readouterr().out)}
    assert code == 1
    assert list(records) == files
    assert len(records) == 6
    assert records.pop(str(recordings / "a.wav"))["num_tokens"] == 50
    assert all(set(record) == {"file", "error"} and record["error"] for record in records.values())


def test_recording_that_the_model_refuses_does_not_take_its_group_along(encoder, recordings, capsys, monkeypatch):
    forward = AudioToBarkSemanticPipeline._forward

    def refuse(self, inputs, **params):
        audio = inputs["audio"] if isinstance(inputs["audio"], list) else [inputs["audio"]]
        if any(len(waveform) == 32_000 for waveform in audio):
            raise RuntimeError("out of memory")
        return forward(self, inputs, **params)

    monkeypatch.setattr(AudioToBarkSemanticPipeline, "_forward", refuse)
    assert cli.main(["encode", str(recordings), "--encoder", encoder, "--json"]) == 1
    records = lines(capsys.readouterr().out)
    assert [record.get("error") for record in records] == [None, "out of memory", None]


def test_voice_prompts_and_code_files_are_inputs(encoder, tmp_path, capsys):
    codes = random_codes(75)
    VoicePrompt(np.arange(50), codes).save(tmp_path / "voice.npz")
    np.savez(tmp_path / "codes.npz", audio_codes=codes)
    np.save(tmp_path / "codes.npy", codes)
    files = [str(tmp_path / name) for name in ("voice.npz", "codes.npz", "codes.npy")]
    assert cli.main(["encode", *files, "--encoder", encoder, "--json"]) == 0
    first, *others = lines(capsys.readouterr().out)
    assert first["num_tokens"] == 50
    assert all(other["semantic_tokens"] == first["semantic_tokens"] for other in others)


def test_output_keeps_every_file_inside_the_folder(encoder, recordings, tmp_path, capsys):
    shutil.copy(recordings / "a.wav", recordings / "...wav")
    target = tmp_path / "new" / "tokens"
    files = [recordings / name for name in ("a.wav", "deep/a.wav", "b.flac", "...wav")]
    arguments = ["encode", *map(str, files), "--encoder", encoder, "--output", str(target), "--top-k", "3", "--json"]
    assert cli.main(arguments) == 0
    records = lines(capsys.readouterr().out)
    assert sorted(path.name for path in target.iterdir()) == ["...npz", "a-2.npz", "a.npz", "b.npz"]
    assert len({record["output"] for record in records}) == 4
    for record in records:
        with np.load(record["output"], allow_pickle=False) as saved:
            assert saved["semantic_tokens"].tolist() == record["semantic_tokens"]
            assert saved["top_k_tokens"].shape == (record["num_tokens"], 3)
            assert saved["confidence"].dtype == np.float32
    assert cli.main(arguments) == 0
    assert len(list(target.iterdir())) == 4


@pytest.fixture
def whisper(monkeypatch):
    """A speech recognizer that understands the long recordings; the lengths that it was given, in seconds."""
    given = []

    def transcribe(waveform):
        given.append(len(waveform) / 16_000)
        return " the cat sleeps " if given[-1] > 0.6 else ""

    monkeypatch.setattr("hf_bark_semantic.evaluation.judges.load_transcriber", lambda name, *, device: transcribe)
    return given


def test_transcripts_inform_the_tokens_of_each_recording(encoder, recordings, bark_folder, whisper, capsys):
    np.save(recordings / "codes.npy", random_codes(50))
    files = [str(recordings), str(recordings / "codes.npy")]
    words = ["--transcribe", "--bark", bark_folder]
    assert cli.main(["encode", *files, "--encoder", encoder, "--json", *words]) == 1
    first, second, unheard, codes = lines(capsys.readouterr().out)
    encode = pipeline(TASK, model=encoder, device="cpu")
    for record in (first, second):
        expected = encode(record["file"], text="the cat sleeps", bark=bark_folder)["semantic_tokens"]
        assert record["semantic_tokens"] == expected.tolist()
        assert record["text"] == "the cat sleeps"
    assert whisper == [1.0, 2.0, 0.5]
    assert "No words were recognized" in unheard["error"] and "no audio to transcribe" in codes["error"]
    assert cli.main(["encode", files[0] + "/a.wav", "--encoder", encoder, *words]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "    the cat sleeps"


def test_a_cloned_voice_has_the_tokens_of_its_words(encoder, bark_folder, whisper, tmp_path, capsys):
    recording = str(save_audio(tmp_path / "me.wav", noise(1.9, sampling_rate=24_000), 24_000))
    arguments = ["clone", recording, "--encoder", encoder, "--bark", bark_folder]
    prompts = []
    for name, words in (("plain", []), ("informed", ["--transcribe"])):
        assert cli.main([*arguments, *words, "--output", str(tmp_path / f"{name}.npz")]) == 0
        prompts.append(VoicePrompt.load(tmp_path / f"{name}.npz", semantic_vocab_size=50))
    assert "0.00 s to 1.90 s: the cat sleeps\n" in capsys.readouterr().out
    plain, informed = prompts
    assert np.array_equal(plain.audio_codes, informed.audio_codes) and plain != informed


def test_words_need_a_bark_and_transcripts_a_recognizer(encoder, recordings, monkeypatch, capsys):
    assert console.WHISPER in judges.TRANSCRIBERS
    monkeypatch.setattr("hf_bark_semantic.cli.encode.load_encoder", None)
    monkeypatch.setattr("hf_bark_semantic.cli.clone.load_encoder", None)
    recording, clone = str(recordings / "a.wav"), ["--output", str(recordings / "voice.npz")]
    for arguments, message in (
        (["encode", recording, "--transcribe"], "--transcribe and --bark"),
        (["encode", recording, "--bark", "nano"], "--text needs --bark and a single FILE"),
        (
            ["encode", recording, "--bark", "nano", "--text", "the cat", "--transcribe"],
            "either --text or --transcribe",
        ),
        (["encode", str(recordings), "--bark", "nano", "--text", "the cat"], "a single FILE"),
        (["clone", recording, "--transcribe", *clone], "--transcribe needs --bark"),
        (["clone", recording, "--transcribe", *clone, "--bark", "nano", "--asr", "./asr"], "no folder './asr'"),
    ):
        assert cli.main(arguments) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    for arguments in (["encode", recording], ["clone", recording, *clone]):
        assert cli.main([*arguments, "--transcribe", "--bark", "nano"]) == 2
        error = capsys.readouterr().err
        assert "cannot load the speech recognizer 'whisper-tiny.en'" in error and "hf_bark_semantic[asr]" in error


def test_output_does_not_replace_an_input(encoder, tmp_path, capsys):
    prompt = VoicePrompt(np.arange(50), random_codes(75))
    path = prompt.save(tmp_path / "voice.npz")
    assert cli.main(["encode", str(path), "--encoder", encoder, "--output", str(tmp_path)]) == 0
    assert VoicePrompt.load(path) == prompt
    assert (tmp_path / "voice-2.npz").exists()


def test_names_that_differ_in_case_do_not_share_a_file(tmp_path):
    files = [tmp_path / "A.wav", tmp_path / "a.flac", tmp_path / ("x" * 251 + ".wav")]
    names = [path.name for path in records.output_paths(files, tmp_path).values()]
    assert names == ["A.npz", "a-2.npz", "x" * 200 + ".npz"]


def test_small_groups_give_what_one_group_gives(encoder, recordings, capsys, monkeypatch):
    arguments = ["encode", str(recordings), "--encoder", encoder, "--json"]
    cli.main(arguments)
    expected = capsys.readouterr().out
    monkeypatch.setattr(records, "MAX_GROUP_S", 0.1)
    cli.main([*arguments, "--batch-size", "1"])
    for record, other in zip(lines(capsys.readouterr().out), lines(expected), strict=True):
        assert record["file"] == other["file"]
        assert record["semantic_tokens"] == other["semantic_tokens"]


def test_the_next_files_are_read_while_those_before_are_computed(encoder, recordings, capsys, monkeypatch):
    preprocess, forward = AudioToBarkSemanticPipeline.preprocess, AudioToBarkSemanticPipeline.forward
    second_is_read, waits = threading.Event(), []

    def read(self, source, **params):
        if source.name == "b.flac":
            second_is_read.set()
        return preprocess(self, source, **params)

    def compute(self, inputs, **params):
        waits.append(second_is_read.wait(timeout=60))
        return forward(self, inputs, **params)

    monkeypatch.setattr(AudioToBarkSemanticPipeline, "preprocess", read)
    monkeypatch.setattr(AudioToBarkSemanticPipeline, "forward", compute)
    monkeypatch.setattr(records, "MAX_GROUP_S", 0.1)
    cli.main(["encode", str(recordings), "--encoder", encoder, "--json"])
    names = [Path(record["file"]).name for record in lines(capsys.readouterr().out)]
    assert waits == [True] * 3 and names == ["a.wav", "b.flac", "a.wav"]


def test_interruption_keeps_what_was_finished(encoder, recordings, tmp_path, capsys, monkeypatch):
    preprocess = AudioToBarkSemanticPipeline.preprocess

    def interrupt(self, source, **params):
        if source.parent.name == "deep":
            raise KeyboardInterrupt
        return preprocess(self, source, **params)

    monkeypatch.setattr(AudioToBarkSemanticPipeline, "preprocess", interrupt)
    monkeypatch.setattr(records, "MAX_GROUP_S", 0.1)
    target = tmp_path / "tokens"
    assert cli.main(["encode", str(recordings), "--encoder", encoder, "--json", "--output", str(target)]) == 130
    output = capsys.readouterr()
    assert [record["num_tokens"] for record in lines(output.out)] == [50, 100]
    assert f"2 of 3 files were finished, their tokens are in {target}" in output.err
    assert sorted(path.name for path in target.iterdir()) == ["a.npz", "b.npz"]


def test_progress_is_on_stderr_and_only_if_wanted(encoder, recordings, capsys):
    arguments = ["encode", str(recordings), "--encoder", encoder, "--json"]
    cli.main(arguments)
    assert "3/3" not in capsys.readouterr().err
    cli.main([*arguments, "--progress"])
    output = capsys.readouterr()
    assert "3/3" in output.err
    assert len(lines(output.out)) == 3


def test_progress_goes_on_within_a_long_file(recordings, tmp_path, monkeypatch, capsys):
    encoder = save_tiny_encoder(tmp_path / "windows", window_s=2.0, overlap_s=0.4)
    save_audio(tmp_path / "long.wav", noise(30.0), 16_000)
    monkeypatch.setattr(progress, "DELAY_S", 0.0)
    monkeypatch.setattr(progress, "tqdm", functools.partial(progress.tqdm, mininterval=0))
    assert cli.main(["encode", str(tmp_path / "long.wav"), "--encoder", encoder, "--progress"]) == 0
    shown = [int(seconds) for seconds in re.findall(r"(\d+) of 30 s of audio", capsys.readouterr().err)]
    assert shown == sorted(shown) and shown[0] == 0 and len(set(shown)) > 10


def test_dtype_and_device_reach_the_model(encoder, recordings, capsys, monkeypatch):
    seen = []
    preprocess = AudioToBarkSemanticPipeline.preprocess
    monkeypatch.setattr(
        AudioToBarkSemanticPipeline,
        "preprocess",
        lambda self, source: seen.append((self.model.dtype, self.device.type)) or preprocess(self, source),
    )
    arguments = ["encode", str(recordings / "a.wav"), "--encoder", encoder]
    assert cli.main([*arguments, "--dtype", "bfloat16", "--device", "cpu"]) == 0
    assert seen == [(torch.bfloat16, "cpu")]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["encode", "x.wav", "--batch-size", "0"],
        ["encode", "x.wav", "--top-k", "many"],
        ["clone", "x.wav"],
        ["clone", "x.wav", "--output", "v.npz", "--bark", "a", "--codec", "b"],
        ["speak", "hello", "--voice", "a.npz"],
        ["speak", "hello", "--voice", "a.npz", "--output", "a.wav", "--seed", "-1"],
        ["speak", "hello", "--voice", "a.npz", "--output", "a.wav", "--long-form", "endless"],
        ["dream"],
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(arguments)
    assert exit_info.value.code == 2
    assert "usage: bark-semantic" in capsys.readouterr().err


def test_nothing_to_do_exits_with_2(tmp_path, capsys):
    assert cli.main(["encode"]) == 2
    assert "--example" in capsys.readouterr().err
    assert cli.main(["encode", str(tmp_path)]) == 2
    assert "no audio file" in capsys.readouterr().err


def test_encoder_that_cannot_be_loaded_exits_with_2(recordings, tmp_path, capsys, monkeypatch):
    for encoder in (str(tmp_path / "nowhere"), "nobody/nothing", str(recordings)):
        assert cli.main(["encode", str(recordings), "--encoder", encoder]) == 2
        assert f"{encoder!r}" in capsys.readouterr().err
    monkeypatch.setattr("hf_bark_semantic.packaged.BUILTIN_ENCODER", tmp_path / "bark-encoder")
    assert cli.main(["encode", str(recordings)]) == 2
    assert "Name a folder or a Hub id, on the command line with --encoder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> str:
    """A folder with an encoder of another head."""
    return save_tiny_encoder(tmp_path_factory.mktemp("other"), codec_hidden_size=16, head_type="recurrent")


def test_several_encoders_read_as_one(encoder, other, recordings, capsys):
    encode = pipeline(TASK, model=[encoder, other], weights=[1, 3], device="cpu")
    expected = encode(str(recordings / "a.wav"))["semantic_tokens"].tolist()
    arguments = ["encode", str(recordings / "a.wav"), "--json", "--encoder", encoder, other]
    assert cli.main([*arguments, "--encoder-weights", "1", "3"]) == 0
    output = capsys.readouterr()
    assert lines(output.out)[0]["semantic_tokens"] == expected
    assert "unseen voices" not in output.err  # the accuracy of one alone is not theirs
    assert cli.main([*arguments, "--encoder-weights", "1"]) == 2
    assert "2 encoders and the weights [1.0]" in capsys.readouterr().err


def test_builtin_among_several_encoders_is_the_packaged_one(package_with_nano, recordings, tmp_path, capsys):
    named = save_tiny_encoder(tmp_path / "named", vocab_size=40, head_type="recurrent")
    tokens = []
    for packaged in ("builtin", str(package_with_nano / "BUILTIN_ENCODER")):
        assert cli.main(["encode", str(recordings / "a.wav"), "--json", "--encoder", packaged, named]) == 0
        tokens.append(lines(capsys.readouterr().out)[0]["semantic_tokens"])
    assert tokens[0] == tokens[1]
    other = save_tiny_encoder(tmp_path / "other", vocab_size=50)
    assert cli.main(["encode", str(recordings), "--encoder", "builtin", other]) == 2
    assert "`vocab_size` of these encoders is [40, 50]" in capsys.readouterr().err


def test_what_a_command_works_on_may_follow_its_encoder(encoder, recordings, codec, speak, tmp_path, capsys):
    assert cli.main(["encode", "--encoder", encoder, str(recordings / "a.wav"), str(recordings / "b.flac")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    recording = str(save_audio(tmp_path / "me.wav", noise(8.0, sampling_rate=24_000), 24_000))
    target = tmp_path / "me.npz"
    assert cli.main(["clone", "--output", str(target), "--codec", codec, "--encoder", encoder, recording]) == 0
    assert target.exists()
    _, expected = speak("the dog")
    _, audio = speak("--device", "cpu", encoder_and_text=[encoder, "the dog"])
    assert np.array_equal(audio, expected)
    assert cli.main(["clone", "--output", str(target), "--encoder", encoder]) == 2
    assert "name recordings" in capsys.readouterr().err


def test_impossible_options_exit_with_2(encoder, recordings, tmp_path, capsys):
    assert cli.main(["encode", str(recordings), "--encoder", encoder, "--top-k", "51"]) == 2
    assert "more than the vocabulary of 50 tokens" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main(["encode", str(recordings), "--encoder", encoder, "--output", str(tmp_path / "file")]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


# ---- clone, speak, demo


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("codec")
    EncodecModel(EncodecConfig(num_filters=4, hidden_size=8, codebook_dim=8, num_lstm_layers=1)).save_pretrained(
        folder
    )
    return str(folder)


def test_cloned_voice_is_what_bark_reads(encoder, codec, tmp_path, capsys):
    recording = save_audio(tmp_path / "me.wav", noise(8.0, sampling_rate=24_000), 24_000)
    target = tmp_path / "voices" / "me.npz"
    arguments = ["clone", str(recording), "--output", str(target), "--encoder", encoder, "--codec", codec]
    assert cli.main(arguments) == 0
    prompt = VoicePrompt.load(target)
    output = capsys.readouterr().out
    assert f"{prompt.num_tokens} semantic tokens, {prompt.num_frames} codec frames" in output
    assert output.splitlines()[-1] == str(target)
    BarkProcessor._validate_voice_preset_dict(BarkProcessor.__new__(BarkProcessor), prompt.to_dict())


def test_several_recordings_make_one_voice(encoder, codec, tmp_path, capsys):
    files = [str(save_audio(tmp_path / f"{i}.wav", noise(4.0, i, 24_000), 24_000)) for i in range(2)]
    target = str(tmp_path / "me.npz")
    assert cli.main(["clone", *files, "--output", target, "--encoder", encoder, "--codec", codec]) == 0
    assert VoicePrompt.load(target).num_tokens > 250
    output = capsys.readouterr().out
    assert all(f"{file}: " in output for file in files)


def test_several_encoders_clone_and_speak_as_one(encoder, other, codec, speak, tmp_path, capsys):
    recording = str(save_audio(tmp_path / "me.wav", noise(8.0, sampling_rate=24_000), 24_000))
    prompts = []
    for number, names in enumerate(([encoder], [other], [encoder, other])):
        target = tmp_path / f"{number}.npz"
        assert cli.main(["clone", recording, "--output", str(target), "--codec", codec, "--encoder", *names]) == 0
        prompts.append(VoicePrompt.load(target))
    assert prompts[2] not in prompts[:2]
    assert speak("the dog", voices=[recording], encoder_and_text=[encoder, other])[0] == 0
    wrong = save_tiny_encoder(tmp_path / "wrong", vocab_size=40)
    assert speak("the dog", encoder_and_text=[encoder, wrong])[0] == 2
    assert "`vocab_size` of these encoders is [50, 40]" in capsys.readouterr().err


def test_clone_without_codec_says_what_to_type(encoder, recordings, tmp_path, capsys):
    arguments = ["clone", str(recordings / "a.wav"), "--output", str(tmp_path / "v.npz"), "--encoder", encoder]
    assert cli.main([*arguments, "--codec", "nobody/encodec"]) == 2
    assert "hf download nobody/encodec" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "message"),
    [("voice.wav", "must end in .npz"), ("a.wav/voice.npz", "cannot make the folder"), ("deep", "is a folder")],
)
def test_place_of_a_voice_is_checked_before_anything_is_loaded(output, message, recordings, monkeypatch, capsys):
    monkeypatch.setattr("hf_bark_semantic.cli.clone.load_encoder", None)
    assert cli.main(["clone", str(recordings / "a.wav"), "--output", str(recordings / output)]) == 2
    assert message in capsys.readouterr().err


def test_silent_recording_fails_without_a_file(encoder, codec, tmp_path, capsys):
    recording = save_audio(tmp_path / "silence.wav", np.zeros(24_000, np.float32), 24_000)
    target = tmp_path / "v.npz"
    assert cli.main(["clone", str(recording), "--output", str(target), "--encoder", encoder, "--codec", codec]) == 1
    assert "silent" in capsys.readouterr().err
    assert not target.exists()


def test_clone_for_a_bark_takes_its_codec_and_for_nano_its_encoder(package_with_nano, bark_folder, tmp_path, capsys):
    recording = str(save_audio(tmp_path / "me.wav", noise(2.0, sampling_rate=24_000), 24_000))
    prompts = []
    for bark, encoder in (
        ("nano", []),
        (bark_folder, []),
        (bark_folder, ["--encoder", str(package_with_nano / "NANO_ENCODER")]),
    ):
        target = tmp_path / f"{len(prompts)}.npz"
        assert cli.main(["clone", recording, "--output", str(target), "--bark", bark, *encoder]) == 0
        prompts.append(VoicePrompt.load(target, semantic_vocab_size=50))
    assert prompts[0] == prompts[1] == prompts[2]
    other = ["--encoder", str(package_with_nano / "BUILTIN_ENCODER")]
    assert cli.main(["clone", recording, "--output", str(target), "--bark", bark_folder, *other]) == 2
    assert "vocabulary of 40 semantic tokens and the Bark one of 50" in capsys.readouterr().err


@pytest.fixture
def speak(bark_folder, tmp_path, encoder):
    """Runs `speak` with the tiny Bark and a voice, and gives exit code and speech."""
    voice, target = str(tiny_prompt().save(tmp_path / "voice.npz")), tmp_path / "new" / "speech.wav"
    models = ["--bark", bark_folder, "--output", str(target), "--device", "cpu"]

    def run(*arguments, voices=(voice,), encoder_and_text=(encoder,)):
        target.unlink(missing_ok=True)
        chosen = [*(part for voice in voices for part in ("--voice", voice)), *models, "--encoder", *encoder_and_text]
        code = cli.main(["speak", *arguments, *chosen])
        return code, soundfile.read(target, dtype="float32")[0] if target.exists() else None

    return run


def test_spoken_text_is_the_pipeline_s(speak, encoder, bark_folder, capsys):
    given = ["--seed", "2", "--temperature", "0.5", "--prompt-mode", "semantic"]
    code, audio = speak("the dog runs", *given, "--guidance-scale", "9", "--voice-guidance-scale", "30")
    assert code == 0
    pipe = pipeline("voice-cloning", model=encoder, bark=bark_folder, device="cpu")
    options = {"seed": 2, "semantic_temperature": 0.5, "coarse_temperature": 0.5, "prompt_mode": "semantic"}
    unguided = pipe(tiny_prompt(), "the dog runs", **options)["audio"]
    assert len(audio) != len(unguided) or not np.array_equal(audio, unguided)
    options |= {"guidance_scale": 9.0, "voice_guidance_scale": 30.0}
    expected = pipe(tiny_prompt(), "the dog runs", **options)["audio"]
    assert np.array_equal(audio, expected)
    output = capsys.readouterr().out.splitlines()
    assert output[0] == f"{len(expected) / 24_000:.2f} s of speech"
    assert output[1].endswith("speech.wav")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["encode", "https://example.org/a.wav"], 1, "https://example.org/a.wav: No such file or folder. Download"),
        (["encode", "nowhere.wav"], 1, "nowhere.wav: No such file or folder. Check the spelling"),
        (["clone", "nowhere.wav", "--output", "voice.npz"], 2, "some recordings do not exist"),
    ],
)
def test_paths_that_are_not_there_are_told_without_loading_an_encoder(arguments, code, message, monkeypatch, capsys):
    monkeypatch.setattr("hf_bark_semantic.cli.console.load_pipeline", None)
    assert cli.main(arguments) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("https://huggingface.co/suno/bark", "'https://huggingface.co/suno/bark' is an address; name a Hub id"),
        ("./nofolder", "there is no folder './nofolder'; check the spelling"),
        ("models/mine/bark", "there is no folder 'models/mine/bark'"),
    ],
)
def test_models_that_are_no_folder_and_no_id_are_named_as_typed(place, message, recordings, capsys):
    recording = str(recordings / "a.wav")
    for arguments in (
        ["voices", "--bark", place],
        ["speak", "hello", "--prompt-mode", "none", "--output", str(recordings / "speech.wav"), "--bark", place],
        ["encode", recording, "--encoder", "builtin", place],
        ["clone", recording, "--output", "voice.npz", "--codec", place],
    ):
        assert cli.main(arguments) == 2
        assert message in capsys.readouterr().err


def test_text_comes_from_a_file_or_from_stdin(speak, tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_bytes("\ufeffthe cat\r\nsleeps".encode())
    _, expected = speak("the cat sleeps")
    _, from_file = speak("--file", str(tmp_path / "text.txt"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("the cat sleeps\n"))
    _, from_stdin = speak("-")
    assert np.array_equal(from_file, expected)
    assert np.array_equal(from_stdin, expected)


def test_voices_are_presets_or_recordings_and_recordings_convert(speak, tmp_path):
    files = [str(save_audio(tmp_path / f"{i}.wav", noise(1.5, i, 24_000), 24_000)) for i in range(2)]
    _, expected = speak("the dog")
    code, audio = speak("the dog", voices=["v2/en_a"])
    assert code == 0
    assert np.array_equal(audio, expected)
    code, audio = speak("--convert", files[0], voices=files)
    assert code == 0
    assert abs(len(audio) / 24_000 - 1.5) < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name exactly one of TEXT"),
        (["hello", "--file", "text.txt"], "name exactly one of TEXT"),
        (["--file", "nowhere.txt"], "there is no file 'nowhere.txt'"),
        (["--file", "."], "cannot read the text"),
        ([" "], "the text is empty"),
        (["hello", "--output", "speech.txt"], "must end in .wav or .flac or .mp3 or .ogg"),
        (["hello", "--bark", "nobody/bark"], "cannot load the Bark 'nobody/bark'"),
        (["hello", "--bark", "suno/bark-smal"], "; did you mean suno/bark-small?"),
    ],
)
def test_speech_that_cannot_be_made_exits_with_2(encoder, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    if "--output" not in arguments:
        arguments = [*arguments, "--output", "speech.wav"]
    assert cli.main(["speak", *arguments, "--voice", "me.npz", "--encoder", encoder]) == 2
    assert message in capsys.readouterr().err
    assert cli.main(["speak", "hello", "--output", "speech.wav", "--encoder", encoder]) == 2
    assert "name a --voice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "is a folder; name a file in it"),
        ("kept.wav", "exists; name another file, or replace it with --overwrite"),
        ("kept.wav/speech.wav", "cannot make the folder"),
        ("me.wav", "is also an input; name another file"),
        pytest.param(
            "/proc/speech.wav", "cannot write into the folder '/proc'",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that refuses root, too"),
        ),
    ],
)  # fmt: skip
def test_place_of_the_speech_is_checked_before_anything_is_loaded(output, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hf_bark_semantic.cli.speak.load_pipeline", None)
    for name in ("kept.wav", "me.wav"):
        save_audio(tmp_path / name, noise(1.0), 16_000)
    voice, output = str(tmp_path / "me.wav"), str(tmp_path / output)
    overwrite = ["--overwrite"] if output == voice else []
    assert cli.main(["speak", "hello", "--voice", voice, "--output", output, *overwrite]) == 2
    assert message in capsys.readouterr().err
    assert len(load_audio(voice)) == len(load_audio(tmp_path / "kept.wav")) == 16_000


def test_speech_is_replaced_when_asked_to(speak, bark_folder, encoder, tmp_path):
    _, expected = speak("the dog")
    target = str(save_audio(tmp_path / "speech.wav", noise(9.0), 16_000))
    arguments = ["--bark", bark_folder, "--encoder", encoder, "--device", "cpu", "--output", target, "--overwrite"]
    assert cli.main(["speak", "the dog", "--voice", "v2/en_a", *arguments]) == 0
    assert np.array_equal(soundfile.read(target, dtype="float32")[0], expected)


TEXT = "The dog runs to the house. A cat sleeps! One, two, three. The man laughs at the dog and the cat sleeps."


def test_streamed_wav_is_the_file_of_16_bits(speak, bark_folder, encoder, tmp_path, capsysbinary):
    _, expected = speak(TEXT, "--batch-size", "2")
    capsysbinary.readouterr()
    models = ["--bark", bark_folder, "--encoder", encoder, "--device", "cpu", "--batch-size", "2"]
    voice = str(tmp_path / "voice.npz")
    assert cli.main(["speak", TEXT, "--voice", voice, "--output", "-", *models]) == 0
    (tmp_path / "streamed.wav").write_bytes(capsysbinary.readouterr().out)
    assert np.allclose(load_audio(tmp_path / "streamed.wav", 24_000), expected, atol=2**-15)
    assert len(read_provenance(tmp_path / "streamed.wav")["voice_prompt_sha256"]) == 64


def piece(number: int, peak: float = 0.5, num_pieces: int = 3) -> dict:
    waveform = np.full(2_400, peak / 2, np.float32)
    waveform[100] = peak
    return {"audio": waveform, "sampling_rate": 24_000, "number": number, "num_pieces": num_pieces, "warnings": ()}


def test_a_piece_is_written_before_the_next_is_spoken(capsysbinary):
    written = []

    def pieces():
        for number in (1, 2, 3):
            yield piece(number)
            written.append(len(capsysbinary.readouterr().out))

    speech.write_to_stdout(pieces(), lambda piece: None)
    assert written == [44 + 4_800, 4_800, 4_800]


@pytest.mark.parametrize("ending", [".wav", ".flac", ".mp3", ".ogg"])
def test_speech_above_full_scale_is_scaled_for_every_format_and_told(ending, tmp_path, capsys):
    path = tmp_path / f"loud{ending}"
    speech.write_file([piece(1), piece(2, peak=2.0)], path, lambda piece: None)
    samples = soundfile.read(path)[0]
    if ending in (".wav", ".flac"):
        assert samples[2_400 + 100] == pytest.approx(1.0, abs=2**-14)
        assert samples[100] == pytest.approx(0.25, abs=2**-14)
    assert abs(samples).max() == pytest.approx(1.0, abs=0.1)
    assert "the speech peaks at 2.00, above full scale; it is scaled by 0.50" in capsys.readouterr().err


def test_streamed_speech_becomes_softer_where_it_would_be_clipped(capsysbinary, tmp_path):
    speech.write_to_stdout([piece(1), piece(2, peak=2.0), piece(3)], lambda piece: None)
    output = capsysbinary.readouterr()
    (tmp_path / "loud.wav").write_bytes(output.out)
    peaks = load_audio(tmp_path / "loud.wav", 24_000)[100::2_400]
    assert np.allclose(peaks, [0.5, 1.0, 0.25], atol=2**-14)
    assert b"piece 2 peaks at 2.00, above full scale; it and what follows is scaled by 0.50" in output.err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (MemoryError, 1)])
def test_finished_pieces_are_kept_where_the_rest_fails(error, code, speak, tmp_path, monkeypatch, capsys):
    def stream(self, *_, **__):
        yield {**piece(1), "voice_prompt": tiny_prompt()}
        yield {**piece(2), "voice_prompt": tiny_prompt()}
        raise error

    monkeypatch.setattr(VoiceCloningPipeline, "stream", stream)
    assert speak(TEXT) == (code, None)
    unfinished = tmp_path / "new" / "speech.unfinished.wav"
    assert f"2 of 3 pieces were finished; their 0.20 s of speech are in {unfinished}" in capsys.readouterr().err
    assert len(soundfile.read(unfinished)[0]) == 4_800


def test_finished_pieces_are_kept_where_their_file_is_interrupted(tmp_path, monkeypatch, capsys):
    def interrupt(path, *args, **kwargs):
        if path.name == "speech.mp3":
            raise KeyboardInterrupt
        return save_audio(path, *args, **kwargs)

    monkeypatch.setattr(speech, "save_audio", interrupt)
    with pytest.raises(KeyboardInterrupt):
        speech.write_file([piece(1), piece(2), piece(3)], tmp_path / "speech.mp3", lambda piece: None)
    assert "3 of 3 pieces were finished" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["speech.unfinished.mp3"]


def test_progress_of_speech_is_by_piece_and_only_if_wanted(speak, capsys):
    speak(TEXT)
    assert "piece" not in capsys.readouterr().err
    speak(TEXT, "--progress", "--batch-size", "1")
    progress = capsys.readouterr().err
    assert re.search(r" (\d+)/\1 .*piece.*codec", progress)


def test_voice_that_cannot_be_used_fails_without_a_file(speak, capsys):
    code, audio = speak("the dog", voices=["nobody"])
    assert (code, audio) == (1, None)
    assert "no file 'nobody' and no such preset; this Bark has 2 presets" in capsys.readouterr().err
    assert speak("the dog", voices=["anouncer"]) == (1, None)
    assert "Did you mean announcer? " in capsys.readouterr().err


def test_demo_types_the_commands_of_a_newcomer(package_with_nano, tmp_path, monkeypatch, capsys):
    save_audio(tmp_path / "nano_reference.flac", noise(3.0, sampling_rate=24_000) * 0.5, 24_000)
    monkeypatch.setattr("hf_bark_semantic.packaged.NANO_RECORDING", tmp_path / "nano_reference.flac")
    folder = tmp_path / "demo"
    assert cli.main(["demo", "--output", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["clone.wav", "preset.wav", "reference.wav", "voice.npz"]
    assert VoicePrompt.load(folder / "voice.npz", semantic_vocab_size=50).num_tokens > 140
    output = capsys.readouterr().out
    assert "$ bark-semantic encode --example" in output
    assert f"$ bark-semantic clone {folder / 'reference.wav'} --bark nano --output {folder / 'voice.npz'}" in output
    assert "--voice MINE.wav --bark suno/bark-small" in output


def test_demo_stops_at_the_step_that_fails(package_with_nano, tmp_path, monkeypatch, capsys):
    save_audio(tmp_path / "nano_reference.flac", noise(3.0, sampling_rate=24_000) * 0.5, 24_000)
    monkeypatch.setattr("hf_bark_semantic.packaged.NANO_RECORDING", tmp_path / "nano_reference.flac")
    arguments, steps = ["demo", "--output", str(tmp_path / "demo")], []
    run = cli.main
    monkeypatch.setattr(cli, "main", lambda command: steps.append(command[0]) or cli.FAILED * (command[0] == "clone"))
    assert run(arguments) == cli.FAILED
    assert steps == ["encode", "clone"] and "Listen to" not in capsys.readouterr().out


def test_demo_without_nano_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hf_bark_semantic.packaged.NANO_RECORDING", tmp_path / "nowhere.flac")
    assert cli.main(["demo", "--output", str(tmp_path / "demo")]) == 2
    assert "This installation has no recording for nano" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


# ---- voices, app


def test_voices_of_a_bark_are_listed_with_their_languages(bark_folder, tmp_path, capsys):
    assert cli.main(["voices", "--bark", bark_folder]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["v2/en_a"], ["announcer"]]
    presets = {
        "repo_or_path": "suno/bark",
        "v2/de_speaker_3": {},
        "v2/en_speaker_0": {},
        "zh_speaker_12": {},
        "announcer": {},
    }
    (tmp_path / "speaker_embeddings_path.json").write_text(json.dumps(presets))
    assert cli.main(["voices", "--bark", str(tmp_path)]) == 0
    listed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert listed == [  # the pitch of v2/en_speaker_0 is neither low nor high, and that of other names is not known
        ["v2/de_speaker_3", "German, female"], ["v2/en_speaker_0", "English"], ["zh_speaker_12", "Chinese"],
        ["announcer"],
    ]  # fmt: skip


def test_voices_of_nano_speak_english(package_with_nano, capsys):
    assert cli.main(["voices"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()][0] == ["v2/en_a", "English"]


@pytest.mark.parametrize(
    ("content", "message"), [("[1]", "holds a list"), ("{", "is not JSON"), (None, "no voice presets")]
)
def test_a_damaged_list_of_voices_is_told(content, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / "speaker_embeddings_path.json").write_text(content)
    assert cli.main(["voices", "--bark", str(tmp_path)]) == (0 if content is None else 2)
    assert message in capsys.readouterr().err


def test_a_taken_port_is_told_before_anything_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert cli.main(["app", "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"bark-semantic: port {port} is in use; choose another with --port\n"
    assert cli.main(["app", "--host", "203.0.113.1"]) == 2
    assert "cannot listen on 203.0.113.1, port 7860" in capsys.readouterr().err
    assert cli.main(["app", "--host", "nohost.invalid"]) == 2
    assert "this machine has no address 'nohost.invalid'" in capsys.readouterr().err
    assert cli.main(["app", "--adapter", "anna=./nowhere"]) == 2
    assert "there is no folder './nowhere'" in capsys.readouterr().err


# ---- convert, doctor


def test_convert_hands_over_what_was_given(monkeypatch, tmp_path, capsys):
    calls = []
    conversion = types.ModuleType("hf_bark_semantic.conversion.convert")
    conversion.convert = lambda *args, **kwargs: calls.append((args, kwargs))
    monkeypatch.setitem(sys.modules, "hf_bark_semantic.conversion.convert", conversion)
    source, target = tmp_path / "quantizer.pth", tmp_path / "encoder"
    assert cli.main(["convert", str(source), "--output", str(target)]) == 0
    more = ["--backbone", "facebook/hubert-base-ls960", "--layer", "9", "--overwrite"]
    assert cli.main(["convert", str(source), "--output", str(target), *more]) == 0
    options = {"overwrite": True, "backbone": "facebook/hubert-base-ls960", "layer": 9}
    assert calls == [((source, target), {"overwrite": False}), ((source, target), options)]
    conversion.convert = None  # a TypeError when it is called
    assert cli.main(["convert", str(source), "--output", str(target)]) == 2


def test_file_of_no_known_format_is_not_converted(tmp_path, capsys):
    (tmp_path / "quantizer.pth").write_text("no checkpoint")
    assert cli.main(["convert", str(tmp_path / "quantizer.pth"), "--output", str(tmp_path / "encoder")]) == 2
    assert "quantizer.pth" in capsys.readouterr().err


def test_doctor_tells_versions_and_health(monkeypatch, capsys):
    monkeypatch.setattr("hf_bark_semantic.precision.choose_precision", lambda device: ("bf16", "it is faster"))
    code = cli.main(["doctor", "--json"])
    (found,) = lines(capsys.readouterr().out)
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["healthy"] == (code == 0) == (not found["problems"])
    assert found["hub_reachable"] is None
    assert "float32" in found["devices"]["cpu"]
    assert found["precision"]["cpu"] == "bf16: it is faster"
    assert cli.main(["doctor"]) == code
    printed = capsys.readouterr().out
    assert torch.__version__.split("+")[0] in printed and "training on cpu" in printed


def test_doctor_names_what_is_broken_and_the_cure(monkeypatch, capsys):
    monkeypatch.setattr("hf_bark_semantic.environment.torchaudio_problem", lambda: "torchaudio is broken. Type: cure")
    assert cli.main(["doctor"]) == 1
    assert "BROKEN: torchaudio is broken. Type: cure" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == 1
    assert lines(capsys.readouterr().out)[0]["problems"] == ["torchaudio is broken. Type: cure"]


@pytest.mark.parametrize(
    ("arguments", "code", "answer"),
    [
        (["--help"], 0, "usage: bark-semantic"),
        (["speak", "--help"], 0, "usage: bark-semantic speak"),
        (["--version"], 0, f"bark-semantic {hf_bark_semantic.__version__}\n"),
        (["speek"], 2, "; did you mean speak?"),
        (["--print-completion", "bash"], 0, "_shtab_bark_semantic"),
        (["speak", "hello", "--output", "a.txt", "--voice", "me.wav"], 2, "--output 'a.txt' must end in .wav"),
        (["encode", "nowhere.wav"], 1, "No such file or folder"),
        (["app", "--host", "203.0.113.1"], 2, "cannot listen on 203.0.113.1"),
        (["voices", "--help"], 0, "usage: bark-semantic voices"),
        (["encoders", "--help"], 0, "usage: bark-semantic encoders"),
    ],
)
def test_help_version_and_typos_are_answered_without_torch(arguments, code, answer):
    run = """if True:
        import sys
        from hf_bark_semantic.cli.main import main
        try:
            sys.exit(main(sys.argv[1:]))
        finally:
            heavy = {"torch", "transformers", "huggingface_hub"} & set(sys.modules)
            assert not heavy, heavy
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(hf_bark_semantic.__file__).parents[1])}
    command = [sys.executable, "-c", run, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == code and "AssertionError" not in result.stderr
    assert answer in result.stdout + result.stderr


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Those of the commands, by name."""
    (commands,) = (a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(commands.choices)


def test_every_help_has_examples_that_can_be_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("password.txt").write_text("of an example")
    for name, parser in parsers().items():
        assert parser.examples and all(example in parser.format_help() for example in parser.examples)
        for example in parser.examples:
            command = re.split("[|>]", example)[0]
            assert cli.build_parser().parse_args(shlex.split(command)[1:]).command.__module__.endswith(name)


def test_every_default_is_told():
    options = [option for parser in parsers().values() for option in parser._actions if option.option_strings]
    told = [option for option in options if option.default not in (None, False, [], argparse.SUPPRESS)]
    assert len(told) > 10
    assert [option.dest for option in told if "(default: " not in option.help] == []


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["speak", "hello", "--ouput", "a.wav"], "no option --ouput; did you mean --output?"),
        (["speak", "hello", "--output", "a.wav", "--prompt-mode", "semantics"], "; did you mean semantic?"),
        (["encode", "--jsn=1"], "no option --jsn; did you mean --json?"),
        (["encode", "--zzz"], "no option --zzz\n"),
        (["speak", "hello", "--output", "https://x.org/a.wav"], "'https://x.org/a.wav' is an address; name a file"),
        (["convert", "https://x.org/a.pth", "--output", "encoder"], "'https://x.org/a.pth' is an address"),
        (["speak", "hello", "--output", "a.wav", "--guidance-scale", "0.5"], "0.5 is not 1 or more"),
        (["speak", "hello", "--output", "a.wav", "--temperature", "hot"], "'hot' is not a number"),
        (["encode", "a.wav", "--top-k", "1.5"], "'1.5' is not a whole number"),
        (["app", "--port", "99999"], "99999 is not a port; ports are 1 to 65535"),
    ],
)
def test_typos_are_named_and_answered_with_the_nearest(arguments, answer, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert answer in capsys.readouterr().err


def test_texts_that_look_like_options_and_abbreviations_are_understood():
    arguments = cli.build_parser().parse_args(["speak", "--out", "a.wav", "--", "--hello"])
    assert (arguments.text, str(arguments.output)) == ("--hello", "a.wav")
    arguments = cli.build_parser().parse_args(["speak", "-- hello, he said", "--output", "a.wav"])
    assert arguments.text == "-- hello, he said"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [(["sp"], ["speak"]), (["speak", "--ou"], ["--output"]), (["speak", "--long-form", ""], ["fixed", "rolling"]),
     (["clone", "re"], ["recording.wav"])],
)  # fmt: skip
def test_a_shell_completes_commands_options_choices_and_files(words, expected, tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--print-completion", "bash"])
    (tmp_path / "complete.bash").write_text(capsys.readouterr().out)
    (tmp_path / "recording.wav").touch()
    typed = shlex.join(["bark-semantic", *words])
    complete = f"""source complete.bash; COMP_WORDS=({typed}); COMP_CWORD={len(words)}
        _shtab_bark_semantic bark-semantic {shlex.quote(words[-1])}; printf '%s\\n' "${{COMPREPLY[@]}}" """
    result = subprocess.run(["bash", "-c", complete], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert [line for line in result.stdout.split() if line != "--overwrite"] == expected, result.stderr


def test_tracebacks_are_shown_to_those_who_ask(monkeypatch, capsys):
    def fail(*_, **__):
        raise KeyError("versions")

    monkeypatch.setattr("hf_bark_semantic.cli.doctor.inspect_environment", fail)
    fault = "bark-semantic: KeyError: 'versions'. This is a bug; --debug shows where\n"
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == fault
    for arguments in (["doctor", "--debug"], ["--debug", "doctor"]):
        assert cli.main(arguments) == 1
        shown = capsys.readouterr().err
        assert shown.startswith("Traceback") and "in fail" in shown and shown.endswith(fault)


@pytest.mark.parametrize(
    "given, policy, spin_count",
    [
        ({}, "PASSIVE", "10000"),
        ({"GOMP_SPINCOUNT": "500"}, "PASSIVE", "500"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", r"\d{6,}"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "PASSIVE", "0"),
    ],
)
def test_waiting_threads_of_a_command_sleep_after_a_moment(given, policy, spin_count):
    """As OpenMP itself prints what it has read."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"PYTHONPATH": str(Path(hf_bark_semantic.__file__).parents[1]), "OMP_DISPLAY_ENV": "VERBOSE"}
    command = [sys.executable, "-c", "import hf_bark_semantic.cli.main, torch"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment | given, timeout=300)
    assert re.search(rf"OMP_WAIT_POLICY ?= ?'{policy}'", result.stderr), result.stderr
    if "GOMP_" in result.stderr:  # GNU's OpenMP, which torch has on Linux
        assert re.search(rf"GOMP_SPINCOUNT ?= ?'{spin_count}'", result.stderr), result.stderr


def test_an_error_of_the_package_is_one_sentence(monkeypatch, capsys):
    def fail(*_, **__):
        raise ImportError("torchaudio cannot be imported: undefined symbol. Type: cure")

    monkeypatch.setattr("hf_bark_semantic.cli.doctor.inspect_environment", fail)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "bark-semantic: torchaudio cannot be imported: undefined symbol. Type: cure\n"
