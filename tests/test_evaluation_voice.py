"""Trials of voices: their roles, their journal, their figures, and the scripts end to end on tiny models."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import random_codes, tiny_bark, tiny_bark_processor, tiny_encoder
from hf_bark_semantic import BarkSemanticEncoderProcessor, VoicePrompt, save_audio
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.voice_evaluation import (
    Enrolment,
    Journal,
    Scorers,
    Trial,
    cast_voices,
    compare,
    figure,
    format_table,
    load_voice_clips,
    plan_trials,
    score_trial,
    summarize,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import ablate_prompts
import evaluate_voice

RATE = 24_000
VOICES = {"low": 110.0, "middle": 190.0, "high": 310.0}


def tone(hz: float, seconds: float, seed: int = 0) -> np.ndarray:
    """A buzz of this pitch that swells and fades."""
    times = np.arange(int(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * hz * k * times) / k for k in range(1, 12))
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(times))
    return (0.05 * buzz * (1 + np.sin(2 * np.pi * 3 * times)) + noise).astype(np.float32)


def loudest_frequency(waveform: np.ndarray) -> np.ndarray:
    """A speaker embedding for buzzes: where the lowest strong partial lies, one-hot on 20 Hz bins."""
    spectrum = np.abs(np.fft.rfft(waveform, 16_000))[:500]
    embedding = np.zeros(25)
    embedding[int(np.argmax(spectrum)) // 20] = 1
    return embedding


@pytest.fixture
def voices(tmp_path) -> Path:
    folder = tmp_path / "speech"
    for voice, hz in VOICES.items():
        (folder / voice).mkdir(parents=True)
        rows = []
        for number in range(8):
            text = "one two three." if number % 2 else "The dog runs."
            save_audio(folder / voice / f"{number}.wav", tone(hz, 2.1, number), RATE)
            row = {"id": f"{voice}-{number}", "file": f"{voice}/{number}.wav", "text": text, "voice": voice}
            rows.append({**row, "seconds": 2.1, "held_out_voice": True, "held_out_text": number < 4})
        (folder / f"{voice}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def scorers() -> Scorers:
    return Scorers(lambda waveform: "one two", {"pitch": loudest_frequency}, lambda waveform: 3.0)


@pytest.fixture
def options(voices, tmp_path) -> list[str]:
    tokens = np.arange(40) % 50
    preset = VoicePrompt(tokens, random_codes(num_codec_frames(40)), semantic_vocab_size=50)
    bark, encoder = tmp_path / "bark", tmp_path / "encoder"
    bark.mkdir()
    tiny_bark(max_new_tokens=12).save_pretrained(bark)
    tiny_bark_processor({"a": preset.to_dict(), "b": preset.to_dict()}, bark).save_pretrained(str(bark))
    tiny_encoder().save_pretrained(encoder)
    BarkSemanticEncoderProcessor().save_pretrained(encoder)
    return [str(voices), "--bark", str(bark), "--encoder", str(encoder), "--output", str(tmp_path / "output")]


def test_a_recording_has_one_role(voices):
    cast, left_out = cast_voices(load_voice_clips(voices), tests=8)
    assert [voice.name for voice in cast] == ["high", "low", "middle"] and not left_out
    for voice in cast:
        roles = [clip.id for clip in (*voice.prompt, *voice.enrolment, *voice.tests)]
        assert len(set(roles)) == len(roles)
        assert all(6 <= sum(clip.seconds for clip in part) <= 10 for part in (voice.prompt, voice.enrolment))
        assert all(clip.held_out_text for clip in voice.tests)


def test_too_few_recordings_leave_a_voice_out(voices):
    clips = [clip for clip in load_voice_clips(voices) if clip.voice != "low" or clip.id in ("low-0", "low-5")]
    cast, left_out = cast_voices(clips)
    assert left_out == ["low"] and len(cast) == 2


def test_csv_reads_like_a_folder(voices, tmp_path):
    lines = ["audio,text,speaker", *(f"speech/low/{i}.wav,One. Two,low" for i in range(2))]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    first, second = load_voice_clips(tmp_path / "table.csv")
    assert (first.id, first.kind, first.voice, first.seconds) == ("0", "digits", "low", pytest.approx(2.1))
    assert second.audio.is_file() and second.held_out_voice
    with pytest.raises(ValueError, match="needs `audio`, `text` and `speaker`"):
        (tmp_path / "table.csv").write_text("audio,text\na.wav,b")
        load_voice_clips(tmp_path / "table.csv")


def test_plan_begins_with_one_clip_of_each_voice_and_does_not_change_with_the_limit(voices):
    cast, _ = cast_voices(load_voice_clips(voices))
    options = {"parts": ["original", "clone"], "conditions": ["full", "none"], "seeds": 2}
    everything, some = plan_trials(cast, **options), plan_trials(cast, **options, limit=3)
    assert some == everything[: len(some)] and len(some) == 3 * (1 + 4)
    assert {trial.voice for trial in some} == set(VOICES)
    assert all(trial.voice not in trial.distractors for trial in some)
    assert len({trial.id for trial in everything}) == len(everything)


def test_scores_tell_the_right_voice_from_a_wrong_one_and_from_silence(voices, scorers):
    cast, _ = cast_voices(load_voice_clips(voices))
    trial = plan_trials(cast, parts=["original"], conditions=[], limit=1)[0]
    enrolment = Enrolment(cast, scorers.embedders)
    right = score_trial(trial, tone(VOICES[trial.voice], 2.0), scorers, enrolment)
    wrong = score_trial(trial, tone(VOICES[trial.distractors[0]], 2.0), scorers, enrolment)
    silent = score_trial(trial, np.zeros(RATE, np.float32), scorers, enrolment)
    assert right["rank/pitch"] == 1 and right["similarity/pitch"] == pytest.approx(1)
    assert wrong["rank/pitch"] > 1 and wrong["best_distractor/pitch"] == pytest.approx(1)
    assert silent["failed"] and silent["rank/pitch"] == 3 and silent["word_errors"] == silent["num_words"]
    assert "mos" not in silent


def record(voice, condition, errors, rank, part="clone", clip="c", kind="digits"):
    scores = {"word_errors": errors, "num_words": 4, "letter_errors": 0, "num_letters": 9, "rank/m": rank}
    names = {"id": f"{part}{condition}{clip}{voice}", "part": part, "condition": condition, "voice": voice}
    return {
        **names,
        "clip": f"{clip}-{voice}",
        "kind": kind,
        "seed": 0,
        "failed": False,
        "seconds": 1.0,
        "distractors": ["x"],
        **scores,
    }


def test_summary_pools_words_and_compares_the_same_clips():
    records = [record(v, "full", 1, 1) for v in "abcdef"] + [record(v, "none", 3, 2) for v in "abcdef"]
    records += [record(v, "original", 0, 1, part="original") for v in "abcdef"]
    rows = {row["condition"]: row for row in summarize(records)}
    assert rows["full"]["figures"]["wer/digits"].value == 0.25
    assert rows["none"]["figures"]["identified/m"].value == 0
    assert rows["full"]["figures"]["wer_above_original/digits"].value == 0.25
    difference = compare(records, "full", "none", "identified/m")
    assert (difference.value, difference.count, difference.groups) == (1.0, 6, 6)
    assert difference.p_value == pytest.approx(2 / 2**6)
    assert figure(records, "mos") is None
    assert "25.0% [25.0, 25.0]" in format_table(list(rows.values()), ["wer/digits", "identified"])


def test_journal_forgets_only_the_line_that_was_cut_off(voices, tmp_path):
    clip = load_voice_clips(voices)[0]
    journal = Journal(tmp_path / "j", {"bark": "x"})
    journal.add(Trial("one", "clone", "full", "low", clip), {"failed": False})
    with open(journal.file, "a") as file:
        file.write('{"id": "two", "part"')
    journal.add(Trial("three", "clone", "full", "low", clip), {"failed": np.bool_(True)})
    assert set(Journal(tmp_path / "j", {"bark": "x"}, process=1).records()) == {"one", "three"}
    with pytest.raises(ValueError, match="bark 'x' .now 'y'."):
        Journal(tmp_path / "j", {"bark": "y"})


def test_script_evaluates_every_part_and_goes_on_where_it_was(options, scorers, tmp_path, capsys):
    pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    first = evaluate_voice.main([*options, "--limit", "2"], scorers)
    journal = tmp_path / "output" / "trials-0.jsonl"
    before = journal.read_text().splitlines()
    assert len(before) == first["planned"] == 2 * (1 + 1 + 1 + 4)
    summary = evaluate_voice.main([*options, "--limit", "3"], scorers)
    assert journal.read_text().splitlines()[: len(before)] == before and summary["trials"] == 3 * 7
    rows = {(row["part"], row["condition"]): row for row in summary["rows"]}
    assert set(rows) == {(part, part) for part in ("original", "codec", "presets")} | {
        ("clone", mode) for mode in ("full", "acoustic", "semantic", "none")
    }
    assert rows["original", "original"]["figures"]["identified/pitch"].value == 1
    assert rows["codec", "codec"]["figures"]["stoi"].value < 1
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    assert all((tmp_path / "output" / r["audio"]).is_file() for r in records if r["part"] != "original" and r["audio"])
    assert json.loads((tmp_path / "output" / "summary.json").read_text())["rows"]
    assert "wer_above_original" in capsys.readouterr().out


def test_trials_of_other_weights_are_not_mixed(options, scorers, tmp_path):
    options = [*options, "--parts", "original", "--limit", "1"]
    evaluate_voice.main(options, scorers)
    os.utime(next((tmp_path / "bark").glob("*.safetensors")), (1e9, 1e9))
    with pytest.raises(ValueError, match="bark_weights .* .now '2001-09-09 01:46:40'."):
        evaluate_voice.main(options, scorers)


def test_random_semantic_tokens_are_the_donors_in_the_length_of_ones_own(options, tmp_path, voices):
    cast, _ = cast_voices(load_voice_clips(voices))
    args = evaluate_voice.parse(options, evaluate_voice.argument_parser(""))
    maker = evaluate_voice.Maker.load(args, cast, ["clone"], torch.device("cpu"))
    trials = plan_trials(cast, parts=["clone"], conditions=["full", "random", "shuffled", "none"], limit=1)
    (full, mode), (random, _), (shuffled, _), (nothing, no_mode) = map(maker.condition, trials)
    donor = maker.cloned(trials[0].distractors[0])
    assert mode == "full" and (nothing, no_mode) == (None, "none")
    assert np.array_equal(random.audio_codes, full.audio_codes)
    assert np.array_equal(random.semantic_tokens, np.resize(donor.semantic_tokens, full.num_tokens))
    assert sorted(shuffled.semantic_tokens) == sorted(full.semantic_tokens) and shuffled != full


def test_ablation_compares_conditions_on_the_same_trials(options, scorers, tmp_path, capsys):
    summary = ablate_prompts.main([*options, "--conditions", "full", "none", "--limit", "2", "--seeds", "2"], scorers)
    assert [row["condition"] for row in summary["rows"]] == ["original", "full", "none"]
    comparison = next(row for row in summary["comparisons"] if row["figure"] == "identified/pitch")
    assert (comparison["first"], comparison["second"], comparison["count"]) == ("full", "none", 4)
    assert json.loads((tmp_path / "output" / "summary.json").read_text())["comparisons"] == summary["comparisons"]
    assert "full - none" in capsys.readouterr().out


def test_codec_alone_needs_no_bark(options, voices, tmp_path):
    tiny_bark().codec_model.save_pretrained(tmp_path / "codec")
    arguments = [str(voices), "--bark", str(tmp_path / "codec"), "--output", str(tmp_path / "trip"), "--limit", "1"]
    pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    summary = evaluate_voice.main([*arguments, "--parts", "original", "codec"], Scorers())
    assert {row["part"] for row in summary["rows"]} == {"original", "codec"}
