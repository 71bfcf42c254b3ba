"""The study of precision, end to end on a tiny Bark, artificial voices and scorers."""

import json

import numpy as np
import pytest
import torch

import compare_precision
from hf_bark_semantic.bark.configs import bark_generation_configs
from tiny import save_tiny_encoder, tiny_bark


@pytest.fixture
def options(voices, tmp_path, bark_folder) -> list[str]:
    save_tiny_encoder(tmp_path / "encoder")
    places = [str(voices), "--encoder", str(tmp_path / "encoder"), "--bark", bark_folder]
    return [*places, "--output", str(tmp_path / "study"), "--limit", "2", "--token-requests", "2", "--rounds", "1"]


def test_conditions_are_compared_with_float32_and_what_changes_nothing_has_no_difference(
    options, scorers, tmp_path, capsys, monkeypatch
):
    options = [*options, "--conditions", "int8", "window=60"]
    summary = compare_precision.main(options, scorers)
    assert [row["condition"] for row in summary["rows"]] == [
        "original", "float32", "int8", "window=60",
    ]  # fmt: skip
    tokens = {row["condition"]: row["models"] for row in summary["tokens"]}
    for figures in tokens["window=60"].values():
        assert figures["equal"]["value"] == 1 and figures["first_difference_s"] is None
        assert figures["requests_without_difference"] == figures["requests"] == 2
    same = [row for row in summary["comparisons"] if row["first"] == "window=60"]
    assert {row["figure"] for row in same} >= {"mos", "similarity/pitch"} and all(row["value"] == 0 for row in same)
    out = capsys.readouterr().out
    assert "| window=60 | coarse | 100.0% [100.0, 100.0] | 2 of 2 |" in out
    assert json.loads((tmp_path / "study" / "summary.json").read_text())["tokens"] == summary["tokens"]
    monkeypatch.setattr(compare_precision, "run_trials", None)
    monkeypatch.setattr(compare_precision, "greedy_stages", None)
    assert compare_precision.main(options, scorers)["rows"] == summary["rows"]


def test_what_differs_in_one_model_is_not_counted_again_in_those_behind_it(options, scorers, monkeypatch):
    def other_coarse_model(bark, name):
        variant = compare_precision.deepcopy(bark)
        with torch.no_grad():
            for weight in variant.coarse_acoustics.parameters():
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        return bark if name == "float32" else variant

    monkeypatch.setattr(compare_precision, "variant_of", other_coarse_model)
    summary = compare_precision.main([*options, "--conditions", "bfloat16"], scorers)
    figures = summary["tokens"][0]["models"]
    assert [figures[stage]["equal"]["value"] == 1 for stage in ("semantic", "coarse", "fine")] == [True, False, True]
    assert figures["coarse"]["first_difference_s"] < 0.1 and figures["coarse"]["requests_without_difference"] == 0


def test_variants_leave_the_bark_as_it_is():
    bark = tiny_bark()
    before = {name: value.clone() for name, value in bark.state_dict().items()}
    half, int8, window = (compare_precision.variant_of(bark, name) for name in ("bfloat16", "int8", "window=120"))
    assert half.semantic.dtype == torch.bfloat16 and half.codec_model.dtype == torch.float32
    assert "quantized" in type(int8.coarse_acoustics.layers[0].attn.att_proj).__module__
    assert bark_generation_configs(window).coarse.sliding_window_len == 120
    assert bark_generation_configs(bark).coarse.sliding_window_len == 60
    after = bark.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [([1, 2, 3], [1, 2, 3], (3, 3, None)), ([1, 9, 3], [1, 2, 3], (2, 3, 1)), ([1, 2], [1, 2, 3], (2, 3, 2))],
)
def test_a_missing_token_is_a_wrong_one(first, second, expected):
    assert compare_precision.agreement(np.array(first), np.array(second)) == expected


def test_codes_are_read_in_the_order_of_time():
    codes = np.arange(24).reshape(8, 3)
    assert compare_precision.in_order(codes[:2], "coarse", 2).tolist() == [0, 3, 1, 4, 2, 5]
    assert compare_precision.in_order(codes, "fine", 2)[:7].tolist() == [6, 9, 12, 15, 18, 21, 7]


def test_an_unknown_condition_is_refused(options):
    with pytest.raises(SystemExit):
        compare_precision.parse([*options, "--conditions", "float8"])
