"""Training at scale: several processes, kills, full disks, held-out clips, streams, heads of other encoders."""

import argparse
import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator, PartialState
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.tracking import GeneralTracker
from accelerate.utils import DistributedType
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, EncodecModel, HubertConfig

import benchmark_train
import learning_curve
from hf_bark_semantic import BarkSemanticEncoderModel, precision
from hf_bark_semantic.cli import train_encoder
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames, num_samples_of_codec_frames
from hf_bark_semantic.corpus import stream
from hf_bark_semantic.corpus.rows import NO_TOKEN, SoftLabels, clip_of_row, load_corpus
from hf_bark_semantic.corpus.stream import ClipStream, StreamedCorpus, open_stream
from hf_bark_semantic.evaluation.tokens import accuracy, score_clips
from hf_bark_semantic.packaged import named_encoder
from hf_bark_semantic.trainers import encoder
from hf_bark_semantic.trainers.encoder_batches import (
    BatchPlan,
    CropBatches,
    Piece,
    StreamedBatches,
    decode_pieces,
    exchange_segments,
)
from hf_bark_semantic.trainers.encoder_config import EncoderTrainingConfig, read_encoder_config
from hf_bark_semantic.trainers.initial_heads import take_over_head
from hf_bark_semantic.trainers.loop import TrainingArguments, new_accelerator, parameter_groups, process_state, train
from hf_bark_semantic.trainers.settings import arguments_of, read_config
from hf_bark_semantic.trainers.splits import (
    TRAINING,
    VALIDATION,
    choose_held_out,
    open_training_corpus,
    text_digest,
    training_clips,
)
from processes import TwoNodes, free_port, in_child, on_two_processes
from quantizers import quantizer_file
from stub_corpus import generate, new_plan, new_recipe
from tiny import BACKBONES, backbone_config, corpus_row, noise, tiny_codec_config, tiny_encoder

TRAINING_FOLDER = Path(__file__).parents[2] / "training"
RECIPES = ("hubert_base", "hubert_large", "wavlm_large", "w2v_bert", "multilingual")


@pytest.fixture
def spoken(tmp_path) -> str:
    """Twelve clips of six voices, each with a text of its own, in three folds."""
    rows = [
        corpus_row(seed, num_tokens=90 + seed, fold=seed % 3, voice=f"voice-{seed % 6}", text=f"Sentence {seed}.")
        for seed in range(12)
    ]
    Dataset.from_list(rows).save_to_disk(tmp_path / "spoken")
    return str(tmp_path / "spoken")


@pytest.fixture
def config(tmp_path, spoken) -> dict:
    torch.manual_seed(0)
    AutoModel.from_config(backbone_config("hubert")).save_pretrained(tmp_path / "hubert")
    return {
        "corpus": spoken,
        "model": {
            "backbone": str(tmp_path / "hubert"),
            "backbone_layers": [1],
            "head_type": "transformer",
            "hidden_size": 32,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "vocab_size": 50,
        },
        "batches": {"crops": {"pair": 3}, "num_tokens": 40},
        "training": {
            "output_dir": str(tmp_path / "run"),
            "steps": 6,
            "learning_rates": {"backbone": 0},
            "checkpoint_every": 2,
            "log_every": 1,
        },
    }


def run(config: dict, tmp_path: Path, *options: str, name: str = "run") -> Path:
    file = tmp_path / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config))
    train_encoder.main([str(file), "--output", str(tmp_path / name), *options])
    return tmp_path / name


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_weights(first: Path, second: Path, tolerance: float = 0.0):
    first, second = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], atol=tolerance, rtol=0, msg=name)


# --- killed, out of space, damaged


def train_slowly(file: Path, folder: Path, pause_s: float):
    """Training in a process of its own, so slow that a kill comes in between."""
    fast = CropBatches.__getitem__

    def slow(self, step):
        time.sleep(pause_s)
        return fast(self, step)

    CropBatches.__getitem__ = slow
    train_encoder.main([str(file), "--output", str(folder)])


@pytest.mark.slow  # forks, which can hang in a process that has computed on several threads
@pytest.mark.parametrize("kills", [2, 12])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(config, tmp_path, kills):
    steps, pause_s = (20, 0.1) if kills == 2 else (60, 0.2)  # longer than all that is waited for
    config["training"].update(steps=steps, average=0.9, checkpoint_every=1)
    config["validation"] = {"fold": 0, "every": 7, "patience": 100}
    whole = run(config, tmp_path, name="whole")
    folder, rng, reached = tmp_path / "killed", random.Random(0), []
    for _ in range(kills):
        process = in_child(train_slowly, tmp_path / "whole.yaml", folder, pause_s)
        while process.is_alive() and not (folder / "checkpoint").exists():  # the first steps, once
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.7))
        assert process.is_alive(), "it was to be killed before it was done"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        reached += [json.loads(file.read_text())["step"] for file in folder.glob("checkpoint*/step.json")]
    assert max(reached) < steps and not (folder / "model.safetensors").exists()
    run(config, tmp_path, name="killed")
    assert_same_weights(whole, folder)
    assert_same_weights(whole / "last", folder / "last")
    records = [json.loads((place / "training.json").read_text())["validation"] for place in (whole, folder)]
    assert records[0] == records[1] and not list(folder.glob("checkpoint*"))


@pytest.mark.slow  # forks
def test_a_full_disk_leaves_the_checkpoint_before_and_the_run_goes_on(config, tmp_path, capfd):
    whole = run(config, tmp_path, name="whole")
    file = tmp_path / "whole.yaml"

    def on_a_disk_that_fills_up():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        save, saved = Accelerator.save_state, []

        def save_state(self, folder, *arguments, **options):
            if saved:
                resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
            saved.append(folder)
            return save(self, folder, *arguments, **options)

        Accelerator.save_state = save_state
        train_encoder.main([str(file), "--output", str(tmp_path / "full")])

    process = in_child(on_a_disk_that_fills_up)
    process.join()
    assert process.exitcode == 1
    assert "could not be written" in capfd.readouterr().err
    assert json.loads((tmp_path / "full" / "checkpoint" / "step.json").read_text())["step"] == 2
    assert not (tmp_path / "full" / "checkpoint.new").exists()
    assert_same_weights(whole, run(config, tmp_path, name="full"))


def killed_in_step_5(config: dict, tmp_path: Path, interrupted, *options: str) -> Path:
    with interrupted(step=5):
        run(config, tmp_path, *options, name="killed")
    return tmp_path / "killed"


@pytest.mark.parametrize("name", ["optimizer.bin", "model.safetensors", "step.json"])
def test_a_damaged_checkpoint_is_left_out_for_the_one_before(config, tmp_path, interrupted, capsys, name):
    whole = run(config, tmp_path, name="whole")
    folder = killed_in_step_5(config, tmp_path, interrupted)
    file = folder / "checkpoint" / name
    content = file.read_bytes()
    file.write_bytes(content[:-4] + bytes(4))  # as long as before
    killed_in_step_5(config, tmp_path, interrupted)
    assert "resumed from step 2" in capsys.readouterr().out
    assert_same_weights(whole, run(config, tmp_path, name="killed"))
    assert "resumed from step 4" in capsys.readouterr().out


def test_damaged_checkpoints_are_not_mistaken_for_none(config, tmp_path, interrupted):
    folder = killed_in_step_5(config, tmp_path, interrupted)
    for file in folder.glob("checkpoint*/model.safetensors"):
        file.write_bytes(b"torn")
    with pytest.raises(SystemExit, match=r"damaged. Remove checkpoint and checkpoint.old"):
        run(config, tmp_path, name="killed")


def test_a_run_whose_codec_front_end_was_trained_first_resumes(config, tmp_path, monkeypatch):
    AutoModel.from_config(backbone_config("whisper")).save_pretrained(tmp_path / "whisper")
    config["model"].update(backbone=str(tmp_path / "whisper"), codec_hidden_size=16, codec_output="spectrogram")
    config["codec_training"] = {"crops": {"pair": 2}, "steps": 2}
    config["feature_copies"] = {"pair": 1}
    whole = run(config, tmp_path, name="whole")
    clip_step = encoder.HeadOnFeatures.forward
    calls = []

    def killed(self, *arguments, **inputs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return clip_step(self, *arguments, **inputs)

    with monkeypatch.context() as patch:
        patch.setattr(encoder.HeadOnFeatures, "forward", killed)
        with pytest.raises(SystemExit, match="130"):
            run(config, tmp_path, name="killed")
    assert (tmp_path / "killed" / "checkpoint").exists()
    assert_same_weights(whole, run(config, tmp_path, name="killed"))


# --- started again with other settings


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, ("--fold", "1"), "fold: 0 there, 1 here"),
        ({}, ("--fold", "0", "--seed", "1"), "training.seed: 0 there, 1 here"),
        ({"training": {"learning_rate": 0.1}}, ("--fold", "0"), "training.learning_rate: 0.001 there, 0.1 here"),
        ({"training": {"steps": 4}}, ("--fold", "0"), "training.steps: 6 there, 4 here"),
        ({"model": {"dropout": 0.5}}, ("--fold", "0"), "model.dropout: None there, 0.5 here"),
        ({"batches": {"num_tokens": 30}}, ("--fold", "0"), "batches.num_tokens: 40 there, 30 here"),
        ({"validation": {"fold": 1}}, ("--fold", "0"), "validation.fold: None there, 1 here"),
    ],
)
def test_a_killed_run_does_not_go_on_with_other_settings(config, tmp_path, interrupted, change, options, message):
    killed_in_step_5(config, tmp_path, interrupted, "--fold", "0")
    for section, values in change.items():
        config[section] = {**config.get(section, {}), **values}
    with pytest.raises(SystemExit, match=message):
        run(config, tmp_path, *options, name="killed")


def test_a_finished_encoder_is_not_taken_for_one_of_other_settings(config, tmp_path, capsys):
    folder = run(config, tmp_path, "--fold", "0")
    before = (folder / "model.safetensors").read_bytes()
    run(config, tmp_path, "--fold", "0")
    assert "nothing to do" in capsys.readouterr().out
    for options in (["--fold", "1"], ["--fold", "0", "--steps", "8"], ["--fold", "0", "--set", "model.dropout=0.2"]):
        with pytest.raises(SystemExit, match="was started with other settings"):
            run(config, tmp_path, *options)
    assert (folder / "model.safetensors").read_bytes() == before
    (folder / "settings.json").unlink()
    with pytest.raises(SystemExit, match="holds model.safetensors, but no settings.json"):
        run(config, tmp_path, "--fold", "0")


def test_a_codec_front_end_of_another_training_is_not_taken(config, tmp_path, interrupted):
    AutoModel.from_config(backbone_config("whisper")).save_pretrained(tmp_path / "whisper")
    config["model"].update(backbone=str(tmp_path / "whisper"), codec_hidden_size=16, codec_output="spectrogram")
    config["codec_training"] = {"crops": {"pair": 2}, "steps": 2}
    folder = killed_in_step_5(config, tmp_path, interrupted)
    for checkpoint in folder.glob("checkpoint*"):
        shutil.rmtree(checkpoint)
    assert (folder / "codec_front_end" / "codec_front_end.safetensors").exists()
    config["codec_training"]["learning_rate"] = 0.1
    with pytest.raises(SystemExit, match="codec_training.learning_rate: None there, 0.1 here"):
        run(config, tmp_path, name="killed")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_run_knows_its_corpus_by_its_rows(config, tmp_path, interrupted, spoken, streaming):
    config["streaming"] = streaming
    whole = run(config, tmp_path, name="whole")
    killed_in_step_5(config, tmp_path, interrupted)
    rows = [corpus_row(seed, num_tokens=90 + seed, fold=seed % 3, text=f"Sentence {seed}.") for seed in range(12, 24)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "other")
    shutil.move(spoken, tmp_path / "moved")
    shutil.copytree(tmp_path / "other", spoken)
    with pytest.raises(SystemExit, match="corpus_fingerprint: '.*' there, '.*' here"):
        run(config, tmp_path, name="killed")
    assert_same_weights(whole, run({**config, "corpus": str(tmp_path / "moved")}, tmp_path, name="killed"))


def test_a_run_on_a_stream_goes_on_with_as_many_readers(config, tmp_path, interrupted):
    config["streaming"] = True
    killed_in_step_5(config, tmp_path, interrupted)
    config["training"]["num_workers"] = 2
    with pytest.raises(SystemExit, match="training.num_workers: 0 there, 2 here"):
        run(config, tmp_path, name="killed")


def test_a_killed_run_may_become_longer(config, tmp_path, interrupted, capsys):
    folder = killed_in_step_5(config, tmp_path, interrupted)
    config["training"].update(steps=8, log_every=2, checkpoint_every=3)
    run(config, tmp_path, name="killed")
    assert "resumed from step 4" in capsys.readouterr().out
    assert json.loads((folder / "training.json").read_text())["steps"] == 8


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(config, tmp_path, monkeypatch, interrupted):
    monkeypatch.setattr(precision, "choose_precision", lambda device: ("bf16", "measured"))
    whole = run(config, tmp_path, name="whole")
    killed_in_step_5(config, tmp_path, interrupted)
    monkeypatch.setattr(precision, "choose_precision", lambda device: ("no", "measured again"))
    assert_same_weights(whole, run(config, tmp_path, name="killed"))
    with pytest.raises(AssertionError):
        assert_same_weights(whole, run(config, tmp_path, name="float32"))


@pytest.mark.slow  # forks
def test_a_run_goes_on_with_another_number_of_processes(config, tmp_path, interrupted, capfd):
    one = run(config, tmp_path, name="one")
    folder = killed_in_step_5(config, tmp_path, interrupted)
    on_two_processes(run, config, tmp_path, "--output", str(folder))
    assert "resumed from step 4" in capfd.readouterr().out
    assert json.loads((folder / "settings.json").read_text())["num_processes"] == 2
    assert_same_weights(one, folder, 2e-4)


def test_a_codec_front_end_is_written_whole_or_not_at_all(config, tmp_path, monkeypatch):
    AutoModel.from_config(backbone_config("whisper")).save_pretrained(tmp_path / "whisper")
    config["model"].update(backbone=str(tmp_path / "whisper"), codec_hidden_size=16, codec_output="spectrogram")
    config["codec_training"] = {"crops": {"pair": 2}, "steps": 2}
    whole, replace_file = run(config, tmp_path, name="whole"), os.replace

    def killed(unfinished, file):
        if Path(file).name == "codec_front_end.safetensors":
            raise KeyboardInterrupt
        replace_file(unfinished, file)

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(os, "replace", killed)
        run(config, tmp_path, name="killed")
    assert not list((tmp_path / "killed" / "codec_front_end").glob("*.safetensors"))
    assert_same_weights(whole, run(config, tmp_path, name="killed"))


def test_a_codec_front_end_learns_from_clips_without_tokens(config, tmp_path):
    """They change the front end, not the pairs of tokens that are counted; the head cannot learn from them."""
    AutoModel.from_config(backbone_config("whisper")).save_pretrained(tmp_path / "whisper")
    config["model"].update(backbone=str(tmp_path / "whisper"), codec_hidden_size=16, codec_output="spectrogram")
    config["model"]["transition_weight"] = 0.3
    rows = [corpus_row(seed, num_tokens=90, fold=seed % 3) for seed in range(6)]
    rows += [corpus_row(9, num_tokens=90, source="codec", fold=-1, semantic_tokens=[NO_TOKEN] * 90)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "with_codes")
    config |= {"corpus": str(tmp_path / "with_codes"), "codec_training": {"crops": {"pair": 2}, "steps": 2}}
    without = run(config, tmp_path, name="without")
    config["codec_training"]["crops"] = {"pair": 1, "codec": 1}
    folder = run(config, tmp_path, name="with")
    learned = [load_file(path / "codec_front_end" / "codec_front_end.safetensors") for path in (without, folder)]
    assert any(not torch.equal(learned[0][name], learned[1][name]) for name in learned[0])
    counted = [load_file(path / "model.safetensors")["transitions.pairs"] for path in (without, folder)]
    assert len(counted[0]) > 0 and torch.equal(*counted)
    config["batches"]["crops"] = {"pair": 2, "codec": 1}
    with pytest.raises(SystemExit, match="codec-9 has no tokens, so `batches.crops` can have 'codec' clips only with"):
        run(config, tmp_path, name="labels")
    config |= {"feature_copies": {"pair": 1}, "distillation": {"encoders": {str(without): 1}}}
    student = load_file(run(config, tmp_path, name="student") / "model.safetensors")
    assert torch.equal(student["transitions.pairs"], counted[0])


def test_segments_are_exchanged_with_their_tokens_and_lengths_stay():
    def row(number: int, length: int, top_k: int = 3):
        features = number * 1_000 + np.arange(length)
        soft = SoftLabels(np.repeat(features[:, None], top_k, axis=1), np.full((length, top_k), number / 10))
        return np.stack([features, -features]), features, soft

    rows = [row(0, 100), row(1, 100), row(2, 40), row(3, 100)]
    exchanged = exchange_segments(rows, 16, np.random.default_rng(0))
    assert [len(tokens) for _, tokens, _ in exchanged] == [100, 100, 40, 100]
    for features, tokens, soft in exchanged:
        assert np.array_equal(features[0], tokens) and np.array_equal(features[1], -tokens)
        assert np.array_equal(soft.tokens, np.repeat(tokens[:, None], 3, axis=1))
        assert np.allclose(soft.probabilities[:, 0], tokens // 1_000 / 10)
        assert np.array_equal(tokens % 1_000, np.arange(len(tokens)))  # every token stays at its place
    assert sorted(np.concatenate([tokens for _, tokens, _ in exchanged])) == sorted(
        np.concatenate([tokens for _, tokens, _ in rows])
    )
    owners = exchanged[0][1] // 1_000
    assert len(set(owners)) > 1 and 3 <= 1 + np.count_nonzero(np.diff(owners)) <= 100 / 8
    without_soft = exchange_segments([(f, t, None) for f, t, _ in rows], 16, np.random.default_rng(0))
    assert all(np.array_equal(a[1], b[1]) and a[2] is None for a, b in zip(without_soft, exchanged, strict=True))


def test_segments_are_for_heads_on_features(config, tmp_path):
    config["batches"]["segment_tokens"] = 8
    with pytest.raises(SystemExit, match="`batches.segment_tokens` cuts features; add `feature_copies`"):
        run(config, tmp_path, name="crops")
    config["feature_copies"] = {"pair": 1}
    exchanged = run(config, tmp_path, name="exchanged")
    config["batches"]["segment_tokens"] = 0
    whole = run(config, tmp_path, name="whole")
    with pytest.raises(AssertionError):
        assert_same_weights(exchanged, whole)
    config["batches"]["segment_tokens"] = 1
    with pytest.raises(SystemExit, match="`segment_tokens` is 1; it must be 0, or a whole number from 2"):
        run(config, tmp_path, name="one")


# --- one process, two processes, more turns


@pytest.mark.slow  # forks
@pytest.mark.parametrize("way", ["crops", "features", "trained backbone"])
def test_two_processes_train_as_one_does(config, tmp_path, way):
    config["validation"] = {"fold": 0, "every": 3}
    config["training"]["max_grad_norm"] = 0.1
    if way == "features":
        config["feature_copies"] = {"pair": 2}
        config["batches"]["waveform_augmentation"] = {}
    elif way == "trained backbone":  # with codes beside the audio, and codes alone, for which it has no use
        config["model"].update(codec_hidden_size=16, backbone_layers=[2])
        config["training"]["learning_rates"] = {}
        torch.manual_seed(0)
        quiet(tmp_path / "hubert")
        rows = [corpus_row(seed, fold=seed % 3) for seed in range(6)]
        rows += [corpus_row(seed, source="prompt", fold=seed % 3, with_audio=False) for seed in range(6, 12)]
        Dataset.from_list(rows).save_to_disk(tmp_path / "mixed")
        config.update(corpus=str(tmp_path / "mixed"))
        config["batches"]["crops"] = {"pair": 3, "prompt": 1}
    one = run(config, tmp_path, name="one")
    on_two_processes(run, config, tmp_path, "--output", str(tmp_path / "two"))
    assert losses(tmp_path / "two") == pytest.approx(losses(one), abs=2e-4)
    assert_same_weights(one, tmp_path / "two", 2e-4)
    first, second = (json.loads((tmp_path / name / "validation.json").read_text()) for name in ("one", "two"))
    assert first.keys() == second.keys()
    for step in first:
        assert first[step]["loss"] == pytest.approx(second[step]["loss"], abs=1e-3)


@pytest.mark.slow
def test_torchrun_trains_as_one_process_does(config, tmp_path):
    config["training"]["mixed_precision"] = "no"
    one = run(config, tmp_path, name="one")
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "PYTHONPATH": str(TRAINING_FOLDER.parent)}
    script = [str(TRAINING_FOLDER / "train_encoder.py"), str(tmp_path / "one.yaml"), "--output", str(tmp_path / "two")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    subprocess.run([*torchrun, "--master_port", str(free_port()), *script], env=environment, check=True, timeout=600)
    assert losses(tmp_path / "two") == pytest.approx(losses(one), abs=2e-4)
    assert_same_weights(one, tmp_path / "two", 2e-4)


def quiet(folder: Path) -> None:
    """A backbone without dropout, whose randomness each process has for itself."""
    hubert = AutoModel.from_config(backbone_config("hubert"))
    for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"):
        setattr(hubert.config, name, 0.0)
    hubert.save_pretrained(folder)


def train_under_fsdp(file: Path, folder: Path, until: contextlib.AbstractContextManager):
    """Accelerate takes FSDP for GPUs alone, so it is told that these CPUs are some."""
    launch = load_config_from_file(str(TRAINING_FOLDER / "configs" / "accelerate" / "fsdp.yaml")).fsdp_config
    os.environ.update(
        ACCELERATE_USE_FSDP="true",
        FSDP_VERSION=str(launch["fsdp_version"]),
        FSDP_AUTO_WRAP_POLICY=launch["fsdp_auto_wrap_policy"],
        FSDP_TRANSFORMER_CLS_TO_WRAP=launch["fsdp_transformer_layer_cls_to_wrap"],
        FSDP_RESHARD_AFTER_FORWARD=str(launch["fsdp_reshard_after_forward"]).lower(),
        FSDP_STATE_DICT_TYPE=launch["fsdp_state_dict_type"],
    )
    process_state()
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    with until:
        train_encoder.main([str(file), "--output", str(folder)])


@pytest.mark.slow  # forks
def test_a_backbone_that_is_spread_by_fsdp_trains_and_resumes_as_a_whole_one_does(config, tmp_path, interrupted):
    config["training"].update(learning_rates={}, mixed_precision="no")
    quiet(tmp_path / "hubert")
    one = run(config, tmp_path, name="one")
    on_two_processes(train_under_fsdp, tmp_path / "one.yaml", tmp_path / "two", interrupted(step=5))
    assert not (tmp_path / "two" / "model.safetensors").exists()
    on_two_processes(train_under_fsdp, tmp_path / "one.yaml", tmp_path / "two", contextlib.nullcontext())
    assert losses(tmp_path / "two") == pytest.approx(losses(one), abs=2e-4)
    assert_same_weights(one, tmp_path / "two", 2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_two_nodes_train_as_one_process_does_though_one_is_killed_and_started_again(config, tmp_path, streaming):
    """A stream is drawn by each process for itself, so there four that nobody kills are what is compared with."""
    steps = 40
    config["training"].update(steps=steps, checkpoint_every=1, mixed_precision="no")
    config["batches"]["crops"] = {"pair": 4}
    if streaming:
        config.update(streaming=True)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    whole, folder = tmp_path / "whole", tmp_path / "nodes"
    if streaming:
        with TwoNodes("train_encoder", str(file), "--output", str(whole)) as nodes:
            nodes.wait()
    else:
        train_encoder.main([str(file), "--output", str(whole)])
    with TwoNodes("train_encoder", str(file), "--output", str(folder)) as nodes:
        nodes.wait_until((folder / "checkpoint" / "step.json").exists)
        nodes.kill_node(1)
        assert not (folder / "model.safetensors").exists()
        nodes.start(1)
        nodes.wait()
    assert losses(folder) == pytest.approx(losses(whole), abs=2e-4) and len(losses(folder)) == steps
    assert_same_weights(whole, folder, 2e-4)
    assert json.loads((folder / "settings.json").read_text())["num_processes"] == 4


@pytest.mark.parametrize("turns", [2, 3, 5])
def test_the_gradient_does_not_depend_on_the_turns(spoken, turns):
    clips = load_corpus(spoken)
    model = tiny_encoder("hubert", head_type="linear").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name in ("hidden_dropout", "attention_dropout", "activation_dropout"):
        setattr(model.backbone.config, name, 0.0)
    for layer in model.backbone.model.encoder.layers:
        layer.attention.dropout = 0.0

    def gradient(turns):
        plan = BatchPlan(crops={"pair": 4}, num_tokens=95, gradient_accumulation=turns)
        parts = CropBatches(clips, plan, steps=1, seed=0, codebook_size=1024, inputs=["audio"])[0]
        assert len(parts) == turns
        model.zero_grad()
        for inputs in parts:
            weight = inputs.pop("loss_weight", 1.0)
            (model(**inputs).loss * weight).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole = gradient(1)
    torch.testing.assert_close(gradient(turns), whole, atol=1e-5 * float(whole.abs().max()), rtol=1e-3)


def test_the_shares_of_all_processes_are_the_batch(spoken):
    clips = load_corpus(spoken)
    plan = BatchPlan(crops={"pair": 5}, num_tokens=40)

    def rows(process, num_processes):
        parts = CropBatches(
            clips,
            plan,
            steps=1,
            seed=0,
            codebook_size=1024,
            process=process,
            num_processes=num_processes,
            inputs=["audio"],
        )[0]
        weights = [float(part.get("loss_weight", 1.0)) for part in parts]
        return [tuple(row.tolist()) for part in parts for row in part["labels"]], weights

    whole, (weight,) = rows(0, 1)
    shares, weights = zip(*(rows(process, 2) for process in range(2)), strict=True)
    assert sorted(sum(shares, [])) == sorted(whole) and weight == 1
    assert np.mean(weights) == pytest.approx(1)


# --- what is held out


def test_the_best_model_is_saved_and_training_stops_when_it_gets_no_better(config, tmp_path):
    config["training"].update(steps=40, learning_rate=0.05, warmup=0.0)
    config["validation"] = {"share": 0.2, "every": 2, "patience": 3}
    folder = run(config, tmp_path)
    record = json.loads((folder / "training.json").read_text())["validation"]
    figures = {int(step): value["accuracy"] for step, value in record["figures"].items()}
    best = max(figures, key=lambda step: (figures[step], -step))
    assert max(figures) == best + 6 < 40, "three more measurements, and the end"
    assert_same_weights(folder, folder / "best")
    with pytest.raises(AssertionError):
        assert_same_weights(folder / "best", folder / "last")
    held_out = [clip for clip in load_corpus(config["corpus"]) if clip.id in record["held_out"]]
    scores = score_clips(BarkSemanticEncoderModel.from_pretrained(folder).eval(), held_out)
    assert accuracy(scores) == pytest.approx(figures[best], abs=1e-6)


def test_validation_on_features_is_that_of_the_whole_model(config, tmp_path):
    config["feature_copies"] = {"pair": 1}
    config["training"].update(steps=4, average=0.5)
    config["validation"] = {"fold": 1, "every": 2, "best_by": "loss"}
    folder = run(config, tmp_path)
    record = json.loads((folder / "training.json").read_text())["validation"]
    best = min(record["figures"].values(), key=lambda figures: figures["loss"])
    held_out = [clip for clip in load_corpus(config["corpus"]) if clip.fold == 1]
    assert sorted(record["held_out"]) == sorted(clip.id for clip in held_out)
    model = BarkSemanticEncoderModel.from_pretrained(folder).eval()
    assert accuracy(score_clips(model, held_out)) == pytest.approx(best["accuracy"], abs=2e-3)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ({"fold": 0, "share": 0.1}, "either a `fold`"),
        ({}, "either a `fold`"),
        ({"fold": 9}, "No clip is held out"),
        ({"share": 0.9}, "at most 0.5"),
        ({"fold": 1, "evry": 3}, "evry"),
        ({"fold": 1, "every": 0}, "1 or more"),
        ({"fold": 1, "best_by": "luck"}, "luck"),
    ],
)
def test_a_validation_that_cannot_be_is_refused(config, tmp_path, validation, message):
    with pytest.raises(SystemExit, match=message):
        run({**config, "validation": validation}, tmp_path)


def test_the_fold_of_the_evaluation_is_not_validated_on(config, tmp_path):
    with pytest.raises(SystemExit, match="choose another `validation.fold`"):
        run({**config, "validation": {"fold": 1}}, tmp_path, "--fold", "1")
    config = arguments_of(EncoderTrainingConfig, {**config, "validation": {"fold": 1}}, "config")
    clips, held_out = training_clips(config, open_training_corpus(config), 0)
    assert {clip.fold for clip in clips} == {2} and {clip.fold for clip in held_out} == {1}


@pytest.mark.parametrize(
    ("voices", "texts", "least", "lost"),
    [(50, None, 90, 0), (50, 200, 10, 220), (4, 1_000, 100, 300)],
    ids=["every text once", "every voice says every text", "few voices"],
)
def test_no_voice_and_no_text_is_on_both_sides(voices, texts, least, lost):
    rng = np.random.default_rng(0)
    rows = [(f"v{rng.integers(voices)}", f"Text {i if texts is None else rng.integers(texts)}") for i in range(1_000)]
    choice = choose_held_out(rows, 0.1)
    sides = [choice.side(*row) for row in rows]
    training, held_out = (
        [row for row, side in zip(rows, sides, strict=True) if side == s] for s in (TRAINING, VALIDATION)
    )
    for part in range(2):
        assert not {row[part] for row in training} & {row[part] for row in held_out}
    assert len(held_out) >= least and sides.count(None) <= lost and len(training) > 500
    assert choice == choose_held_out(rows[::-1], 0.1)


def test_case_and_punctuation_make_no_new_sentence():
    assert text_digest("Hello, World!") == text_digest("hello world") != text_digest("hello worlds")
    assert text_digest("[Laughs] Hello, [clears throat] world!") == text_digest("hello world")
    assert text_digest("♪") != text_digest("...") and text_digest("[laughs]") != text_digest("[sighs]")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", ""), ("b", "x")], "`text` of every clip"),
        ([("a", "x"), ("a", "y")], "1 voice"),
        ([("a", "x"), ("b", "x")], "too few"),
    ],
)
def test_a_share_that_cannot_be_kept_apart_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        choose_held_out(rows, 0.3)


# --- corpora that are large, silent, or Bark's own


def test_a_stream_is_every_clip_once_in_a_pass_and_the_same_again(tmp_path):
    (tmp_path / "data").mkdir()
    for shard in range(3):
        rows = [corpus_row(10 * shard + i, num_tokens=30) for i in range(7)]
        Dataset.from_list(rows).to_parquet(str(tmp_path / "data" / f"train-{shard}.parquet"))
    read = []

    def wanted(row):
        read.append(str(row["id"]))
        return row["id"] != "pair-3"

    stream = ClipStream(open_stream(str(tmp_path)), wanted, 4, seed=0)
    first = stream[0].id
    assert len(read) <= 4 + 1 and len(stream.block) == 4, "no more than a block is read"
    ids = [first, *(stream[i].id for i in range(1, 60))]
    passes = [ids[:20], ids[20:40], ids[40:]]
    assert all(len(set(part)) == 20 for part in passes) and passes[0] != passes[1]
    assert set(passes[0]) == set(passes[1]) == {f"pair-{10 * s + i}" for s in range(3) for i in range(7)} - {"pair-3"}
    again = ClipStream(open_stream(str(tmp_path)), wanted, 4, seed=0)
    assert [again[i].id for i in (45, 46, 3)] == [ids[i] for i in (45, 46, 3)]
    assert [ClipStream(open_stream(str(tmp_path)), wanted, 4, seed=1)[i].id for i in range(20)] != passes[0]
    with pytest.raises(ValueError, match="No row"):
        ClipStream(open_stream(str(tmp_path)), lambda row: False, 4, seed=0)[0]


@pytest.fixture
def eight_files(tmp_path) -> str:
    """56 clips in eight files."""
    (tmp_path / "eight" / "data").mkdir(parents=True)
    for shard in range(8):
        rows = [corpus_row(7 * shard + i, num_tokens=30) for i in range(7)]
        Dataset.from_list(rows).to_parquet(str(tmp_path / "eight" / "data" / f"train-{shard}.parquet"))
    return str(tmp_path / "eight")


@pytest.mark.parametrize("num_readers", [1, 3, 8, 11])
def test_readers_of_a_stream_share_every_pass_and_read_no_row_twice(eight_files, num_readers):
    corpus, everything = open_stream(eight_files), sorted(f"pair-{number}" for number in range(56))
    read, shares = Counter(), []

    def wanted(row):
        read[str(row["id"])] += 1
        return True

    with pytest.warns(UserWarning, match="8 files for 11 readers") if num_readers > 8 else contextlib.nullcontext():
        streams = [ClipStream(corpus, wanted, 4, 0, reader=r, num_readers=num_readers) for r in range(num_readers)]
    for epoch in range(2):
        read.clear()
        shares.append([[row["id"] for row in stream._rows(epoch) if wanted(row)] for stream in streams])
        assert sorted(read) == everything and set(read.values()) == {1}
        assert all(shares[-1])
    assert shares[0] != shares[1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_processes_and_workers_draw_their_own_crops_of_a_stream(eight_files, num_workers, monkeypatch):
    corpus = StreamedCorpus(open_stream(eight_files), lambda row: True)
    plan = BatchPlan(crops={"pair": 4}, num_tokens=30)

    decoded = Counter()

    def decode(row):
        decoded[str(row["id"])] += 1
        return clip_of_row(row)

    monkeypatch.setattr(stream, "clip_of_row", decode)

    def drawn(process: int, first_step: int = 0) -> list[tuple]:
        options = {"process": process, "num_processes": 2, "inputs": ["audio"], "num_workers": num_workers}
        batches = StreamedBatches(corpus, plan, steps=14, seed=0, codebook_size=1024, block_size=3, **options)
        loader = torch.utils.data.DataLoader(
            batches, batch_size=None, sampler=range(first_step, 14), num_workers=num_workers
        )
        steps = list(loader)
        assert all(len(batch) == 1 and "loss_weight" not in batch[0] for batch in steps)
        return [tuple(row.tolist()) for batch in steps for row in batch[0]["labels"]]

    crops = [drawn(process) for process in range(2)]
    assert [len(part) for part in crops] == [28, 28]
    assert len({*crops[0], *crops[1]}) == 56, "a pass has every clip once, over all processes and workers"
    if num_workers == 0:  # others count for themselves
        assert len(decoded) == 56 and set(decoded.values()) == {1}, "each row is decoded once"
    assert drawn(1, first_step=5) == crops[1][10:], "a run that goes on has the same crops"
    with pytest.raises(ValueError, match="read in 8 parts"):
        options = {"process": 0, "num_processes": 8, "inputs": ["audio"]}
        StreamedBatches(corpus, plan, steps=1, seed=0, codebook_size=1024, **options)


def test_a_killed_run_on_a_stream_of_codes_resumes_exactly(config, tmp_path, monkeypatch):
    """Bark's own corpus, as generate_corpus.py writes it: codes only, sentences, no folds."""
    generate(tmp_path / "c", new_plan(num_rows=24), new_recipe())
    EncodecModel(tiny_codec_config()).save_pretrained(tmp_path / "codec")
    largest = max(int(clip.semantic_tokens.max()) for clip in load_corpus(str(tmp_path / "c")))
    config["model"]["vocab_size"] = largest + 1
    config.update(corpus=str(tmp_path / "c"), streaming={"block_size": 3}, validation={"share": 0.2, "every": 2})
    config["batches"].update(crops={"synthetic": 3}, num_tokens=30, codec=str(tmp_path / "codec"))
    whole = run(config, tmp_path, name="whole")
    held_out = json.loads((whole / "training.json").read_text())["validation"]["held_out"]
    heard = set()
    original = StreamedBatches.crops_of

    def killed(self, pieces, seeds):
        heard.update(piece.clip.id for piece in pieces if piece.clip.id not in held_out)
        if seeds[0] != 0 and seeds[0][2] == 5 and "dead" not in heard:
            heard.add("dead")
            raise KeyboardInterrupt
        return original(self, pieces, seeds)

    monkeypatch.setattr(StreamedBatches, "crops_of", killed)
    with pytest.raises(SystemExit, match="130"):
        run(config, tmp_path, name="killed")
    assert_same_weights(whole, run(config, tmp_path, name="killed"))
    clips = {clip.id: clip for clip in load_corpus(str(tmp_path / "c"))}
    assert held_out and len(heard) > 3
    for name in heard - {"dead"}:
        for other in held_out:
            assert clips[name].voice != clips[other].voice and clips[name].text != clips[other].text


def test_a_stream_of_an_object_store_is_that_of_a_folder(config, eight_files, tmp_path, monkeypatch):
    """Any file system of fsspec; here one in memory, and a folder by its URL."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)  # or datasets reads no URL at all
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    store = fsspec.filesystem("memory")
    store.put(f"{eight_files}/data", "/bucket/corpus/data", recursive=True)
    places = [eight_files, "memory://bucket/corpus", f"file://{eight_files}/"]
    rows = [[row["id"] for row in open_stream(place)] for place in places]
    assert len(rows[0]) == 56 and rows[0] == rows[1] == rows[2]
    assert [clip.id for clip in load_corpus(places[1])] == rows[0]
    config["streaming"] = {"block_size": 5}
    folders = [
        run({**config, "corpus": place}, tmp_path, name=name) for place, name in zip(places, "abc", strict=True)
    ]
    for folder in folders[1:]:
        assert_same_weights(folders[0], folder)
    with pytest.raises(ValueError, match="'memory://bucket/nothing' cannot be read as a dataset"):
        open_stream("memory://bucket/nothing")
    with pytest.raises(ValueError, match="Protocol not known: carrier-pigeon"):
        open_stream("carrier-pigeon://bucket/corpus")


def test_readers_of_a_corpus_on_the_hub_fetch_their_own_files(online, eight_files, tmp_path, monkeypatch):
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "HF_ENDPOINT": online.endpoint,
        "HF_DATASETS_CACHE": tmp_path,
    }.items():
        monkeypatch.setattr(datasets.config, name, value)
    online.publish("datasets/me/corpus", Path(eight_files))
    corpus, ids, fetched = open_stream("me/corpus"), [], []
    for reader in range(4):
        online.requests.clear()
        ids += [row["id"] for row in ClipStream(corpus, lambda row: True, 4, 0, reader=reader, num_readers=4)._rows(0)]
        fetched.append({request.rpartition("/")[2] for request in online.requests if request.endswith(".parquet")})
    assert sorted(ids) == sorted(f"pair-{number}" for number in range(56)) and online.unknown == []
    assert [len(files) for files in fetched] == [2] * 4 and len(set.union(*fetched)) == 8


def test_crops_of_codes_sound_as_in_their_clip(tmp_path):
    torch.manual_seed(0)
    codec = EncodecModel(tiny_codec_config()).eval()
    Dataset.from_list([corpus_row(0, num_tokens=300, with_audio=False)]).save_to_disk(tmp_path / "one")
    (clip,) = load_corpus(str(tmp_path / "one"))
    (whole,) = decode_pieces([Piece(clip, 0, 300, 0)], codec)
    with torch.no_grad():
        codes = torch.from_numpy(clip.audio_codes)[None, None]
        assert len(codec.decode(codes, [None]).audio_values[0, 0]) * 2 / 3 == pytest.approx(len(whole), abs=1)
    with torch.autocast("cpu", torch.bfloat16):  # in which the features of a training may be computed
        assert np.array_equal(decode_pieces([Piece(clip, 0, 300, 0)], codec)[0], whole)
    pieces = [Piece(clip, start, 80, 0) for start in (0, 7, 100, 200)]
    for piece, waveform in zip(pieces, decode_pieces(pieces, codec), strict=True):
        start = round(piece.start * 16_000 / 49.9)
        assert len(waveform) == num_samples_of_codec_frames(num_codec_frames(80))
        middle = waveform[8_000:10_000]
        places = range(start + 8_000 - 120, start + 8_000 + 121)  # within half a codec frame
        likeness = [np.corrcoef(middle, whole[place:][: len(middle)])[0, 1] for place in places]
        assert max(likeness) > 0.95, piece.start


def test_clips_that_the_model_cannot_read_are_named(config, tmp_path):
    Dataset.from_list([corpus_row(0, with_audio=False)]).save_to_disk(tmp_path / "silent")
    with pytest.raises(SystemExit, match=r"pair-0: the model reads audio, but the clip has codes.*batches.codec"):
        run({**config, "corpus": str(tmp_path / "silent")}, tmp_path)
    config["model"]["vocab_size"] = 20
    with pytest.raises(SystemExit, match=r"has token 49, but `model.vocab_size` is 20"):
        run(config, tmp_path)


@pytest.mark.parametrize("section", [{"feature_copies": {"pair": 1}}, {"codec_training": {"crops": {"pair": 1}}}])
def test_what_needs_all_clips_first_does_not_go_with_a_stream(config, tmp_path, section):
    with pytest.raises(SystemExit, match="needs all clips at once"):
        run({**config, "streaming": True, **section}, tmp_path)
    with pytest.raises(SystemExit, match="did you mean `block_size`"):
        run({**config, "streaming": {"blocks": 3}}, tmp_path)


def test_workers_change_nothing(config, tmp_path):
    one = run(config, tmp_path, name="one")
    config["training"]["num_workers"] = 2
    assert_same_weights(one, run(config, tmp_path, name="two"))


# --- where the head starts, and how it learns


def test_the_head_of_another_encoder_is_taken_over(config, tmp_path):
    first = run(config, tmp_path, name="first")
    config["model"]["head_from"] = str(first)
    config["training"]["steps"] = 0
    second = run(config, tmp_path, name="second")
    a, b = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a if name.startswith("head."))
    config["model"]["hidden_size"] = 64
    with pytest.raises(SystemExit, match="hidden_size: 32 there, 64 here"):
        run(config, tmp_path, name="third")


def test_the_head_of_a_community_quantizer_is_taken_over(tmp_path):
    file = quantizer_file(tmp_path, version=1)
    model = tiny_encoder(
        "hubert", head_type="recurrent", hidden_size=24, num_hidden_layers=2, intermediate_size=0, vocab_size=50
    )
    before = model.head.output.weight.clone()
    assert take_over_head(model, file) == ["head"]
    state = torch.load(file, weights_only=True)
    assert torch.equal(model.head.lstm.weight_hh_l1, state["lstm.weight_hh_l1"])
    folded = state["fc.weight"] @ state["intermediate.weight"]
    torch.testing.assert_close(model.head.output.weight, folded)
    assert not torch.equal(before, model.head.output.weight)
    with pytest.raises(ValueError, match="num_hidden_layers: 2 there, 1 here"):
        take_over_head(tiny_encoder("hubert", head_type="recurrent", hidden_size=24, intermediate_size=0), file)


def test_a_codec_front_end_is_taken_over_where_it_is_the_same(tmp_path):
    other = tiny_encoder("hubert", codec_hidden_size=16)
    other.save_pretrained(tmp_path)
    for codec_hidden_size, taken in ((16, ["head", "codec_front_end"]), (8, ["head"])):
        model = tiny_encoder("hubert", codec_hidden_size=codec_hidden_size)
        torch.nn.init.zeros_(model.head.output.weight)
        assert take_over_head(model, tmp_path) == taken
        assert torch.equal(model.head.output.weight, other.head.output.weight)


def test_lower_layers_of_the_backbone_learn_more_slowly():
    model = tiny_encoder("whisper")
    arguments = TrainingArguments("x", learning_rate=1.0, learning_rates={"backbone": 0.1}, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in parameter_groups(model, arguments) for p in group["params"]}
    found = {name: round(rates[id(p)], 6) for name, p in model.named_parameters() if p.requires_grad}
    assert {v for k, v in found.items() if ".layers.1." in k} == {0.1}
    assert {v for k, v in found.items() if ".layers.0." in k} == {0.05}
    assert {v for k, v in found.items() if ".conv1." in k} == {0.025}
    assert {v for k, v in found.items() if k.startswith("head.")} == {1.0}
    with pytest.raises(ValueError, match="layer_decay"):
        parameter_groups(model, TrainingArguments("x", layer_decay=1.5))


@pytest.mark.parametrize("backbone", ["hubert", "hubert-large", "wavlm", "wav2vec2-bert", "whisper"])
def test_gradient_checkpointing_changes_nothing(tmp_path, backbone):
    batch = {"input_values": torch.from_numpy(np.stack([noise(1.0, 0), noise(1.0, 1)])), "labels": None}
    trained = []
    for checkpointing in (False, True):
        model = tiny_encoder(backbone)
        batch["labels"] = torch.zeros(model(batch["input_values"]).logits.shape[:2], dtype=torch.long)
        arguments = TrainingArguments(
            str(tmp_path), steps=2, gradient_checkpointing=checkpointing, learning_rate=1e-2, log_every=0
        )
        trained.append(train(model, [[batch]] * 2, arguments, accelerator=Accelerator()))
        layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
        assert bool(layers) == checkpointing
    for (name, first), second in zip(trained[0].named_parameters(), trained[1].parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-5, msg=name)


def test_gradient_checkpointing_of_a_head_alone_is_refused(config, tmp_path):
    config["training"]["gradient_checkpointing"] = True
    with pytest.raises(SystemExit, match="HeadOnFeatures has none"):
        run({**config, "feature_copies": {"pair": 1}}, tmp_path)


class Memory(GeneralTracker):
    name, requires_logging_directory, tracker = "memory", False, None

    def __init__(self):
        super().__init__()
        self.values = {}

    def store_init_configuration(self, values):
        pass

    def log(self, values, step, **kwargs):
        self.values.setdefault(step, {}).update(values)


def test_trackers_get_loss_rate_and_validation(config, tmp_path):
    memory = Memory()
    accelerator = Accelerator(log_with=memory)
    accelerator.init_trackers("x")
    config["validation"] = {"fold": 0, "every": 3}
    config = arguments_of(EncoderTrainingConfig, config, "config")
    clips, held_out = training_clips(config, open_training_corpus(config), None)
    encoder.train_encoder(config, clips, accelerator=accelerator, held_out=held_out)
    assert {"loss", "learning_rate", "validation_accuracy", "validation_loss"} <= set(memory.values[3])
    assert set(memory.values) == {1, 2, 3, 4, 5, 6}


def test_a_tracker_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="'magic'; Accelerate knows"):
        new_accelerator(TrainingArguments(str(tmp_path), trackers=["magic"]))
    with pytest.raises(ImportError, match="pip install clearml"):
        new_accelerator(TrainingArguments(str(tmp_path), trackers=["clearml"]))


# --- configs, curve, benchmark


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cpu_2", DistributedType.MULTI_CPU),
        ("multi_gpu", DistributedType.MULTI_GPU),
        ("fsdp", DistributedType.FSDP),
        ("deepspeed_zero2", DistributedType.DEEPSPEED),
    ],
)
def test_accelerate_reads_its_configs(name, kind):
    config = load_config_from_file(str(TRAINING_FOLDER / "configs" / "accelerate" / f"{name}.yaml"))
    assert DistributedType(config.distributed_type) == kind and config.num_processes >= 2
    assert config.use_cpu == (name == "cpu_2")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_at_a_reduced_size(name, tmp_path):
    config = read_config(name)
    backbone = {"w2v_bert": "wav2vec2-bert", "wavlm_large": "wavlm-large", "hubert_large": "hubert-large"}
    backbone = backbone.get(name, "hubert")
    torch.manual_seed(0)
    AutoModel.from_config(backbone_config(backbone)).save_pretrained(tmp_path / "backbone")
    EncodecModel(tiny_codec_config()).save_pretrained(tmp_path / "codec")
    rows = [corpus_row(seed, source="synthetic", with_audio=False, text=f"Text {seed}.") for seed in range(8)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "corpus")
    layers = len(config["model"]["backbone_layers"])
    small = {"backbone": str(tmp_path / "backbone"), "backbone_layers": [1, 2, 3][:layers], "hidden_size": 32}
    small |= {"num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50, "num_hidden_layers": 1}
    config["model"].update(small)
    config["corpus"] = str(tmp_path / "corpus")
    config["batches"].update(codec=str(tmp_path / "codec"), num_tokens=40, crops={"synthetic": 4})
    config["training"].update(steps=2, mixed_precision="no", num_workers=0, log_every=1)
    folder = run(config, tmp_path)
    assert len(losses(folder)) == 2 and all(np.isfinite(losses(folder)))
    assert BarkSemanticEncoderModel.from_pretrained(folder).config.backbone_config.model_type == (
        backbone.removesuffix("-large")
    )


def test_a_trained_encoder_knows_which_tokens_follow_each_other_in_its_training(config, spoken, tmp_path):
    config["model"]["transition_weight"] = 0.3
    folder = run(config, tmp_path, "--fold", "0")
    model = BarkSemanticEncoderModel.from_pretrained(folder)
    strings = [clip.semantic_tokens for clip in load_corpus(spoken) if clip.fold != 0]
    pairs = {a * 50 + b for string in strings for a, b in itertools.pairwise(string.tolist())}
    assert model.config.num_transitions == len(pairs)
    assert model.transitions.pairs.tolist() == sorted(pairs)


OTHER_RECIPES = ("builtin", "add_language", "teacher_base", "teacher_tiny", "nano", "nano_corpus")


@pytest.mark.parametrize("name", [*RECIPES, *OTHER_RECIPES])
def test_every_key_of_a_recipe_is_known(name):
    config = read_encoder_config(name, training={"steps": 3, "seed": None})
    assert config.sources and config.training.steps == 3 and config.training.seed == 0


def test_the_recipe_for_a_language_starts_as_the_packaged_encoder():
    config = read_encoder_config("add_language")
    model = encoder.new_model(config.model, 0)
    assert take_over_head(model, config.model["head_from"]) == ["head", "codec_front_end"]
    clip = {"input_values": torch.from_numpy(noise(1.0))[None]}
    packaged = BarkSemanticEncoderModel.from_pretrained(named_encoder("builtin")).eval()
    with torch.no_grad():
        assert torch.equal(model.eval()(**clip).logits, packaged(**clip).logits)


def test_recipes_name_layers_that_their_backbones_have():
    depths = {"hubert_base": 12, "hubert_large": 24, "wavlm_large": 24, "w2v_bert": 24, "multilingual": 12}
    for name, depth in depths.items():
        text = (TRAINING_FOLDER / "configs" / f"{name}.yaml").read_text()
        assert max(yaml.safe_load(text)["model"]["backbone_layers"]) <= depth
        assert "measured here" in text.replace("\n# ", " ")
    assert AutoConfig.for_model("wav2vec2-bert").num_hidden_layers == 24


def test_more_hours_are_the_same_hours_and_more(spoken):
    clips = load_corpus(spoken)
    hours = learning_curve.hours_of(clips)
    parts = [learning_curve.nested_part(clips, hours * share) for share in (0.2, 0.5, 1.0)]
    ids = [{clip.id for clip in part} for part in parts]
    assert ids[0] < ids[1] < ids[2] == {clip.id for clip in clips}
    with pytest.raises(ValueError, match="hours to train on"):
        learning_curve.nested_part(clips, 2 * hours)


def test_the_curve_has_a_row_for_every_part_and_is_not_computed_twice(config, tmp_path, capsys, monkeypatch):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**config, "feature_copies": {"pair": 1}}))
    hours = ["0.001", "0.002", "0.003", "0.004"]
    command = [str(file), "--fold", "0", "--hours", *hours, "--seeds", "0", "1", "--output", str(tmp_path / "curve")]
    learning_curve.main(command)
    curve = json.loads((tmp_path / "curve" / "curve.json").read_text())
    assert list(curve) == [f"{part}h-seed{seed}" for part in hours for seed in (0, 1)]
    assert [row["clips"] for row in curve.values()] == sorted(row["clips"] for row in curve.values())
    assert all(row["table"]["english, audio"]["clips"] == 4 for row in curve.values())
    capsys.readouterr()
    monkeypatch.setattr(learning_curve, "point", None)
    learning_curve.main([*command, "--extrapolate", "1", "10"])
    printed = capsys.readouterr().out
    assert printed.count("| english, audio | ") == len(hours) + 2
    assert "| 100%, fixed |" in printed
    with pytest.raises(ValueError, match="clips: None there, 1 here"):
        learning_curve.main([*command, "--clips", "1"])
    with pytest.raises(ValueError, match="2 parts are too few"):
        learning_curve.main([*command[:4], *hours[:2], *command[8:], "--extrapolate", "1"])


def test_a_part_by_voice_has_all_clips_of_its_voices(spoken):
    clips = load_corpus(spoken)
    part = learning_curve.nested_part(clips, learning_curve.hours_of(clips) / 2, by_voice=True)
    voices = [clip.voice for clip in part]
    assert len(set(voices)) < len({clip.voice for clip in clips})
    whole = set(voices) - {voices[-1]}  # the last one may be cut off
    assert {clip.id for clip in part} >= {clip.id for clip in clips if clip.voice in whole}


@pytest.mark.parametrize("free_ceiling", [True, False])
def test_the_fit_finds_the_curve_that_made_the_points(free_ceiling):
    true = (0.7 if free_ceiling else 1.0, 0.3, 0.4)
    hours = np.array([0.1, 0.2, 0.5, 1.0, 2.0])
    fit = learning_curve.fit_curve(hours, learning_curve.curve_at(hours, true), free_ceiling=free_ceiling)
    assert fit == pytest.approx(true, abs=1e-3)


def test_the_training_benchmark_compares_all_sides(monkeypatch):
    parser = argparse.ArgumentParser()
    benchmark_train.add_arguments(parser)
    args = parser.parse_args(
        ["--rounds", "1", "--steps", "1", "--crops", "2", "--head", "transformer", "--dtype", "float32"]
    )
    small = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}
    monkeypatch.setattr(benchmark_train, "COMMUNITY_HEAD", {"head_type": "recurrent", **small})
    waveforms = [noise(seconds, seed) for seed, seconds in enumerate((1.0, 1.5))]
    report = benchmark_train.benchmark_train(args, waveforms, HubertConfig(**BACKBONES["hubert"]))
    assert report["clips"] == 2 and report["audio_seconds"] == pytest.approx(2.5, abs=0.1)
    assert len(report["speedup"]) == 3 and all(value > 0 for value in report["audio_seconds_per_second"].values())
