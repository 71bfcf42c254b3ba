"""Fine-tuning on a tiny Bark: training, validation, early stopping, exact resumption, and loadable results."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from datasets import Dataset
from safetensors.torch import load_file
from transformers import BarkModel, BarkProcessor

from hf_bark_semantic import precision, save_audio
from hf_bark_semantic.bark.adapter_bundle import load_adapters
from hf_bark_semantic.bark.adapters import loaded_adapters
from hf_bark_semantic.bark.configs import STAGES, bark_generation_configs, bark_stage
from hf_bark_semantic.bark.loading import load_bark, save_bark
from hf_bark_semantic.bark.losses import LOSSES, FineLoss
from hf_bark_semantic.bark.sampling import Sampling
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.cli.finetune_bark import main
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.corpus.utterances import load_utterances
from hf_bark_semantic.trainers import bark as finetuning
from hf_bark_semantic.trainers.bark_batches import judged_batches, split_held_out
from hf_bark_semantic.trainers.bark_config import BarkTrainingConfig
from processes import TwoNodes, free_port
from tiny import noise, random_codes, save_tiny_encoder, tiny_bark, tiny_bark_processor

TRAINING_FOLDER = Path(__file__).parents[2] / "training"


@pytest.fixture(autouse=True)
def no_precision_stays():
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    """Twelve utterances that are easy to learn: few tokens, few codes."""
    folder, rows = tmp_path_factory.mktemp("corpus"), []
    for number in range(12):
        rng, num_tokens = np.random.default_rng(number), 40 + number
        codes = random_codes(num_codec_frames(num_tokens), number) % 4
        rows.append(
            {
                "id": str(number), "text": " ".join(rng.choice(["the", "dog", "cat", "runs"], 4)), "voice": "anna",
                "semantic_tokens": rng.integers(0, 4, num_tokens).tolist(), "audio_codes": codes.tolist(),
            }
        )  # fmt: skip
    (folder / "data").mkdir()
    Dataset.from_list(rows).to_parquet(folder / "data" / "train-00000.parquet")
    return str(folder)


@pytest.fixture
def config(tmp_path, bark_folder, corpus):
    """A function that writes a config and gives its path."""

    def write(**values) -> str:
        values = {
            "bark": bark_folder,
            "data": corpus,
            "output_dir": str(tmp_path / "run"),
            "lora": {"rank": 4},
            "training": {"steps": 6, "learning_rate": 0.01, "checkpoint_every": 2, "log_every": 2},
            "batches": {"num_positions": 1_500},
            "validation": {"share": 0.25, "every": 2, "patience": 4},
            "probe": {"texts": ["the dog [laughs]", "♪ a cat ♪"], "voices": ["announcer", "none"]},
            "samples": ["the dog runs"],
            **values,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
        return str(path)

    return write


def run(config_path: str, *options: str) -> None:
    main(["train", config_path, *options])


def held_out_loss(bark: BarkModel, corpus: str, stage: str) -> float:
    configs = bark_generation_configs(bark)
    _, held_out = split_held_out(load_utterances(corpus, tiny_bark_processor(), configs), 0.25)
    loss = LOSSES[stage](bark_stage(bark, stage), configs)
    return finetuning.mean_loss(loss, judged_batches(held_out, configs, stage), Accelerator())


def test_lora_of_all_stages_learns_and_leaves_a_bundle_that_speaks_as_it_was_judged(config, tmp_path, corpus, capsys):
    run(config())
    folder, out = tmp_path / "run", capsys.readouterr().out
    report = json.loads((folder / "report.json").read_text())
    assert list(report["stages"]) == list(STAGES) and "semantic: 1,024 of" in out and "%" in out
    bark = tiny_bark()
    bundle = load_adapters(bark, folder / "adapter")
    assert loaded_adapters(bark) == {"adapter": tuple(STAGES)} and bundle.voice_prompt.num_tokens >= 256
    for stage, result in report["stages"].items():
        losses = {int(step): value for step, value in result["validation_loss"].items()}
        assert list(losses) == [0, 2, 4, 6] and losses[result["best_step"]] < losses[0]
        assert held_out_loss(tiny_bark(), corpus, stage) == pytest.approx(losses[0], abs=1e-5)
        assert held_out_loss(bark, corpus, stage) == pytest.approx(losses[result["best_step"]], abs=1e-5)
        assert result["probe"].keys() == {"sounds", "songs"}
        assert all(value["before"] != value["after"] for value in result["probe"].values())
        assert not (folder / stage / "checkpoint").exists()
    names = {file.name for file in (folder / "samples").iterdir()}
    assert names == {f"{label}-0.wav" for label in ("0-before", "1-semantic", "2-coarse", "3-fine")}
    card = (folder / "adapter" / "README.md").read_text()
    assert "{" not in card.replace("{license", "") and "semantic (rank 4, alpha 8)" in card
    run(config())
    assert "nothing to do" in capsys.readouterr().out


def test_full_training_learns_and_leaves_a_bark_that_any_program_loads(config, tmp_path, corpus, bark_folder):
    run(config(method="full", probe={"texts": []}))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    bark = BarkModel.from_pretrained(tmp_path / "run" / "bark").eval()
    for stage, result in report["stages"].items():
        losses = {int(step): value for step, value in result["validation_loss"].items()}
        best = losses[result["best_step"]]
        assert best < losses[0] and held_out_loss(bark, corpus, stage) == pytest.approx(best, abs=1e-5)
        assert result["trained"] == result["parameters"]
    codec = BarkModel.from_pretrained(bark_folder).codec_model.state_dict()
    assert all(torch.equal(value, codec[name]) for name, value in bark.codec_model.state_dict().items())
    assert BarkProcessor.from_pretrained(tmp_path / "run" / "bark").available_voice_presets


@pytest.mark.parametrize(("method", "average"), [("lora", 0.0), ("lora", 0.5), ("full", 0.0)])
def test_a_killed_run_resumes_to_exactly_the_same_weights(config, tmp_path, monkeypatch, method, average):
    training = {"steps": 6, "learning_rate": 0.01, "checkpoint_every": 2, "average": average, "average_from": 0}
    options = {"method": method, "stages": ["semantic", "fine"], "probe": {"texts": []}, "training": training}
    options["lora"] = {"rank": 4, "dropout": 0.1}
    run(config(**options), "--output", str(tmp_path / "whole"))
    original, calls = finetuning.ReplayBatches.__getitem__, []

    def killed(self, step):
        calls.append((self.stage, step))
        if calls.count((self.stage, step)) == 1 and (self.stage, step) in (("semantic", 3), ("fine", 5)):
            raise KeyboardInterrupt
        return original(self, step)

    monkeypatch.setattr(finetuning.ReplayBatches, "__getitem__", killed)
    for _ in range(2):
        with pytest.raises(SystemExit, match="130"):
            run(config(**options), "--output", str(tmp_path / "killed"))
    if method == "lora":
        checkpoint = tmp_path / "killed" / "fine" / "checkpoint"
        assert "model.safetensors" not in {file.name for file in checkpoint.iterdir()}
    run(config(**options), "--output", str(tmp_path / "killed"))
    assert calls == [
        *(("semantic", step) for step in (0, 1, 2, 3, 2, 3, 4, 5)), *(("fine", step) for step in (0, 1, 2, 3, 4, 5)),
        ("fine", 4), ("fine", 5),
    ]  # fmt: skip
    for stage in ("semantic", "fine"):
        whole, resumed = (
            load_file(tmp_path / name / stage / "best" / "trained.safetensors") for name in ("whole", "killed")
        )
        assert whole.keys() == resumed.keys() and all(torch.equal(whole[key], resumed[key]) for key in whole)
        whole, resumed = (tmp_path / name / stage / "validation.json" for name in ("whole", "killed"))
        assert whole.read_text() == resumed.read_text()
    for sample in (tmp_path / "whole" / "samples").iterdir():  # the last one in the company of a stage that was done
        again = tmp_path / "killed" / "samples" / sample.name
        assert np.array_equal(soundfile.read(sample)[0], soundfile.read(again)[0])


@pytest.mark.slow
def test_two_processes_and_two_turns_train_as_one_does(config, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "PYTHONPATH": str(TRAINING_FOLDER.parent)}
    options = {"probe": {"texts": []}, "samples": []}
    options["training"] = {"steps": 6, "learning_rate": 0.01, "mixed_precision": "no"}
    for name, batches in (("one", {}), ("turns", {"gradient_accumulation": 2}), ("two", {})):
        file = config(**options, output_dir=str(tmp_path / name), batches={"num_positions": 1_500, **batches})
        if name == "two":
            script = [str(TRAINING_FOLDER / "finetune_bark.py"), "train", file]
            subprocess.run([*torchrun, str(free_port()), *script], env=environment, check=True, timeout=600)
        else:
            run(file)
    for name in ("turns", "two"):
        for stage in STAGES:
            one, other = (
                load_file(tmp_path / n / "adapter" / stage / "adapter_model.safetensors") for n in ("one", name)
            )
            assert one.keys() == other.keys()
            for key, weight in one.items():
                torch.testing.assert_close(weight, other[key], atol=1e-3, rtol=0, msg=f"{name}, {key}")


@pytest.mark.slow
def test_two_nodes_tune_as_one_process_does_though_one_is_killed_and_started_again(config, tmp_path):
    training = {"steps": 20, "learning_rate": 0.01, "mixed_precision": "no", "checkpoint_every": 1}
    options = {"stages": ["semantic"], "probe": {"texts": []}, "samples": [], "training": training}
    file = config(**options)
    run(file, "--output", str(tmp_path / "whole"))
    folder = tmp_path / "nodes"
    with TwoNodes("finetune_bark", "train", file, "--output", str(folder)) as nodes:
        nodes.wait_until((folder / "semantic" / "checkpoint" / "step.json").exists)
        nodes.kill_node(1)
        assert not (folder / "adapter").exists()
        nodes.start(1)
        nodes.wait()
    whole, tuned = (
        load_file(place / "adapter" / "semantic" / "adapter_model.safetensors")
        for place in (tmp_path / "whole", folder)
    )
    assert whole.keys() == tuned.keys()
    for name, weight in whole.items():
        torch.testing.assert_close(weight, tuned[name], atol=1e-3, rtol=0, msg=name)


def test_training_stops_when_nothing_is_gained_and_keeps_the_best(config, tmp_path, corpus):
    rates = {"steps": 40, "learning_rate": 5.0, "weight_decay": 0.0, "warmup": 0.0, "checkpoint_every": 0}
    options = {"stages": ["semantic"], "probe": {"texts": []}, "samples": []}
    run(config(training=rates, validation={"share": 0.25, "every": 1, "patience": 3}, **options))
    result = json.loads((tmp_path / "run" / "report.json").read_text())["stages"]["semantic"]
    assert result["last_step"] == result["best_step"] + 3 < 40
    bark = tiny_bark()
    load_adapters(bark, tmp_path / "run" / "adapter")
    best = result["validation_loss"][str(result["best_step"])]
    assert held_out_loss(bark, corpus, "semantic") == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_averaged_weights_are_what_is_judged_and_kept(config, tmp_path, corpus, method):
    training = {"steps": 6, "learning_rate": 0.01, "average": 0.5, "average_from": 0.0, "checkpoint_every": 2}
    run(config(method=method, stages=["semantic"], training=training, probe={"texts": []}, samples=[]))
    result = json.loads((tmp_path / "run" / "report.json").read_text())["stages"]["semantic"]
    losses, best = result["validation_loss"], str(result["best_step"])
    assert losses[best] < losses["0"]
    if method == "full":
        bark = BarkModel.from_pretrained(tmp_path / "run" / "bark").eval()
    else:
        load_adapters(bark := tiny_bark(), tmp_path / "run" / "adapter")
    assert held_out_loss(bark, corpus, "semantic") == pytest.approx(losses[best], abs=1e-5)


def test_each_stage_has_its_own_precision(config, tmp_path):
    stages, options = ("semantic", "coarse", "fine"), {"probe": {"texts": []}, "samples": []}
    run(config(**options), "--output", str(tmp_path / "plain"))
    mixed = {stage: {"training": {"steps": 6, "mixed_precision": "no"}} for stage in stages}
    mixed["coarse"]["training"]["mixed_precision"] = "bf16"
    run(config(stages=mixed, **options), "--output", str(tmp_path / "mixed"))
    plain, mixed = (
        [(tmp_path / name / stage / "validation.json").read_text() for stage in stages] for name in ("plain", "mixed")
    )
    assert [a == b for a, b in zip(plain, mixed, strict=True)] == [True, False, True]


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(config, tmp_path, monkeypatch):
    options = {"stages": ["semantic"], "probe": {"texts": []}, "samples": []}
    measured = {"whole": "bf16", "killed": "bf16", "float32": "no"}

    def losses(name: str) -> str:
        monkeypatch.setattr(precision, "choose_precision", lambda device: (measured[name], "measured"))
        run(config(**options), "--output", str(tmp_path / name))
        return (tmp_path / name / "semantic" / "validation.json").read_text()

    whole, make_trainable = losses("whole"), finetuning.FineTuning.make_trainable
    monkeypatch.setattr(finetuning.FineTuning, "make_trainable", None)
    with pytest.raises(TypeError):
        losses("killed")
    monkeypatch.setattr(finetuning.FineTuning, "make_trainable", make_trainable)
    (tmp_path / "killed" / "semantic").mkdir()
    measured["killed"] = "no"
    assert losses("killed") == whole != losses("float32")


def test_stages_have_options_of_their_own_and_replay_is_mixed_in(config, tmp_path, corpus, monkeypatch):
    enabled, enable = [], FineLoss.gradient_checkpointing_enable
    monkeypatch.setattr(FineLoss, "gradient_checkpointing_enable", lambda loss: enabled.append(loss) or enable(loss))
    training = {"steps": 2, "gradient_checkpointing": True}
    stages = {"fine": {"lora": {"rank": 2, "use_dora": True}, "training": training}, "semantic": None}
    run(config(stages=stages, replay={"corpus": corpus}, probe={"texts": []}, samples=[]))
    assert [loss.gradient_checkpointing for loss in enabled] == [True]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [stage["last_step"] for stage in report["stages"].values()] == [2, 6]
    bundle = load_adapters(tiny_bark(), tmp_path / "run" / "adapter")
    assert bundle.ranks == {"semantic": 4, "fine": 2}
    assert "20% of the examples" in (tmp_path / "run" / "adapter" / "README.md").read_text()


def test_lora_training_leaves_the_base_weights_alone(config, monkeypatch):
    seen = []
    monkeypatch.setattr(finetuning.FineTuning, "save", lambda self, report: seen.append(self.bark))
    run(config(probe={"texts": []}, samples=[]))
    trained = {name.replace(".base_layer", ""): value for name, value in seen[0].state_dict().items()}
    for name, value in tiny_bark().state_dict().items():
        assert torch.equal(trained[name], value), name


def test_a_run_does_not_go_on_with_other_settings_or_other_data(config, corpus, tmp_path, monkeypatch):
    options = {"stages": ["fine"], "probe": {"texts": []}, "samples": [], "data": str(tmp_path / "data")}
    shutil.copytree(corpus, tmp_path / "data")
    monkeypatch.setattr(finetuning.FineTuning, "run", lambda self: None)
    run(config(**options, lora={"rank": 2}))
    run(config(**options))  # nothing had been trained, so the rank could be corrected
    (tmp_path / "run" / "fine").mkdir()
    moved = {**options, "samples": ["a cat"], "license": "cc-by-4.0", "data": str(tmp_path / "moved")}
    shutil.move(tmp_path / "data", tmp_path / "moved")
    training = {"steps": 6, "learning_rate": "1e-2", "checkpoint_every": 3, "log_every": 1}
    run(config(**moved, training=training))
    file = tmp_path / "moved" / "data" / "train-00000.parquet"
    for finished in (False, True):
        if finished:
            (tmp_path / "run" / "report.json").touch()
        with pytest.raises(SystemExit, match=r"lora.rank: 4 there, 8 here; training.steps: 6 there, 5 here"):
            run(config(**moved, lora={"rank": 8}, training={**training, "steps": 5}))
    Dataset.from_parquet(str(file)).select(range(11)).to_parquet(file)
    with pytest.raises(SystemExit, match=r"other settings \(data_fingerprint: "):
        run(config(**moved))


def test_samples_and_probe_are_spoken_at_the_temperatures_of_the_bark(config, bark_folder, tmp_path, monkeypatch):
    bark, processor = load_bark(bark_folder)
    for part in ("semantic", "coarse_acoustics", "fine_acoustics"):
        getattr(bark.generation_config, f"{part}_config")["speech_temperature"] = 0.0
    save_bark(bark, processor, tmp_path / "greedy")
    results = []

    def recorded(*args, **options):
        for result in synthesize(*args, **options):
            results.append(result)
            yield result

    monkeypatch.setattr(finetuning, "synthesize", recorded)
    run(config(bark=str(tmp_path / "greedy"), stages=["fine"], probe={"texts": ["a cat"], "voices": ["announcer"]}))
    assert [result.request.text for result in results] == ["a cat", "the dog runs", "the dog runs"]
    requests = [replace(result.request, **dict.fromkeys(STAGES, Sampling(0.0))) for result in results[:2]]
    for result, expected in zip(results, synthesize(bark, requests, tokenizer=processor.tokenizer), strict=False):
        assert np.array_equal(result.semantic_tokens, expected.semantic_tokens)
        assert np.array_equal(result.audio_codes, expected.audio_codes)


class Tracker:
    name = "tensorboard"

    def __init__(self):
        self.values, self.sounds, self.writer = [], [], self

    def log(self, values, step=None, **kwargs):
        self.values.append((step, values))

    def add_audio(self, name, waveform, sample_rate):
        self.sounds.append((name, waveform.ndim, sample_rate))

    def finish(self):
        self.values.append("finished")


def test_a_tracker_gets_losses_and_sounds(config, monkeypatch):
    tracker = Tracker()
    names = []
    monkeypatch.setattr(finetuning, "new_accelerator", lambda arguments, name: names.append(name) or tracked())

    def tracked() -> Accelerator:
        accelerator = Accelerator()
        accelerator.trackers = [tracker]
        return accelerator

    run(config(stages=["semantic"]))
    assert names == ["run-semantic"]
    assert tracker.sounds == [("0-before-0", 1, 24_000), ("1-semantic-0", 1, 24_000)]
    assert [step for step, values in tracker.values[:-1] if "validation_loss" in values] == [0, 2, 4, 6]
    assert [step for step, values in tracker.values[:-1] if "loss" in values] == [2, 4, 6]
    assert tracker.values[-1] == "finished"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methd": "lora"}, "`methd`; did you mean `method`"),
        ({"log_with": "tensorboard"}, "log_with"),  # training.trackers
        ({"gradient_checkpointing": True}, "gradient_checkpointing"),  # training.gradient_checkpointing
        ({"training": {"trackers": ["magic"]}}, "'magic'; Accelerate knows"),
        ({"method": "magic"}, "`method` is 'magic'"),
        ({"stages": ["codec"]}, r"`stages\[0\]` is 'codec'"),
        ({"stages": []}, "`stages` is empty"),
        ({"stages": {"fine": {"lore": {}}}}, "`stages.fine` has no `lore`; did you mean `lora`"),
        ({"stages": {"fine": {"lora": {"rnk": 1}}}}, "`stages.fine.lora` has no `rnk`"),
        ({"training": {"stepps": 1}}, "`training` has no `stepps`; did you mean `steps`"),
        ({"training": {"output_dir": "x"}}, "`training` has no `output_dir`"),
        ({"training": {"learning_rate": "fast"}}, "`training.learning_rate` is 'fast'"),
        ({"batches": {"num_positons": 1}}, "`batches` has no `num_positons`"),
        ({"batches": {"seed": 1}}, "`batches` has no `seed`"),
        ({"lora": {"rnk": 1}}, "`lora` has no `rnk`; did you mean `rank`"),
        ({"lora": {"rank": "four"}}, "`lora.rank` is 'four'"),
        ({"lora": {"rank": 0}}, "`rank`"),
        ({"validation": {"shar": 0.1}}, "`validation` has no `shar`; did you mean `share`"),
        ({"validation": {"every": "often"}}, "`validation.every` is 'often'"),
        ({"validation": {"share": 0.9}}, "share"),
        ({"replay": {"share": 0.2}}, "`replay` takes a `corpus` and a `share`"),
        ({"probe": {"voice": "x"}}, "`probe` has no `voice`; did you mean `voices`"),
        ({"probe": {"texts": "a cat"}}, "`probe.texts` is 'a cat'; it must be a list"),
    ],
)
def test_a_wrong_config_fails(config, values, message):
    values = {"probe": {"texts": []}, "samples": [], **values}
    with pytest.raises(SystemExit, match=message):
        run(config(**values))


def test_qlora_needs_bitsandbytes_and_a_gpu(config, monkeypatch):
    monkeypatch.setattr(finetuning.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install bitsandbytes"):
        run(config(method="qlora"))
    monkeypatch.setattr(finetuning.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="needs a GPU"):
        qlora = BarkTrainingConfig(bark="x", data="x", output_dir="x", method="qlora")
        finetuning.load_for_training(qlora, torch.device("cpu"))


def test_recordings_become_a_merged_bark_by_the_commands_of_the_docstring(config, tmp_path, bark_folder, capsys):
    save_tiny_encoder(tmp_path / "encoder")
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for number in range(4):
        save_audio(recordings / f"{number}.wav", noise(1.5, number, 24_000), 24_000)
    texts = {"0": "one dog runs", "1": "two cats", "2": "three", "3": "the man laughs", "nowhere": "a cat"}
    (recordings / "metadata.csv").write_text("\n".join(f"{name}|{text}" for name, text in texts.items()))
    options = ["--output", str(tmp_path / "data"), "--bark", bark_folder, "--encoder", str(tmp_path / "encoder")]
    main(["prepare", str(recordings), *options, "--device", "cpu"])
    out = capsys.readouterr().out
    assert "Left out: 1 of 5 recordings." in out and "1  no file  nowhere\n" in out and "--audio-folder" in out
    assert "4 of 5 recordings, 0.1 minutes, 1 voices" in out
    with pytest.raises(SystemExit, match="encoder"):  # that folder is of one encoder
        main(["prepare", str(recordings), *options, str(tmp_path / "encoder"), "--device", "cpu"])
    again = ["--output", str(tmp_path / "several"), *options[2:], str(tmp_path / "encoder"), "--encoder-weights"]
    main(["prepare", str(recordings), *again, "2", "1", "--device", "cpu"])
    described = json.loads((tmp_path / "several" / "corpus.json").read_text())
    assert (described["encoder"], described["encoder_weights"]) == (["encoder", "encoder"], [2.0, 1.0])
    run(config(data=str(tmp_path / "data"), stages=["semantic"], samples=[], probe={"texts": []}))
    adapter, merged = str(tmp_path / "run" / "adapter"), tmp_path / "merged"
    main(["merge", adapter, "--bark", bark_folder, "--output", str(merged)])
    bark, expected = BarkModel.from_pretrained(merged).eval(), tiny_bark()
    load_adapters(expected, adapter)
    ids = torch.arange(20)[None]
    assert torch.allclose(bark.semantic(ids).logits, expected.semantic(ids).logits, atol=1e-5)
    assert BarkProcessor.from_pretrained(merged).available_voice_presets == ["v2/en_a", "announcer"]
    main(["push", adapter, "me/my-voice", "--license", "cc-by-4.0", "--dry-run"])
    assert "these files go to me/my-voice" in capsys.readouterr().out


def test_a_bark_whose_layers_share_a_mask_is_saved(tmp_path):
    tiny = tiny_bark()
    tiny.config.semantic_config.num_layers = 2
    bark = BarkModel(tiny.config).eval()
    bark.generation_config = tiny.generation_config
    first, second = bark.semantic.layers
    second.attn.bias = first.attn.bias  # as in a checkpoint that was pickled so
    save_bark(bark, tiny_bark_processor(), tmp_path / "bark")
    saved = load_bark(str(tmp_path / "bark"))[0].state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in bark.state_dict().items())
