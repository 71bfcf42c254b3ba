"""Ten kills and a fault of each kind; run_kills.py runs more."""

import json

import pytest

from kills import run_kills
from kills.comparison import differences
from kills.faults import FAULTS, concerns
from kills.stages import STAGES


def test_what_differs_is_named_exactly_or_up_to_rounding():
    expected = {"a": [1.0, 2], "b": {"c": "x"}, "files": {"f": True}}
    found = {"a": [1.00001, 2], "b": {"c": "y"}, "files": {"g": True}}
    assert differences(expected, expected, exact=True) == []
    assert sorted(differences(expected, found)) == [
        "b.c: 'x' expected, 'y' found", "f is missing", "g should not be there"
    ]  # fmt: skip
    assert "a[0]: 1.0 expected, 1.00001 found" in differences(expected, found, exact=True)


def test_every_stage_has_faults_and_every_fault_a_stage():
    assert all(any(concerns(fault, stage) for fault in FAULTS) for stage in STAGES.values())
    assert all(any(concerns(fault, stage) for stage in STAGES.values()) for fault in FAULTS)


@pytest.mark.slow  # forks
def test_ten_kills_change_nothing(tmp_path):
    commands = ["import_corpus", "package_encoder", "publish", "finetune_bark prepare", "train_encoder"]
    summary = run_kills.main(["--kills", "10", "--faults", "--only", *commands, "--output", str(tmp_path)])
    assert sum(figures["signals"] for figures in summary["commands"].values()) >= 10
    assert summary["not_survived"] == []


@pytest.mark.slow  # forks
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_answered_in_a_sentence_and_changes_nothing(fault, tmp_path):
    command = "publish" if fault == "hub_in_trouble" else "import_corpus"
    summary = run_kills.main(["--kills", "0", "--faults", fault, "--only", command, "--output", str(tmp_path)])
    assert summary["commands"][command]["faults"] == 1 and summary["not_survived"] == []
    assert json.loads((tmp_path / "kills.json").read_text())["not_survived"] == []
