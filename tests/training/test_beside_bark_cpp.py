"""The comparison with bark.cpp: its output becomes seconds by stage, and missing parts give an error."""

import argparse
import ctypes
import sys
from types import SimpleNamespace

import pytest

from benchmark_synthesis import STAGES, other_side
from beside_bark_cpp import bark_cpp_stages


def fake_bark_cpp(*, speaks: bool = True) -> SimpleNamespace:
    """The functions of its Python bindings that are called; it prints from C, as the real one does."""
    libc, started = ctypes.CDLL(None), []

    def generate(context, text, num_threads):
        for milliseconds in (b"1500.00", b"2500.00", b"500.00"):
            libc.printf(b"bark_print_statistics:    total time = %8s ms\n", milliseconds)
        return speaks

    def load(weights, params, seed):
        started.append(params)
        return 1

    module = SimpleNamespace(
        bark_context_default_params=lambda: SimpleNamespace(n_steps_text_encoder=768, min_eos_p=0.2),
        bark_load_model=load,
        bark_generate_audio=generate,
        bark_get_eval_time=lambda context: 5_000_000,
        bark_get_audio_data_size=lambda context: 24_000,
        bark_free=lambda context: None,
        started=started,
    )
    return module


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ggml_weights.bin").write_bytes(b"weights")
    return tmp_path


def test_seconds_by_stage_are_what_it_prints(monkeypatch, folder, capfd):
    module = fake_bark_cpp()
    monkeypatch.setitem(sys.modules, "bark_cpp", SimpleNamespace(bark_cpp=module))
    stages = bark_cpp_stages(folder, 150, 2)
    assert stages == pytest.approx({"semantic": 1.5, "coarse": 2.5, "fine": 0.5, "codec": 0.5})
    assert list(stages) == list(STAGES)
    (params,) = module.started
    assert params.n_steps_text_encoder == 150 and params.min_eos_p > 1
    assert "total time" not in capfd.readouterr().out


def test_what_is_missing_is_said(monkeypatch, folder, tmp_path_factory):
    monkeypatch.setitem(sys.modules, "bark_cpp", None)
    with pytest.raises(SystemExit, match="bark.cpp is not installed"):
        bark_cpp_stages(folder, 150, 2)
    monkeypatch.setitem(sys.modules, "bark_cpp", SimpleNamespace(bark_cpp=fake_bark_cpp(speaks=False)))
    with pytest.raises(SystemExit, match="bark.cpp failed.*total time"):
        bark_cpp_stages(folder, 150, 2)
    with pytest.raises(SystemExit, match="has no ggml_weights.bin"):
        bark_cpp_stages(tmp_path_factory.mktemp("empty"), 150, 2)


@pytest.mark.parametrize("beside", [["bark.cpp"], ["bark.cpp", "a", "b"], ["llama.cpp"], ["transformers", "a"]])
def test_other_sides_are_refused(beside):
    args = argparse.Namespace(beside=beside, case="single", shape="small", utterances=8, their_utterances=None)
    with pytest.raises(SystemExit, match="--beside"):
        other_side(None, args)
