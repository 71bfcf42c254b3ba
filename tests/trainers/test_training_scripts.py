"""The training scripts on a tiny corpus: training, exact resumption, and scores on held-out clips."""

import argparse
import json

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel

import benchmark_encoders
import benchmark_synthesis
import compare_heads
from hf_bark_semantic import BarkSemanticEncoderModel, load_bark
from hf_bark_semantic.cli import evaluate_encoder, train_encoder
from hf_bark_semantic.trainers.loop import TrainingArguments, learning_rate_factor, parameter_groups
from tiny import backbone_config


@pytest.fixture
def config(tmp_path, corpus):
    torch.manual_seed(0)
    AutoModel.from_config(backbone_config("whisper")).save_pretrained(tmp_path / "backbone")
    values = {
        "corpus": corpus,
        "model": {
            "backbone": str(tmp_path / "backbone"),
            "backbone_layers": [1, 2],
            "normalize_features": True,
            "head_type": "transformer",
            "hidden_size": 32,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "conv_kernel_size": 3,
            "dropout": 0.1,
            "vocab_size": 50,
            "codec_hidden_size": 16,
            "codec_output": "spectrogram",
        },
        "batches": {
            "crops": {"pair": 2, "prompt": 2},
            "num_tokens": 40,
            "spectrogram_augmentation": {"time_width": 4},
            "waveform_augmentation": {"noise_probability": 0.0},
        },
        "training": {
            "output_dir": str(tmp_path / "run"),
            "steps": 6,
            "learning_rates": {"backbone": 0},
            "checkpoint_every": 2,
            "log_every": 2,
            "average": 0.9,
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_training_learns_writes_its_log_and_scores_the_fold_it_held_out(config, tmp_path, capsys):
    train_encoder.main([str(config), "--fold", "0"])
    run = tmp_path / "run"
    assert json.loads((run / "training.json").read_text())["fold"] == 0
    assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == [2, 4, 6]
    assert not (run / "checkpoint").exists()
    model = BarkSemanticEncoderModel.from_pretrained(run)
    backbone = AutoModel.from_pretrained(tmp_path / "backbone").encoder.state_dict()
    for name, value in model.backbone.model.state_dict().items():
        assert torch.equal(value, backbone[name]), f"{name} was to stay frozen"
    evaluate_encoder.main(
        [str(run), "--corpus", yaml.safe_load(config.read_text())["corpus"], "--json", str(run / "e.json")]
    )
    table = json.loads((run / "e.json").read_text())["table"]
    assert table["english, audio"]["clips"] == 2 and table["english, codes"]["clips"] == 4
    assert table["english, audio"]["top_1"]["mean"] <= table["english, audio"]["top_5"]["mean"]
    assert "top-1" in capsys.readouterr().out


def test_a_killed_run_resumes_to_exactly_the_same_weights(config, tmp_path, interrupted):
    train_encoder.main([str(config), "--output", str(tmp_path / "whole")])
    with interrupted(step=5):
        train_encoder.main([str(config), "--output", str(tmp_path / "killed")])
    assert (tmp_path / "killed" / "checkpoint").exists()
    train_encoder.main([str(config), "--output", str(tmp_path / "killed")])
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"traning": {}}, "The config has no `traning`; did you mean `training`"),
        ({"training": {"lerning_rate": 1}}, "`training` has no `lerning_rate`; did you mean `learning_rate`"),
        ({"training": {"learning_rates": {"bakbone": 0}}}, "bakbone"),
        ({"training": {"learning_rate": "fast"}}, "`training.learning_rate` is 'fast'; it must be a number"),
        ({"training": {"learning_rates": {"head": "yes"}}}, "`training.learning_rates.head` is 'yes'"),
        ({"training": {"steps": 1.5}}, "`training.steps` is 1.5; it must be a whole number"),
        ({"batches": {"crop": {}}}, "`batches` has no `crop`; did you mean `crops`"),
        ({"batches": {"spectrogram_augmentation": {"time_mask": 1}}}, "has no `time_mask`; did you mean `time_masks`"),
        ({"batches": {"waveform_augmentation": {"gain": 1}}}, "has no `gain`; did you mean `gain_db`"),
        ({"model": {"head_from": "magic"}}, "magic"),
        ({"model": {"hiden_size": 8}}, "`model` has no `hiden_size`; did you mean `hidden_size`"),
        ({"model": {"codec_regression_weight": 1.0}}, "`model` has no `codec_regression_weight`"),
        ({"feature_copies": {"pairs": 1}}, "`feature_copies` has no `pairs`; did you mean `pair`"),
        ({"codec_training": {"crops": {"pair": 2}, "warm_up": 0}}, "has no `warm_up`; did you mean `warmup`"),
        ({"codec_training": {"crops": {"pair": 2}, "mixed_precision": "bf16"}}, "has no `mixed_precision`"),
        ({"codec_training": {"steps": 2}}, "`codec_training` lacks `crops`"),
        ({"codec_training": {"crops": {"pair": 2}}, "model": {"codec_output": "features"}}, "codec_output: spectro"),
        ({"validation": {"fold": 1, "patients": 2}}, "`patients`; did you mean `patience`"),
        ({"streaming": {"blocks": 2}}, "`blocks`; did you mean `block_size`"),
    ],
)
def test_a_typo_in_a_config_fails(config, change, message):
    values = yaml.safe_load(config.read_text())
    for section, wrong in change.items():
        values[section] = {**values.get(section, {}), **wrong}
    config.write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit, match=message):
        train_encoder.main([str(config)])


def test_a_typo_fails_before_the_corpus_is_read(config):
    with pytest.raises(SystemExit, match="did you mean `dropout`"):
        train_encoder.main([str(config), "--corpus", "no/such/corpus", "--set", "model.droput=0"])


def test_numbers_that_yaml_reads_as_text_are_numbers(config, tmp_path):
    values = yaml.safe_load(config.read_text())
    values["training"].update(learning_rate="1e-4", log_every=1)
    config.write_text(yaml.safe_dump(values))
    train_encoder.main([str(config), "--set", "training.steps=1", "model.dropout=1e-1"])
    train_encoder.main(
        [str(config), "--output", str(tmp_path / "set"), "--set", "training.steps=1", "training.learning_rate=5e-5"]
    )
    rates = [json.loads((tmp_path / name / "log.jsonl").read_text())["learning_rate"] for name in ("run", "set")]
    assert rates == [1e-4, 5e-5]


def test_an_encoder_that_saw_every_clip_is_not_scored_on_them(config, tmp_path):
    train_encoder.main([str(config), "--steps", "1"])
    with pytest.raises(SystemExit, match="every clip"):
        evaluate_encoder.main([str(tmp_path / "run"), "--corpus", yaml.safe_load(config.read_text())["corpus"]])


def test_compared_heads_are_kept_as_entries_of_the_benchmark(config, tmp_path, monkeypatch):
    values = yaml.safe_load(config.read_text())
    values["training"].pop("learning_rates")
    values["batches"].pop("spectrogram_augmentation")
    config.write_text(yaml.safe_dump(values))
    heads, table = tmp_path / "heads", tmp_path / "figures.json"
    run = [str(config), "--json", str(table), "--layer", "1", "--steps", "1", "--copies", "1", "--folds", "0", "1"]
    names = ["--heads", "k-means: token means", "linear"]
    compare_heads.main([*run, *names])
    scored = json.loads(table.read_text())
    assert not heads.exists() and len(scored) == 4
    compare_heads.main([*run, *names, "--save", str(heads)])  # trains again what is not kept, and just the same
    assert json.loads(table.read_text()) == scored
    with monkeypatch.context() as patch:
        patch.setattr(
            compare_heads, "trained_heads", lambda names, *_: iter([]) if not names else pytest.fail(str(names))
        )
        compare_heads.main([*run, *names, "--save", str(heads)])
    entries = [f"means={heads}/k_means_token_means/fold*", f"linear={heads}/linear/fold*"]
    summary = benchmark_encoders.main(
        [*entries, "--corpus", values["corpus"], "--output", str(tmp_path / "benchmark")]
    )
    for entry, name in zip(summary["entries"], ("k-means: token means", "linear"), strict=True):
        hits = sum(score["top_1"] for fold in (0, 1) for score in scored[f"{name}, fold {fold}"])
        tokens = sum(score["num_tokens"] for fold in (0, 1) for score in scored[f"{name}, fold {fold}"])
        assert entry["table"]["english, audio"]["top_1"]["mean"] == pytest.approx(hits / tokens)
        assert entry["training"] == "other folds"


def test_learning_rates_rise_fall_and_go_by_the_longest_prefix():
    arguments = TrainingArguments("x", steps=100, warmup=0.1, learning_rates={"0": 0.5, "0.w": 0.0})
    assert [round(learning_rate_factor(step, arguments), 2) for step in (0, 9, 10, 55, 99)] == [
        0.1,
        1.0,
        1.0,
        0.5,
        0.0,
    ]
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    groups = parameter_groups(model, arguments)
    assert {group["lr"]: len(group["params"]) for group in groups} == {0.5: 1, 1e-3: 2}
    assert not model[0].weight.requires_grad


def test_values_can_be_set_on_the_command_line(config, tmp_path):
    train_encoder.main([str(config), "--set", "training.steps=1", "batches.crops={pair: 1}", "--fold", "1"])
    assert json.loads((tmp_path / "run" / "training.json").read_text())["clips"] == {"pair": 2}
    for wrong, meant in (("training.steps", "its sections are"), ("trainings.steps=1", "did you mean `training`")):
        with pytest.raises(SystemExit, match=f"KEY=VALUE.*; {meant}"):
            train_encoder.main([str(config), "--set", wrong])


def test_mixed_lengths_are_timed_against_as_much_speech_in_equal_ones(monkeypatch):
    spoken, windows = [], []

    def speak_seconds(bark, durations, batch_size):
        spoken.append(durations)
        windows.append(bark.generation_config.coarse_acoustics_config["sliding_window_len"])
        return 3.0 if len(set(durations)) == 1 else 4.0

    monkeypatch.setattr(benchmark_synthesis, "speak_seconds", speak_seconds)
    args = argparse.Namespace(
        case="mixed", shape="nano", dtype="float32", utterances=16, rounds=1, batch_size=4, coarse_window=None
    )
    report = benchmark_synthesis.benchmark_synthesis(args)
    equal, mixed = spoken
    assert sum(equal) == pytest.approx(sum(mixed)) and min(mixed) == 2 and max(mixed) == 8
    assert report["throughput_of_mixed"] == 0.75
    args.coarse_window = 120
    benchmark_synthesis.benchmark_synthesis(args)
    own = load_bark("nano")[0].generation_config.coarse_acoustics_config["sliding_window_len"]
    assert own != 120 and windows == [own, own, 120, 120]
    args.case = "single"
    with pytest.raises(SystemExit, match="mixed"):
        benchmark_synthesis.benchmark_synthesis(args)
