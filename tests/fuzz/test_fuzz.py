"""Thousands of damaged and generated inputs for every door; `run.py` judges more, or repeats one."""

import os
import sys

import pytest

from fuzz.doors import DOORS
from fuzz.judge import RESULT
from fuzz.run import chunks, fuzz, summary, table

CASES = 20_000  # over all doors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures and limits workers with features of Linux")


@pytest.mark.parametrize("name", DOORS)
def test_every_input_gives_a_result_or_the_documented_error(name):
    planned = [chunk for chunk in chunks(CASES, DOORS.values()) if chunk.door == name]
    total = summary(fuzz(planned, os.cpu_count()))
    assert not total[name].problems, table(total)
    assert total[name].counts[RESULT], f"none of the inputs of {name} is read"
