"""The judge detects every kind of failure, and an interrupted run continues."""

import os
import socket
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

from fuzz import run
from fuzz.doors import DOORS, Door
from fuzz.judge import FAILED, REFUSED, RESULT
from fuzz.mutations import mutated
from fuzz.run import Chunk, Record, chunks, fuzz, main, summary
from hf_bark_semantic.bark.prompt_files import VoicePromptError
from hf_bark_semantic.bark.voice_prompt import VoicePrompt

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures and limits workers with features of Linux")


def with_door(monkeypatch, read, make=lambda random, folder: random.random()):
    monkeypatch.setitem(DOORS, "door", Door("door", make, read, (VoicePromptError,), 1))


def problems(read, monkeypatch, make=lambda random, folder: random.random()) -> list[str]:
    """The problems of three inputs."""
    with_door(monkeypatch, read, make)
    tally = summary(fuzz([Chunk("door", 0, 3)], 1))["door"]
    assert tally.counts[FAILED] == sum(found["count"] for found in tally.problems.values())
    return [f"{problem} {found['count']}" for problem, found in tally.problems.items()]


def test_results_and_documented_errors_pass(monkeypatch):
    def read(number):
        return number if number > 0.5 else VoicePrompt.load("missing.npz")

    with_door(monkeypatch, read)
    tally = summary(fuzz([Chunk("door", 0, 50)], 2))["door"]
    assert tally.counts.keys() == {RESULT, REFUSED} and tally.counts.total() == 50 and not tally.problems


def raise_derived(number):
    class Derived(VoicePromptError):
        pass

    raise Derived("what is documented is another")


def raise_another(number):
    raise VoicePromptError("of the right type, but not of the package: a library raised it")


def write_elsewhere(number):
    with open("../canary", "w") as file:
        file.write("x")


def connect(number):
    with socket.socket() as one:
        one.connect_ex(("127.0.0.1", 9))


WRONG = {
    "Derived in test_judge.py: raise_derived 3": raise_derived,
    "VoicePromptError in test_judge.py: raise_another 3": raise_another,
    "reading does open 3": write_elsewhere,
    "reading does socket.connect 3": connect,
    "reading does os.system 3": lambda number: os.system("true"),
    "a second reading gives something else 3": lambda number: time.monotonic_ns(),
    "writes to stdout or stderr 3": lambda number: os.write(2, b"a word of a library"),
    "takes more than 200 MB 3": lambda number: np.ones(30 * 2**20).sum(),
    "the process dies with the exit code -6 3": lambda number: os.abort(),
}


@pytest.mark.parametrize("problem", WRONG)
def test_what_is_wrong_is_seen(problem, monkeypatch):
    assert problems(WRONG[problem], monkeypatch) == [problem]


def test_the_input_at_which_a_process_dies_is_found_among_others(monkeypatch):
    with_door(monkeypatch, lambda number: os.abort() if number < 0.1 else number)
    tally = summary(fuzz([Chunk("door", 0, 40)], 1))["door"]
    deadly = [seed for seed in range(40) if Random(f"door {seed}").random() < 0.1]
    assert deadly and tally.counts == {RESULT: 40 - len(deadly), FAILED: len(deadly)}
    assert tally.problems["the process dies with the exit code -6"]["seeds"] == deadly[: run.SHOWN_SEEDS]


def test_an_input_is_not_blamed_for_the_memory_of_one_before(monkeypatch):
    with_door(monkeypatch, lambda number: np.ones(30 * 2**20).sum() if number < 0.1 else number)
    tally = summary(fuzz([Chunk("door", 0, 40)], 1))["door"]
    assert tally.counts[FAILED] == sum(Random(f"door {seed}").random() < 0.1 for seed in range(40))


def test_an_endless_loop_is_ended(monkeypatch):
    monkeypatch.setattr(run, "HANG_S", 0.5)
    assert problems(lambda number: time.sleep(60), monkeypatch) == ["no answer in 0 s 3"]


def test_a_long_computation_is_seen(monkeypatch):
    monkeypatch.setattr("fuzz.judge.MAX_SECONDS", 0.0)
    assert problems(lambda number: sum(range(1_000)), monkeypatch) == ["takes more than 0.0 s 3"]


def test_a_file_that_is_left_behind_is_seen(monkeypatch):
    def make(random, folder):
        (folder / "file").write_bytes(b"x")
        return folder

    assert problems(lambda folder: os.utime(folder / "file", (0, 0)), monkeypatch, make) == ["leaves a file behind 3"]


@pytest.mark.parametrize("name", DOORS)
def test_a_seed_is_an_input(name, tmp_path):
    inputs = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        argument = DOORS[name].make(Random(f"{name} 3"), folder)
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        inputs.append((files, None if isinstance(argument, Path) else repr(argument)))
    assert inputs[0] == inputs[1]


def test_an_empty_file_can_be_changed():
    assert any(mutated(b"", Random(seed)) for seed in range(100))


def test_cases_are_shared_out():
    doors = [Door(name, None, None, (), share) for name, share in (("quick", 3), ("slow", 1))]
    made = chunks(4_000, doors)
    counts = {name: sum(last - first for door, first, last in made if door == name) for name in ("quick", "slow")}
    assert counts == {"quick": 3_000, "slow": 1_000}
    assert {chunk.door for chunk in made[:2]} == {"quick", "slow"}


def test_a_run_goes_on_where_it_was_ended(monkeypatch, tmp_path, capsys):
    with_door(monkeypatch, lambda number: VoicePrompt.load(number))
    arguments = ["--door", "door", "--output", str(tmp_path), "--processes", "1", "--cases"]
    assert main([*arguments, "300"]) == 1
    before = Record(tmp_path).done()
    assert sum(tally.counts[FAILED] for tally in before.values()) == 300
    with open(tmp_path / "chunks.jsonl", "a") as file:
        file.write('[["door", 300, ')  # killed while it wrote
    monkeypatch.setattr(run, "fuzz", lambda planned, processes: iter([(chunk, run.Tally()) for chunk in planned]))
    assert main([*arguments, "500"]) == 1
    assert {chunk: before.get(chunk) for chunk in before}.items() <= Record(tmp_path).done().items()
    assert "TypeError" in capsys.readouterr().out
