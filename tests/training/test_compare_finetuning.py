"""The study of fine-tuning, end to end on a tiny Bark, artificial voices and scorers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import benchmark_finetuning
import compare_finetuning
from buzzing_voices import VOICES
from hf_bark_semantic.bark.configs import bark_generation_configs, bark_stage
from hf_bark_semantic.bark.loading import load_bark
from hf_bark_semantic.corpus.utterances import load_utterances
from hf_bark_semantic.evaluation.voice_casting import cast_voices
from hf_bark_semantic.evaluation.voice_clips import load_voice_clips
from hf_bark_semantic.trainers.bark import FineTuning
from hf_bark_semantic.trainers.bark_batches import split_held_out
from tiny import save_tiny_encoder, tiny_bark


@pytest.fixture
def options(voices, tmp_path, bark_folder) -> list[str]:
    for name, layer in (("encoder", 2), ("secret", 1)):
        save_tiny_encoder(tmp_path / name, backbone_layers=[layer])
    places = ["--encoder", str(tmp_path / "encoder"), "--secret-tokenizer", str(tmp_path / "secret")]
    places += ["--bark", bark_folder, "--output", str(tmp_path / "study"), "--voice", "low"]
    sizes = ["--limit", "1", "--other-voices", "1", "--steps", "2", "--lora-rate", "0.05", "--full-rate", "0.01"]
    settings = ["--set", "lora.rank=2", "batches.num_positions=1200", "validation.share=0.25", "validation.every=1"]
    return [str(voices), *places, *sizes, *settings]


def journal(tmp_path) -> list[str]:
    return (tmp_path / "study" / "trials-0.jsonl").read_text().splitlines()


def test_every_arm_speaks_the_same_texts_and_is_compared_with_the_prompted_bark(options, scorers, tmp_path, capsys):
    conditions = ["untouched", "zero-shot", "lora", "lora+prompt", "full"]
    options = [*options, "--conditions", *conditions, "--tokens", "recovered", "secret"]
    summary = compare_finetuning.main(options, scorers)
    rows = {row["condition"]: row for row in summary["rows"]}
    others = [f"{name}, other voices" for name in ("zero-shot", "lora", "full")]
    secret = [f"{name}, secret tokens" for name in (*conditions[1:], *others)]
    assert set(rows) == {"original", *conditions, *others, *secret}
    assert {row["trials"] for name, row in rows.items() if name != "original"} == {1}
    records = [json.loads(line) for line in journal(tmp_path)]
    assert len(records) == len(rows) + 1  # two recordings: of the voice and of another
    for said in ({r["clip"] for r in records if r["voice"] == voice and r["part"] == "clone"} for voice in VOICES):
        assert len(said) <= 1
    pairs = {(row["first"], row["second"]) for row in summary["comparisons"]}
    assert ("lora+prompt", "zero-shot") in pairs and ("full", "full, secret tokens") in pairs
    assert ("lora, other voices, secret tokens", "zero-shot, other voices, secret tokens") in pairs
    assert not any("untouched" in second for _, second in pairs)
    losses = {(row["tokens"], row["method"], row["stage"], row["of"]): row for row in summary["losses"]}
    assert len(losses) == 2 * 2 * 3 * 2
    for (_, method, stage, _), row in losses.items():
        if method == "lora" and stage != "fine":  # whose best step is the first one here
            assert row["after"]["value"] < row["before"]["value"] and row["change"]["value"] < 0
    before = {row["before"]["value"] for key, row in losses.items() if key[2:] == ("semantic", "the voice")}
    assert len(before) == 2  # one for each kind of tokens, and the same for LoRA and full
    out = capsys.readouterr().out
    assert "low has no more; 5 were asked for" in out and "| figure | condition | minus |" in out
    written = json.loads((tmp_path / "study" / "summary.json").read_text())
    assert len(written["commands"]) == 4 and written["training_minutes"]["low"] == pytest.approx(0.17, abs=0.06)


def test_trained_validated_and_tested_recordings_are_different_ones(options, voices, scorers, tmp_path):
    compare_finetuning.main([*options, "--conditions", "lora"], scorers)
    roles = json.loads((tmp_path / "study" / "voices.json").read_text())["low"]
    tested = {f"low-{Path(file).stem}" for role in ("enrolment", "tests") for file in roles[role]}
    bark, processor = load_bark(options[options.index("--bark") + 1])
    place, configs = tmp_path / "study" / "low" / "recovered", bark_generation_configs(bark)
    utterances = load_utterances(place / "training", processor.tokenizer, configs)
    trained, validated = split_held_out(utterances, 0.25)
    trained, validated = {u.id for u in trained}, {u.id for u in validated}
    assert trained and validated and not trained & validated and not (trained | validated) & tested
    texts = {clip.id: clip.text for clip in load_voice_clips(voices)}
    tests = {f"low-{Path(file).stem}" for file in roles["tests"]}
    assert not {texts[id] for id in trained | validated} & {texts[id] for id in tests}
    assert not {texts[id] for id in trained} & {texts[id] for id in validated}
    assert {u.voice for u in load_utterances(place / "judged", processor.tokenizer, configs)} == {"low", "middle"}


def test_a_killed_study_goes_on_and_a_finished_one_does_nothing(options, scorers, tmp_path, monkeypatch):
    options, original = [*options, "--conditions", "zero-shot", "lora", "full"], compare_finetuning.run_trials

    def killed(trials, *arguments, **made_with):
        if trials[0].condition.startswith("full"):
            raise KeyboardInterrupt
        original(trials, *arguments, **made_with)

    monkeypatch.setattr(compare_finetuning, "run_trials", killed)
    with pytest.raises(SystemExit, match="130"):
        compare_finetuning.main(options, scorers)
    before = journal(tmp_path)
    monkeypatch.setattr(compare_finetuning, "run_trials", original)
    monkeypatch.setattr(FineTuning, "tune", None)  # both trainings are done
    summary = compare_finetuning.main(options, scorers)
    assert journal(tmp_path)[: len(before)] == before and summary["trials"] == summary["planned"]
    monkeypatch.setattr(compare_finetuning, "run_trials", None)
    monkeypatch.setattr(compare_finetuning, "load_tuned", None)
    assert compare_finetuning.main(options, scorers)["rows"] == summary["rows"]
    with pytest.raises(SystemExit, match=r"steps 2 .now 3"):
        compare_finetuning.main([*options, "--steps", "3"], scorers)


def test_subsets_are_those_models_of_one_training(options, scorers, tmp_path):
    summary = compare_finetuning.main([*options, "--conditions", "lora+prompt", "--subsets"], scorers)
    names = [row["condition"] for row in summary["rows"] if row["part"] == "clone"]
    own = [name for name in names if "other" not in name]
    assert (
        len(own) == 7 and "lora+prompt" in own and "lora(coarse,fine)+prompt" in own and len(summary["commands"]) == 1
    )
    folder = tmp_path / "study" / "low" / "recovered" / "lora-0"
    bark = load_bark(options[options.index("--bark") + 1])[0]
    tuned = compare_finetuning.load_tuned(options[options.index("--bark") + 1], folder)
    mixed = compare_finetuning.with_stages(bark, tuned, ["coarse"])
    for stage in ("semantic", "coarse"):
        theirs, plain, new = (bark_stage(b, stage).state_dict() for b in (mixed, bark, tuned))
        same = all(torch.equal(value, plain[name]) for name, value in theirs.items())
        assert same == (stage != "coarse")
        assert all(torch.equal(value, new[name]) for name, value in theirs.items()) == (stage == "coarse")


def test_seeds_train_anew_and_speak_with_their_own(options, scorers, tmp_path):
    compare_finetuning.main([*options, "--conditions", "lora", "--seeds", "2"], scorers)
    runs = [tmp_path / "study" / "low" / "recovered" / f"lora-{number}" for number in range(2)]
    settings = [json.loads((run / "settings.json").read_text()) for run in runs]
    assert [run["training"]["seed"] for run in settings] == [0, 1]
    records = [json.loads(line) for line in journal(tmp_path)]
    assert sorted(r["id"][-2:] for r in records if r["condition"] == "lora") == ["/0", "/1"]


def test_what_cannot_be_studied_says_why(options, voices, scorers):
    cast, _ = cast_voices(load_voice_clips(voices))
    voice = cast[0]
    everything = replace(voice, tests=(*voice.tests, *voice.prompt))
    with pytest.raises(SystemExit, match="at least two texts are needed"):
        compare_finetuning.training_clips(everything, voice.prompt, 5.0)
    with pytest.raises(SystemExit, match="usable held-out voices are high, low, middle"):
        compare_finetuning.main([*options, "--voice", "nobody"], scorers)
    with pytest.raises(SystemExit):
        compare_finetuning.parse([options[0], "--output", "x", "--tokens", "secret"])


def test_names_of_voices_stay_inside_of_the_folder():
    assert [compare_finetuning.file_name(name) for name in ("../../a", "..", "am_adam@1.12")] == [
        "______a", "__", "am_adam@1_12",
    ]  # fmt: skip


def test_a_benchmark_case_trains_what_its_method_says(monkeypatch):
    monkeypatch.setattr(benchmark_finetuning, "bark_with_one_stage", lambda stage, shape: tiny_bark())
    parser = benchmark_finetuning.argparse.ArgumentParser()
    benchmark_finetuning.add_arguments(parser)
    args = parser.parse_args(
        ["--steps", "1", "--num-positions", "1100", "--seconds", "1", "--device", "cpu", "--rank", "2"]
    )
    full, lora, checkpointed = (
        benchmark_finetuning.run_case(benchmark_finetuning.Case("semantic", *values), args)
        for values in (("full", "off", "float32"), ("lora", "off", "bfloat16"), ("full", "on", "float32"))
    )
    assert full["trained"] == full["parameters"] > lora["trained"] == lora["parameters"] - full["parameters"]
    assert checkpointed["loss"] == full["loss"] and len(full["times"]) == 1


def test_benchmark_ratios_are_to_the_first_case_and_a_failure_is_reported(monkeypatch):
    def row(case, args):
        if case.checkpointing == "on":
            return {"error": "exit code -9: no message"}
        return {"times": [2.0, 4.0] if case.method == "full" else [1.0, 1.0], "peak_memory_gb": 2.0, "loss": 1.0}

    monkeypatch.setattr(benchmark_finetuning, "_in_own_process", row)
    parser = benchmark_finetuning.argparse.ArgumentParser()
    benchmark_finetuning.add_arguments(parser)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args(["--stages", "fine", "--dtypes", "float32", "--rounds", "2"])
    rows = benchmark_finetuning.benchmark_finetuning(args)["rows"]
    assert [row.get("speedup") for row in rows] == [1.0, None, 3.0, None]
    assert rows[2]["memory_ratio"] == 1.0 and len(rows[0]["times"]) == 4 and "exit code -9" in rows[1]["error"]
