"""Settings of a stage: typos and wrong types fail at once, and a run continues only with the same settings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from hf_bark_semantic.files import fingerprint
from hf_bark_semantic.trainers.loop import TrainingArguments
from hf_bark_semantic.trainers.settings import (
    arguments_of,
    parameters_of,
    read_config,
    remember_settings,
    set_value,
)


@dataclass(frozen=True)
class Inner:
    every: int = 1
    share: float | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    rates: dict[str, float] = field(default_factory=dict)
    layers: list[int] = field(default_factory=list)
    pair: tuple[float, float] = (0.0, 1.0)
    limit: int | None = None
    inner: Inner | bool | None = None
    mode: Literal["on", "off"] = "on"
    place: Path = Path()
    names: Sequence[str] = ()
    flag: bool = False
    stages: list[str] | dict[str, dict] = field(default_factory=list)


def test_values_become_what_their_type_hints_say():
    values = {
        "name": "x", "rates": {"head": "1e-4", "backbone": 0}, "layers": [1, "2"], "pair": [5, "3e1"], "limit": "1e3",
        "inner": {"share": "1e-1"}, "place": "a/b", "names": ["c"], "stages": {"fine": {"lora": 1}},
    }  # fmt: skip
    outer = arguments_of(Outer, values, "outer")
    assert outer == Outer(
        "x", {"head": 1e-4, "backbone": 0.0}, [1, 2], (5.0, 30.0), 1_000, Inner(share=0.1), "on", Path("a/b"), ["c"],
        stages={"fine": {"lora": 1}},
    )  # fmt: skip
    assert isinstance(outer.limit, int) and isinstance(outer.pair, tuple)
    assert arguments_of(Outer, {"name": "x", "inner": True, "limit": None}, "outer").inner is True


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nme": "x"}, r"`outer` has no `nme`; did you mean `name`\?"),
        ({"name": "x", "inner": {"evry": 1}}, r"`outer.inner` has no `evry`; did you mean `every`\?"),
        ({}, "`outer` lacks `name`"),
        ({"name": True}, r"`outer.name` is True; it must be text. Put it in quotes"),
        ({"name": "x", "rates": {"head": "yes"}}, "`outer.rates.head` is 'yes'; it must be a number"),
        ({"name": "x", "rates": [1]}, r"`outer.rates` is \[1\]; it must be a section"),
        ({"name": "x", "rates": {1: 1}}, "`a key of outer.rates` is 1; it must be text"),
        ({"name": "x", "layers": "12"}, "`outer.layers` is '12'; it must be a list, each part a whole number"),
        ({"name": "x", "layers": [1.5]}, r"`outer.layers\[0\]` is 1.5; it must be a whole number"),
        ({"name": "x", "pair": [1]}, "and 2 of them"),
        ({"name": "x", "limit": True}, "`outer.limit` is True; it must be a whole number or null"),
        ({"name": "x", "limit": "nan"}, "`outer.limit` is 'nan'"),
        ({"name": "x", "mode": False}, "it must be one of 'on', 'off'. Quote"),
        ({"name": "x", "flag": "yes"}, "`outer.flag` is 'yes'; it must be true or false"),
        ({"name": "x", "flag": 1}, "`outer.flag` is 1; it must be true or false"),
        ({"name": "x", "inner": 3}, "`outer.inner` is 3; it must be a section of keys and values or true or false"),
        (None, "`outer` is None; it must be a section"),
    ],
)
def test_what_does_not_fit_is_named_with_its_rule(values, message):
    with pytest.raises(ValueError, match=message):
        arguments_of(Outer, values, "outer")


def test_rates_as_yaml_reads_them_are_numbers(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("training: {output_dir: x, learning_rate: 1e-4, learning_rates: {head: 2e-3}}")
    config = read_config(file)
    set_value(config, "training.weight_decay=5e-5")
    set_value(config, "training.mixed_precision=no")
    arguments = arguments_of(TrainingArguments, config["training"], "training")
    assert arguments.mixed_precision == "no"
    assert (arguments.learning_rate, arguments.learning_rates, arguments.weight_decay) == (1e-4, {"head": 2e-3}, 5e-5)


def test_a_file_without_sections_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("- 1")
    with pytest.raises(ValueError, match="holds a list; it must hold sections"):
        read_config(tmp_path / "config.yaml")
    with pytest.raises(FileNotFoundError, match="no recipe 'bultin'; did you mean builtin"):
        read_config("bultin")


def test_parameters_without_a_hint_have_the_type_of_their_default():
    def options(layers=(9,), dropout=0.0, size: int = 3, level=None, **others): ...

    hints = parameters_of(options)
    assert list(hints) == ["layers", "dropout", "size", "level"] and hints["dropout"] is float and hints["size"] is int


SETTINGS = {"fold": 0, "training": {"steps": 6, "rates": {"head": 0.1}, "log_every": 1}}


def test_other_settings_are_refused_by_their_names(tmp_path):
    remember_settings(tmp_path, SETTINGS)
    remember_settings(tmp_path, SETTINGS)
    other = {"fold": 1, "training": {"steps": 6, "rates": {"head": 0.1, "backbone": 0.0}, "log_every": 1}}
    with pytest.raises(ValueError, match=r"\(fold: 0 there, 1 here; training.rates.backbone: None there, 0.0 here\)"):
        remember_settings(tmp_path, other)
    assert json.loads((tmp_path / "settings.json").read_text())["fold"] == 0


def test_what_may_change_or_grow_does_not_stop_a_run(tmp_path):
    remember_settings(tmp_path, SETTINGS)
    freedom = {"may_change": ["training.log_every"], "may_grow": ["training.steps"]}
    longer = {"fold": 0, "training": {"steps": 8, "rates": {"head": 0.1}, "log_every": 5}}
    remember_settings(tmp_path, longer, **freedom)
    assert json.loads((tmp_path / "settings.json").read_text())["training"]["steps"] == 8
    with pytest.raises(ValueError, match=r"\(training.steps: 8 there, 6 here\)"):
        remember_settings(tmp_path, SETTINGS, **freedom)
    remember_settings(tmp_path, {"fold": 0, "training": {"other": 1}}, may_change=["training"])


def test_other_versions_are_a_warning(tmp_path):
    remember_settings(tmp_path, SETTINGS)
    file = tmp_path / "settings.json"
    remembered = json.loads(file.read_text())
    remembered["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(remembered))
    with pytest.warns(UserWarning, match="was started with torch 1.0"):
        remember_settings(tmp_path, SETTINGS)


def test_results_of_unknown_settings_are_not_believed(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoint.old").mkdir()
    with pytest.raises(ValueError, match="holds checkpoint.old, but no settings.json"):
        remember_settings(tmp_path, SETTINGS, results=["checkpoint*", "model.safetensors"])
    (tmp_path / "checkpoint.old").rmdir()
    remember_settings(tmp_path, SETTINGS, results=["checkpoint*"], write=False)
    assert not (tmp_path / "settings.json").exists()


def test_settings_with_which_nothing_was_computed_are_replaced(tmp_path):
    remember_settings(tmp_path, SETTINGS, results=["checkpoint*"])
    remember_settings(tmp_path, {"fold": 1}, results=["checkpoint*"])
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(ValueError, match="fold: 1 there, 0 here"):
        remember_settings(tmp_path, SETTINGS, results=["checkpoint*"])


def test_a_fingerprint_tells_rows_apart():
    rows = [("a", np.arange(3), None), ("b", np.arange(4), None)]
    others = [rows, rows[::-1], rows[:1], [("a", np.ones(3, int), None), rows[1]], [("a", np.arange(3), ""), rows[1]]]
    assert len({fingerprint(other) for other in others}) == 5
    assert fingerprint(rows) == fingerprint([list(row) for row in rows])
