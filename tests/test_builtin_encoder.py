"""The packaged encoder: its size, its accuracy, and its reproducible output."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import hf_bark_semantic
from hf_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderProcessor
from hf_bark_semantic.audio import load_audio
from hf_bark_semantic.cli import main as cli
from hf_bark_semantic.configuration_bark_semantic import num_semantic_tokens_of_samples

FOLDER = hf_bark_semantic.default_encoder()
# (cd hf_bark_semantic/recordings; bark-semantic encode inaugural_address_1961.flac --json) > tests/golden/...1961.json
GOLDEN = json.loads((Path(__file__).parent / "golden" / "inaugural_address_1961.json").read_text())


@pytest.fixture(scope="module")
def model():
    return BarkSemanticEncoderModel.from_pretrained(FOLDER).eval()


def test_it_takes_at_most_60_mb_and_computes_in_float32(model):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 60e6
    assert {path.suffix for path in FOLDER.iterdir()} <= {".json", ".safetensors", ".md"}
    assert model.dtype == torch.float32


def test_the_golden_recording_still_has_its_tokens(model):
    waveform = load_audio(hf_bark_semantic.example_recording())
    result = model.encode(**BarkSemanticEncoderProcessor()(waveform))
    assert int(result.num_tokens[0]) == GOLDEN["num_tokens"] == num_semantic_tokens_of_samples(len(waveform)) == 549
    equal = result.semantic_tokens[0].numpy() == np.array(GOLDEN["semantic_tokens"])
    assert equal.mean() >= 0.98  # other CPUs round otherwise
    assert len(set(GOLDEN["semantic_tokens"])) > 150


def test_the_first_command_prints_tokens_and_the_measured_accuracy(capsys):
    assert cli.main(["encode", "--example"]) == 0
    captured = capsys.readouterr()
    assert "549 tokens, 11.00 s" in captured.out
    line = json.loads((FOLDER / "evaluation.json").read_text())["accuracy_line"]
    assert line in captured.err and "%" in line


def test_the_card_says_what_the_evaluation_measured():
    english = json.loads((FOLDER / "evaluation.json").read_text())["table"]["english, audio"]
    card = (FOLDER / "README.md").read_text()
    assert f"| {english['top_1']['mean']:.1%} [" in card
    assert "{" not in card.split("---")[2].split("```")[0], "an unfilled field of the template"


def test_quiet_speech_has_the_tokens_of_loud_speech(model):
    waveform = load_audio(hf_bark_semantic.example_recording())[:80_000]
    clean, quiet = model.encode(**BarkSemanticEncoderProcessor()([waveform, 0.1 * waveform])).semantic_tokens
    assert (clean == quiet).float().mean() > 0.99


def test_it_knows_the_real_clips_that_it_learnt_from(model, real_data):
    """Far above what it reaches on new voices, which the evaluation script measures with the clip held out."""
    name = "en_male_professional_reader"
    waveform = load_audio(real_data / "bark_pairs" / f"{name}.flac")
    arrays = np.load(real_data / "bark_pairs" / f"{name}.npz", allow_pickle=False)
    processor = BarkSemanticEncoderProcessor()
    for inputs in (processor(waveform), processor(audio_codes=arrays["coarse_prompt"])):
        result = model.encode(**inputs, top_k=5)
        hits = result.top_k_tokens[0].numpy() == arrays["semantic_prompt"][:, None]
        assert hits.any(-1).mean() > 0.6
