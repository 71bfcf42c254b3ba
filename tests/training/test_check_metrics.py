"""check_metrics with tones in which words and voices can be recognized exactly."""

import json
from pathlib import Path

import numpy as np
import pytest

import check_metrics
from hf_bark_semantic import save_audio
from hf_bark_semantic.configuration_bark_semantic import num_semantic_tokens
from hf_bark_semantic.evaluation.sequences import DIGITS
from hf_bark_semantic.evaluation.voice_scores import Scorers
from hf_bark_semantic.trainers.augmentation import add_noise
from html_page import Page
from tiny import tiny_bark

pytest.importorskip("pesq"), pytest.importorskip("pystoi"), pytest.importorskip("matplotlib")

RATE, WORD_S = 24_000, 0.4
VOICES = {"low": 110.0, "middle": 190.0, "high": 310.0, "higher": 410.0}


def say(words: list[str], hz: float, seed: int) -> np.ndarray:
    """A buzz of the voice's pitch, and above it one tone per word."""
    times = np.arange(int(WORD_S * RATE)) / RATE
    envelope = np.sin(np.pi * times / WORD_S) ** 0.5
    buzz = sum(np.sin(2 * np.pi * hz * k * times) / k for k in (1, 2))
    tones = [np.sin(2 * np.pi * (1_200 + 250 * DIGITS.index(word)) * times) for word in words]
    waveform = np.concatenate([0.1 * envelope * (buzz + tone) for tone in tones])
    return (waveform + 1e-4 * np.random.default_rng(seed).standard_normal(len(waveform))).astype(np.float32)


def read(waveform: np.ndarray) -> str:
    """The words whose tones stand out, in steps of one word's length."""
    size, words = int(WORD_S * 16_000), []
    for start in range(0, len(waveform) - size // 2, size):
        spectrum = np.abs(np.fft.rfft(waveform[start : start + size], size))[int(1_000 * WORD_S) :]
        peak = int(np.argmax(spectrum))
        hz = 1_000 + peak / WORD_S
        number = round((hz - 1_200) / 250)
        if 0 <= number < 10 and abs(hz - 1_200 - 250 * number) < 50 and spectrum[peak] > 50 * spectrum.mean():
            words.append(DIGITS[number])
    return " ".join(words)


def low_spectrum(waveform: np.ndarray) -> np.ndarray:
    """A speaker embedding: what sounds below 1 kHz, in bins of 25 Hz."""
    return np.abs(np.fft.rfft(waveform, 16_000))[:1_000].reshape(40, 25).mean(axis=1)


def tonality(waveform: np.ndarray) -> float:
    """An opinion score: 1 for white noise, up to 5."""
    power = np.abs(np.fft.rfft(waveform)) ** 2 + 1e-12
    return 5 - 4 * float(np.exp(np.log(power).mean()) / power.mean())


SANE = Scorers(read, {"pitch": low_spectrum}, tonality)


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    for voice, hz in VOICES.items():
        rows = []
        (folder / voice).mkdir()
        for number in range(9):
            words = [DIGITS[i] for i in rng.permutation(10)[:6]]
            save_audio(folder / voice / f"{number}.wav", say(words, hz, number), RATE)
            row = {"id": f"{voice}-{number}", "file": f"{voice}/{number}.wav", "text": " ".join(words), "voice": voice}
            rows.append({**row, "seconds": 6 * WORD_S, "held_out_text": number < 3})
        (folder / f"{voice}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def options(speech, tmp_path, monkeypatch) -> list[str]:
    """A codec that adds a little noise, as the tiny one leaves nothing to be read."""

    def trip(waveform, codec):
        return add_noise(waveform, np.random.default_rng(0).standard_normal(len(waveform)), 15).astype(np.float32)

    monkeypatch.setattr(check_metrics, "codec_trip", trip)
    tiny_bark().codec_model.save_pretrained(tmp_path / "codec")
    return [str(speech), "--codec", str(tmp_path / "codec"), "--output", str(tmp_path / "out"), "--limit", "8"]


def verdicts(summary: dict, **wanted) -> set[str]:
    checks = [check for check in summary["checks"] if all(check[name] == value for name, value in wanted.items())]
    assert checks, wanted
    return {check["verdict"] for check in checks}


def test_sane_metrics_pass_and_the_files_say_so(options, tmp_path, capsys):
    summary = check_metrics.main(options, SANE)
    assert summary["verdicts"]["FAIL"] == 0, [c for c in summary["checks"] if c["verdict"] == "FAIL"]
    assert verdicts(summary, group="speakers") == verdicts(summary, group="transcripts") == {"PASS"}
    for name in ("wer/all", "similarity/pitch", "identified/pitch", "mos", "stoi", "mcd"):
        assert verdicts(summary, claim="recording far better than noise", figure=name) == {"PASS"}
    for group, figure in (
        ("noise", "wer/all"),
        ("noise", "mos"),
        ("truncation", "wer/all"),
        ("repetition", "wer/all"),
        ("repetition", "repetition"),
        ("pause", "longest_pause_s"),
        ("pitch", "pitch_distance"),
        ("speed", "similarity/pitch"),
    ):
        assert verdicts(summary, group=group, figure=figure) <= {"PASS", "UNDECIDED"}
    assert all(check["low"] <= check["value"] <= check["high"] for check in summary["checks"])
    printed = capsys.readouterr().out
    assert "PASS" in printed and "recording far better than noise" in printed and "0 FAIL" in printed
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["verdicts"] == summary["verdicts"] and "--limit 8" in written["made"]["command"]
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert page.of("audio") and not page.of("script")


@pytest.mark.parametrize(
    ("scorers", "blamed"),
    [
        (
            Scorers(lambda waveform: "one two three", {"pitch": lambda waveform: np.ones(4)}, lambda waveform: 3.0),
            [
                ("transcripts", "wer/all"),
                ("truncation", "wer/all"),
                ("speakers", "eer/pitch"),
                ("pitch", "similarity/pitch"),
                ("ladder", "mos"),
            ],
        ),
        (Scorers(mos=lambda waveform: -tonality(waveform)), [("noise", "mos"), ("ladder", "mos")]),
    ],
)
def test_a_metric_that_notices_nothing_or_the_reverse_fails(options, scorers, blamed):
    summary = check_metrics.main([*options, "--limit", "4"], scorers)
    for group, figure in blamed:
        assert "FAIL" in verdicts(summary, group=group, figure=figure)
    assert verdicts(summary, group="ladder", claim="recording far better than noise", figure="stoi") == {"PASS"}


def test_bark_resynthesizes_the_true_tokens_as_a_rung(options, speech, tmp_path, bark_folder):
    ids = [json.loads(line)["id"] for table in speech.glob("*.jsonl") for line in table.read_text().splitlines()]
    num_tokens = num_semantic_tokens(-(-int(6 * WORD_S * RATE) // 320))
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "tokens.npz", **{name: rng.integers(0, 50, num_tokens, dtype=np.int16) for name in ids})
    bark = [*options, "--limit", "2", "--bark", bark_folder, "--tokens", str(tmp_path / "tokens.npz")]
    summary = check_metrics.main(bark, SANE)
    claims = {check["claim"] for check in summary["checks"] if check["group"] == "ladder"}
    assert {"codec better than resynthesis", "resynthesis better than noise"} <= claims
    with pytest.raises(SystemExit, match="no tokens of the clip"):
        np.savez(tmp_path / "tokens.npz", other=np.zeros(3, np.int16))
        check_metrics.main(bark, SANE)


@pytest.mark.parametrize(
    ("low", "high", "strict", "verdict"),
    [
        (0.1, 0.3, True, "PASS"),
        (0.1, 0.3, False, "PASS"),
        (0.0, 0.0, True, "FAIL"),
        (0.0, 0.0, False, "UNDECIDED"),
        (-0.1, 0.3, True, "FAIL"),
        (-0.1, 0.3, False, "UNDECIDED"),
        (-0.3, -0.1, False, "FAIL"),
    ],
)
def test_verdicts_go_by_the_interval(low, high, strict, verdict):
    assert check_metrics.verdict_of(low, high, strict) == verdict


def test_options_that_belong_together_are_asked_for_together(options, capsys):
    with pytest.raises(SystemExit):
        check_metrics.main([*options, "--bark", "nano"])
    assert "--bark and --tokens go together" in capsys.readouterr().err
