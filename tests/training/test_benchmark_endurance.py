"""The benchmark of long runs detects growth and failure, and every run starts and ends."""

import pytest

import benchmark_endurance
from benchmark_endurance import RUNS, SHOWN, Run, summary, watched
from processes import free_port


def states(resident_mb):
    return [{"resident_mb": value, "threads": 1, "open_files": 3, "temporary_files": 0} for value in resident_mb]


def test_growth_is_that_after_the_warm_up():
    flat = summary(states([100.0] * 20 + [200.0] * 80))
    assert flat["growth"] == 0.0 and flat["resident_mb"] == [100.0, 200.0, 200.0, 200.0]
    grown = summary(states([200.0] * 80 + [210.0] * 20))
    assert grown["growth"] == 0.05 and grown["open_files"] == [3] * 4


def test_a_run_that_fails_is_not_measured(tmp_path):
    with pytest.raises(RuntimeError, match="ended with 2; see .*log"):
        watched(Run("main", ["encode", "--no-such-option"]), tmp_path / "temporary", tmp_path / "log", 0.01)
    assert "no-such-option" in (tmp_path / "log").read_text()


@pytest.mark.slow  # each starts Python and loads models
@pytest.mark.parametrize("name", RUNS)
def test_a_short_run_ends_with_its_figures(name, tmp_path):
    sizes = ["--files", "30", "--lines", "10", "--steps", "20", "--requests", "2", "--port", str(free_port())]
    results = benchmark_endurance.main(["--runs", name, *sizes, "--every", "0.05", "--output", str(tmp_path)])
    assert all(len(results[name][key]) == 4 for key in SHOWN)
    assert (tmp_path / "endurance.json").exists() and (tmp_path / f"{name}.log").exists()
