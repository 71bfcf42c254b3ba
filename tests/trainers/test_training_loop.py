"""The training loop on a model of two layers: optimizers, and continuation of killed runs."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn
from transformers.utils import ModelOutput

from hf_bark_semantic import precision
from hf_bark_semantic.trainers.loop import TrainingArguments, new_accelerator, new_optimizers, train

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch 2.9 has Muon")


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.head = nn.Linear(8, 1)

    def forward(self, ids, target):
        hidden = self.embedding(ids)
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden))
        return ModelOutput(loss=(self.head(hidden)[:, 0] - target).square().mean())


class Batches(list):
    def __init__(self, steps):
        generator = torch.Generator().manual_seed(0)
        ids = [torch.randint(10, (16,), generator=generator) for _ in range(steps)]
        super().__init__([{"ids": row, "target": (row % 3 - 1).float()}] for row in ids)


@pytest.fixture(autouse=True)
def one_process():
    AcceleratorState._reset_state(True)
    torch.manual_seed(0)


@needs_muon
def test_muon_takes_the_matrices_of_layers_and_adamw_everything_else():
    model = Regression()
    adamw, muon = new_optimizers(model, TrainingArguments("unused", optimizer="muon"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = [{names[id(p)] for group in o.param_groups for p in group["params"]} for o in (adamw, muon)]
    assert taken[1] == {"layers.0.weight", "layers.1.weight"}
    assert taken[0] == set(names.values()) - taken[1]


@needs_muon
def test_muon_follows_rates_by_prefix():
    arguments = TrainingArguments("unused", optimizer="muon", learning_rates={"layers.0": 0.0, "layers.1": 0.5})
    _, muon = new_optimizers(Regression(), arguments)
    assert [(len(group["params"]), group["lr"]) for group in muon.param_groups] == [(1, 0.5)]


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="'sgd'; it must be 'adamw' or 'muon'"):
        new_optimizers(Regression(), TrainingArguments("unused", optimizer="sgd"))


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=needs_muon)])
def test_a_run_that_was_killed_ends_with_the_same_weights(optimizer, tmp_path):
    class Killed(Exception):
        pass

    def kill(step, model):
        if step == 33:
            raise Killed

    options = {"steps": 60, "checkpoint_every": 10, "log_every": 0, "learning_rate": 0.02, "average": 0.9}
    batches, initial = Batches(60), Regression()
    weights = []
    for name, on_step in (("whole", None), ("killed", kill), ("killed", None)):
        AcceleratorState._reset_state(True)
        model = Regression()
        model.load_state_dict(initial.state_dict())
        arguments = TrainingArguments(str(tmp_path / name), optimizer=optimizer, **options)
        try:
            weights.append(train(model, batches, arguments, on_step=on_step).state_dict())
        except Killed:
            continue
    before, after = (model(**batches[0][0]).loss for model in (initial, model))
    assert after < 0.2 * before
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_auto_is_what_the_device_is_fast_in_and_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(precision, "choose_precision", lambda device: ("bf16", f"a {device.type} for bf16"))
    arguments = TrainingArguments(str(tmp_path))
    assert arguments.mixed_precision == "auto" and new_accelerator(arguments).mixed_precision == "bf16"
    assert "mixed precision: bf16 (a cpu for bf16)" in capsys.readouterr().out


def test_bf16_on_a_cpu_that_is_slower_in_it_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "bf16_time", lambda: 66.2)
    with pytest.warns(UserWarning, match="take 66.2 times as long"):
        accelerator = new_accelerator(TrainingArguments(str(tmp_path), mixed_precision="bf16"))
    assert accelerator.mixed_precision == "bf16"


def test_the_log_of_a_killed_run_has_every_step_once(tmp_path):
    arguments = TrainingArguments(str(tmp_path / "whole"), steps=7, log_every=1, checkpoint_every=3)
    model = Regression()
    first = copy.deepcopy(model)
    train(model, Batches(7), arguments)

    def killed(step, model):
        if step == 5:
            raise KeyboardInterrupt

    arguments = replace(arguments, output_dir=str(tmp_path / "killed"))
    with pytest.raises(KeyboardInterrupt):
        train(copy.deepcopy(first), Batches(7), arguments, on_step=killed)
    log = tmp_path / "killed" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 6, "lo')  # cut off
    train(first, Batches(7), arguments)
    whole, resumed = (
        [(line["step"], line["loss"], line["learning_rate"]) for line in map(json.loads, file.open())]
        for file in (tmp_path / "whole" / "log.jsonl", log)
    )
    assert resumed == whole and [step for step, *_ in whole] == [1, 2, 3, 4, 5, 6, 7]
