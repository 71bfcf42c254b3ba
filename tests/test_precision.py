"""bf16 is chosen only on hardware that supports it."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from hf_bark_semantic import precision
from hf_bark_semantic.precision import choose_precision


@pytest.mark.parametrize(
    ("time", "name", "reason"),
    [(0.5, "bf16", "2.0 times as fast"), (0.9, "no", "0.9 times as long"), (66.0, "no", "66.0 times as long")],
)
def test_a_cpu_is_measured(monkeypatch, time, name, reason):
    monkeypatch.setattr(precision, "bf16_time", lambda: time)
    chosen, why = choose_precision("cpu")
    assert chosen == name and reason in why


@pytest.mark.parametrize(("capability", "name"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "no")])
def test_a_gpu_is_known_by_its_generation(monkeypatch, capability, name):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    assert choose_precision("cuda:1")[0] == name


def test_a_device_of_which_nothing_is_known_gets_float32():
    assert choose_precision("meta") == (
        "no",
        "whether bf16 is fast on meta is unknown; `mixed_precision: bf16` tries it",
    )


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the switch is of x86")
def test_a_cpu_without_bf16_instructions_gets_float32():
    """oneDNN can be limited to what most desktops have; there bf16 is some fifty times slower."""
    code = "from hf_bark_semantic.precision import choose_precision; print(*choose_precision('cpu'))"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert printed.startswith("no bf16 takes")
