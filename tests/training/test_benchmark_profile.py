"""The profile of Bark's stages: every part is measured separately, with its lower bound."""

import json
from types import SimpleNamespace

import pytest
import torch

import benchmark
import benchmark_profile
import benchmark_synthesis
from benchmark_profile import PARTS, PHASES, Meter, attention_work, linear_work
from hf_bark_semantic.bark import stages, transformer


def test_every_stage_is_divided_into_its_parts(monkeypatch, capsys):
    monkeypatch.setitem(benchmark_synthesis.SHAPES, "tiny", (2, 32, 2))
    functions = transformer._linear, transformer.attend, transformer.Block.heads, stages.pick_tokens
    options = ["--shape", "tiny", "--dtypes", "float32", "--batch-sizes", "2", "--steps", "2"]
    benchmark.main(["profile", *options])
    measured = json.loads(capsys.readouterr().out)
    names = [column["name"] for column in measured["columns"]]
    rows = {row[2]: dict(zip(names, row, strict=True)) for row in measured["rows"]}
    assert tuple(rows) == PHASES
    for phase, row in rows.items():
        assert row["precision"] == "float32" and row["rows"] == "2" and row["ms"] > 0
        if phase != "codec":
            assert sum(row[part] for part in PARTS) == pytest.approx(100, abs=0.5)
            assert row["linear"] > 0 and (row["attention"] > 0) and row["roofline of all"] > 0
            assert (row["sampling"] > 0) == (not phase.endswith("prefill"))
    assert functions == (transformer._linear, transformer.attend, transformer.Block.heads, stages.pick_tokens)


def test_a_part_within_another_counts_for_itself_alone(monkeypatch):
    now = iter(range(100))
    usage = SimpleNamespace(ru_minflt=0)
    monkeypatch.setattr(benchmark_profile.resource, "getrusage", lambda who: usage)
    meter = Meter({"flop_per_second": 1.0, "byte_per_second": 1.0})
    meter.clock = lambda: next(now)

    def touch(pages):
        usage.ru_minflt += pages

    inner = meter("attention", touch)
    meter("elementwise", lambda: (touch(1), inner(2), touch(4)))()
    assert dict(meter.seconds) == {("", "elementwise"): 2, ("", "attention"): 1}  # one second between two readings
    assert dict(meter.faults) == {("", "elementwise"): 5, ("", "attention"): 2}


def test_the_least_work_is_that_of_the_shapes():
    inputs, weight = torch.zeros(2, 5, 4), torch.zeros(3, 4)
    assert linear_work(inputs, weight) == (2 * 10 * 12, 4 * (12 + 10 * 7))
    query, key = torch.zeros(2, 3, 4, 8), torch.zeros(2, 3, 6, 8)
    assert attention_work(query, key, key) == (4 * 6 * 4 * 6 * 8, 4 * 8 * 6 * (4 + 4 + 6 + 6))
    assert attention_work(query, query, query, causal=True).operations == 4 * 6 * (4 * 5 / 2) * 8
