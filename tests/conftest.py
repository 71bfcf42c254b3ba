"""Fixtures for several folders of tests; tiny.py has the parts that they are made of."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: tests run beside each other

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import HealthCheck, settings
from transformers.pipelines import PIPELINE_REGISTRY

from hf_bark_semantic import (
    packaged,
    precision,
)
from hf_bark_semantic.pipelines import cloning
from stub_hub import running_hub, use_hub
from tiny import corpus_row, save_tiny_encoder, tiny_bark, tiny_bark_processor, tiny_prompt

EXAMPLES = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
settings.register_profile("quick", max_examples=10, derandomize=True, **EXAMPLES)
settings.register_profile("long", max_examples=1_000, **EXAMPLES)  # pytest --hypothesis-profile long
settings.load_profile("quick")

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _float32(monkeypatch):
    """`mixed_precision: auto` means the same on every machine that tests."""
    monkeypatch.setattr(precision, "choose_precision", lambda device: ("no", "in tests"))


@pytest.fixture
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip("the real Bark artefacts are not here")
    return REAL_DATA


@pytest.fixture(scope="session")
def bark_folder(tmp_path_factory) -> str:
    """`tiny_bark` with its processor and two presets of `tiny_prompt`, as `save_pretrained` leaves them."""
    folder = tmp_path_factory.mktemp("bark")
    arrays = {name: array.astype(np.uint16) for name, array in tiny_prompt().to_dict().items()}
    tiny_bark().save_pretrained(folder)
    presets = {"v2/en_a": arrays, "announcer": arrays}
    tiny_bark_processor(presets, tmp_path_factory.mktemp("presets")).save_pretrained(str(folder))
    return str(folder)


@pytest.fixture
def package_with_nano(bark_folder, tmp_path, monkeypatch) -> Path:
    """A package whose nano and encoders are tiny ones; the built-in encoder has 40 tokens, nano's 50."""
    for name, vocab_size in (("BUILTIN_ENCODER", 40), ("NANO_ENCODER", 50)):
        save_tiny_encoder(tmp_path / name, vocab_size=vocab_size)
        monkeypatch.setattr(packaged, name, tmp_path / name)
    monkeypatch.setattr(packaged, "NANO_BARK", Path(bark_folder))
    tasks = {**PIPELINE_REGISTRY.supported_tasks}
    del tasks[cloning.VOICE_CLONING_TASK]
    monkeypatch.setattr(PIPELINE_REGISTRY, "supported_tasks", tasks)
    cloning.register_pipeline()
    return tmp_path


@pytest.fixture
def corpus(tmp_path) -> str:
    rows = [corpus_row(seed, fold=seed % 2) for seed in range(4)]
    rows += [corpus_row(seed, source="prompt", fold=seed % 2, with_audio=False) for seed in range(4, 8)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "corpus")
    return str(tmp_path / "corpus")


@pytest.fixture
def hub():
    with running_hub() as server:
        yield server


@pytest.fixture
def online(hub, tmp_path, monkeypatch):
    """The stub Hub, which this Python takes for the real one."""
    use_hub(hub, tmp_path / "cache", monkeypatch)
    return hub
