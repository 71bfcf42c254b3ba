"""The cost of the judges is measured per second of speech."""

import json
import time

import numpy as np
import pytest

import benchmark
import benchmark_judges
from hf_bark_semantic import save_audio


def test_costs_are_processor_seconds_per_second_of_speech(monkeypatch, capsys, tmp_path):
    judged = []

    def load(name):
        def judge(waveform):
            judged.append((name, len(waveform)))
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass

        return judge

    monkeypatch.setattr(benchmark_judges, "LOADERS", dict.fromkeys(["resemblyzer", "distillmos"], load))
    place = save_audio(tmp_path / "speech.wav", np.sin(np.arange(8_000) / 10), 16_000)
    benchmark.main(["judges", str(place), "--judges", "resemblyzer", "distillmos", "--rounds", "2"])
    measured = json.loads(capsys.readouterr().out)
    assert judged == [(name, 8_000) for name in ("resemblyzer", "distillmos") for _ in range(3)]
    costs = measured["cpu_seconds_per_second"]
    assert measured["audio_seconds"] == 0.5 and all(cost >= 0.04 for cost in costs.values())
    assert measured["cpu_seconds_per_second_of_all"] == pytest.approx(sum(costs.values()))
