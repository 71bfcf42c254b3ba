"""Trials of voices: their roles, their journal, their figures, and the scripts end to end on tiny models."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ablate_prompts
from buzzing_voices import RATE, VOICES, Counting, loudest_frequency, save_voices, tone
from hf_bark_semantic import VoicePrompt, save_audio
from hf_bark_semantic.cli import evaluate_voice
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.evaluation.journal import Journal
from hf_bark_semantic.evaluation.significance import holm
from hf_bark_semantic.evaluation.voice_casting import cast_voices, some_of_each_source
from hf_bark_semantic.evaluation.voice_clips import VoiceClip, load_texts, load_voice_clips
from hf_bark_semantic.evaluation.voice_figures import badness, compare, figure, format_table, summarize
from hf_bark_semantic.evaluation.voice_scores import Enrolment, Scorers, score_trial
from hf_bark_semantic.evaluation.voice_trials import Trial, plan_trials, trial_record
from html_page import Page
from tiny import random_codes, save_tiny_encoder, tiny_bark, tiny_bark_processor

ROOT = Path(__file__).parents[2]


@pytest.fixture
def voices(tmp_path) -> Path:
    return save_voices(tmp_path / "speech", ["The dog runs.", "one two three."] * 4, seconds=2.1, held_out=4)


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
    save_tiny_encoder(encoder)
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
    with pytest.raises(ValueError, match="needs `audio` and `speaker`"):
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
    journal.add(trial_record(Trial("one", "clone", "full", "low", clip), {"failed": False}))
    with open(journal.file, "a") as file:
        file.write('{"id": "two", "part"')
    journal.add(trial_record(Trial("three", "clone", "full", "low", clip), {"failed": np.bool_(True)}))
    assert set(Journal(tmp_path / "j", {"bark": "x"}, process=1).records()) == {"one", "three"}
    with pytest.raises(ValueError, match="bark 'x' .now 'y'."):
        Journal(tmp_path / "j", {"bark": "y"})


def test_script_evaluates_every_part_and_goes_on_where_it_was(options, scorers, tmp_path, capsys):
    pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    parquet = pytest.importorskip("pyarrow.parquet")
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
    written = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert written["rows"] and "--limit 3" in written["made"]["command"] and written["made"]["packages"]["torch"]
    assert "wer_above_original" in capsys.readouterr().out
    table = parquet.read_table(tmp_path / "output" / "trials.parquet").to_pylist()
    assert {row["id"] for row in table} == {row["id"] for row in records} and table[0]["similarity/pitch"] is not None
    page = Page((tmp_path / "output" / "report.html").read_text())
    assert page.of("audio") and page.of("img") and page.of("svg") and "clone, acoustic" in page.text
    card = (tmp_path / "output" / "model_card_rows.md").read_text().splitlines()
    assert len(card) == 2 + len(rows) and len({line.count("|") for line in card}) == 1


def test_trials_of_other_weights_are_not_mixed(options, scorers, tmp_path):
    options = [*options, "--parts", "original", "--limit", "1"]
    evaluate_voice.main(options, scorers)
    os.utime(next((tmp_path / "bark").glob("*.safetensors")), (1e9, 1e9))
    with pytest.raises(SystemExit, match="bark_weights .* .now '2001-09-09 01:46:40'."):
        evaluate_voice.main(options, scorers)


def test_random_semantic_tokens_are_the_donors_in_the_length_of_ones_own(options, tmp_path, voices):
    cast, _ = cast_voices(load_voice_clips(voices))
    args = evaluate_voice.parse(options, evaluate_voice.argument_parser(""))
    maker = evaluate_voice.load_maker(args, cast, ["clone"], torch.device("cpu"))
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


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
import torch
from buzzing_voices import save_voices, Counting, scripted
from hf_bark_semantic.cli import evaluate_voice

torch.set_num_threads({threads})

def transcribe(waveform, calls=[]):
    calls.append(1)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return scripted(waveform)

evaluate_voice.main(sys.argv[1:], Counting(transcribe).scorers)
"""


def timeless(summary: dict) -> list[dict]:
    """The figures without the time that they took."""
    rows = evaluate_voice_rows(summary)
    return [{**row, "figures": {n: f for n, f in row["figures"].items() if n != "real_time_factor"}} for row in rows]


def evaluate_voice_rows(summary: dict) -> list[dict]:
    return sorted(summary["rows"], key=lambda row: (row["part"], row["condition"]))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_run_goes_on_to_the_same_summary(options, tmp_path):
    options = [*options, "--parts", "original", "clone", "--conditions", "full", "none", "--limit", "4"]
    options += ["--batch-size", "1"]  # which, with as many threads, makes rounding the same wherever the kill came
    paths = [str(ROOT / "tests"), str(ROOT)]
    program = [sys.executable, "-c", KILLED.format(paths=paths, threads=torch.get_num_threads()), *options]
    killed = subprocess.run(program, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    lines = (tmp_path / "output" / "trials-0.jsonl").read_text().splitlines()
    assert len(lines) == 5 and not (tmp_path / "output" / "summary.json").exists()
    counting = Counting()
    resumed = evaluate_voice.main(options, counting.scorers)
    assert resumed["trials"] == resumed["planned"] == 12 and counting.calls["transcribe"] == 12 - 5
    whole = evaluate_voice.main([*options, "--output", str(tmp_path / "whole")], Counting().scorers)
    assert timeless(resumed) == timeless(whole)
    nothing_left = Counting()
    assert timeless(evaluate_voice.main(options, nothing_left.scorers)) == timeless(whole)
    assert set(nothing_left.calls.values()) == {0}


def test_every_scorer_is_called_once_per_trial(options, voices, tmp_path):
    for limit in (1, 3):
        counting = Counting()
        arguments = [*options, "--parts", "original", "clone", "--conditions", "full", "none", "--limit", str(limit)]
        summary = evaluate_voice.main([*arguments, "--output", str(tmp_path / str(limit))], counting.scorers)
        heard = sum(not record["failed"] for record in summary["records"])
        assert summary["trials"] == 3 * limit
        enrolled = len(VOICES)  # each voice is embedded once, however many trials it is in
        assert counting.calls == {"transcribe": heard, "mos": heard, "embed": heard + enrolled}


def people(folder: Path) -> Path:
    """A table of three voices with one long recording each, whose words nobody knows."""
    lines = ["audio,speaker"]
    for name, hz in {"anna": 150.0, "ben": 230.0, "cid": 350.0}.items():
        save_audio(folder / f"{name}.wav", tone(hz, 13.0), RATE)
        lines.append(f"{name}.wav,{name}")
    (folder / "people.csv").write_text("\n".join(lines))
    return folder / "people.csv"


def test_voices_without_texts_prompt_enrol_and_say_the_texts_of_others(voices, tmp_path):
    clips = load_voice_clips(voices, people(tmp_path))
    assert cast_voices(clips)[1] == ["anna", "ben", "cid"]  # nothing to say
    cast, left_out = cast_voices(clips, tests=2, texts=["one two.", "the dog runs.", "the cat."])
    assert not left_out and [voice.name for voice in cast] == ["anna", "ben", "cid", "high", "low", "middle"]
    anna = cast[0]
    (prompt,), (enrolment,) = anna.prompt, anna.enrolment
    assert anna.one_recording and not cast[-1].one_recording
    assert abs(prompt.start_s - enrolment.start_s) == pytest.approx(6.5) == prompt.seconds == enrolment.seconds
    assert {clip.kind for clip in anna.tests} == {"digits", "sentences"}
    assert all(clip.audio is None for clip in anna.tests)
    trials = plan_trials(cast, parts=["original", "codec", "clone"], conditions=["full"])
    assert {trial.part for trial in trials if trial.voice == "anna"} == {"clone"}
    first = next(trial for trial in trials if trial.voice == "anna")
    assert set(first.distractors[:2]) == {"ben", "cid"}  # the same kind of recordings first
    heard = []
    Enrolment(cast, {"p": lambda waveform: heard.append(len(waveform)) or np.ones(2)})("p", "anna")
    assert heard == [round(6.5 * 16_000)]  # its part of the recording and no more


def test_prompt_and_enrolment_come_from_two_recordings_where_there_are_two():
    clips = [VoiceClip(f"{i}", Path(f"{i}.wav"), "", "v", 20.0) for i in range(2)]
    for seed in range(8):
        [voice], _ = cast_voices(clips, texts=["one"], seed=seed)
        assert not voice.one_recording


def test_twenty_unseen_voices_of_two_sources_in_five_conditions():
    clips = [
        VoiceClip(f"a{v}-{i}", Path(f"a{v}-{i}.wav"), "one two", f"a{v}", 3.0) for v in range(12) for i in range(8)
    ]
    clips = [replace(clip, source="a", held_out_text=int(clip.id[-1]) < 4) for clip in clips]
    clips += [VoiceClip(f"b{v}", Path(f"b{v}.wav"), "", f"b{v}", 14.0, source="b") for v in range(40)]
    cast, _ = cast_voices(clips, tests=3, texts=["one two", "the dog runs"])
    chosen = some_of_each_source(cast, 10, 0)
    assert [sum(voice.source == name for voice in chosen) for name in "ab"] == [10, 10]
    assert chosen == some_of_each_source(cast, 10, 0)
    trials = plan_trials(chosen, parts=["clone"], conditions=ablate_prompts.CONDITIONS, seeds=2)
    assert set(ablate_prompts.CONDITIONS) == {"full", "acoustic", "semantic", "random", "none"}
    assert len(trials) == sum(len(voice.tests) for voice in chosen) * 2 * 5
    assert len({(trial.clip.id, trial.seed) for trial in trials}) == len(trials) / 5


def test_two_sources_must_not_share_a_voice_or_an_id(voices, tmp_path):
    save_audio(tmp_path / "x.wav", tone(100.0, 1.0), RATE)
    table = tmp_path / "t.csv"
    table.write_text("id,audio,speaker,text\nx,x.wav,low,one")
    with pytest.raises(ValueError, match="voice 'low' is in .*speech and in .*t.csv"):
        load_voice_clips(voices, table)
    table.write_text("id,audio,speaker,text\nlow-0,x.wav,other,one")
    with pytest.raises(ValueError, match="id 'low-0' occurs twice"):
        load_voice_clips(voices, table)
    (tmp_path / "t.jsonl").write_text('{"audio": "x.wav", "speaker": "s", "text": "\\ud800"}')
    with pytest.raises(ValueError, match="half of a character"):
        load_voice_clips(tmp_path / "t.jsonl")


def test_texts_are_lines_that_can_be_said_at_once(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("The dog runs.\n\n...\n" + "word " * 200 + "\n one two \n")
    assert load_texts(file) == ["The dog runs.", "one two"]
    file.write_text("...\n")
    with pytest.raises(ValueError, match="holds no sentence"):
        load_texts(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not in UTF-8"):
        load_texts(file)


def test_ablation_of_two_sources_reports_each(options, scorers, voices, tmp_path):
    (tmp_path / "texts.txt").write_text("one two three\nthe cat sleeps\n")
    arguments = [options[0], str(people(tmp_path)), *options[1:], "--texts", str(tmp_path / "texts.txt")]
    summary = ablate_prompts.main([*arguments, "--voices-per-source", "2", "--texts-per-voice", "1"], scorers)
    assert {row["condition"] for row in summary["rows"]} == {"original", *ablate_prompts.CONDITIONS}
    assert {row["voices"] for row in summary["rows"] if row["part"] == "clone"} == {4}
    roles = json.loads((tmp_path / "output" / "voices.json").read_text())
    people_cast = [name for name in roles if name in ("anna", "ben", "cid")]
    assert len(people_cast) == 2 and "#t=" in roles[people_cast[0]]["prompt"][0]
    assert roles[people_cast[0]]["tests"][0].startswith("text: ")
    written = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert written["voices_with_one_recording"] == people_cast
    text = Page((tmp_path / "output" / "report.html").read_text()).text
    assert "2 voices have a single recording" in text and "p (Holm)" in text and "Voices of" in text


def test_hostile_texts_and_names_do_no_harm(options, voices, scorers, tmp_path):
    hostile = "<script>alert(1)</script> one"
    table = voices / "low.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    changed = [{**row, "text": hostile, "voice": "<b>", "id": f"../../{i}" + "x" * 300} for i, row in enumerate(rows)]
    table.write_text("".join(json.dumps(row) + "\n" for row in changed))
    before = {path for path in tmp_path.rglob("*") if "output" not in path.parts}
    evaluate_voice.main([*options, "--parts", "original", "clone", "--conditions", "none", "--limit", "3"], scorers)
    assert {path for path in tmp_path.rglob("*") if "output" not in path.parts} == before
    page = Page((tmp_path / "output" / "report.html").read_text())
    assert not page.of("script") and hostile in page.text
    assert "<b>" not in (tmp_path / "output" / "model_card_rows.md").read_text()


def test_worst_trials_come_first():
    trials = [record("a", "full", errors, rank) for errors, rank in ((0, 1), (1, 1), (0, 2), (4, 2))]
    values = [badness(trial) for trial in (*trials, {**trials[0], "failed": True})]
    assert values == sorted(values) and len(set(values)) == len(values)


def test_holm_adjusts_for_the_number_of_pairs():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []
