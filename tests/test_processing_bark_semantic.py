"""The processor: transformers' own arguments of padding, cutting and tensors, and what it refuses."""

import numpy as np
import pytest
import torch

from hf_bark_semantic import BarkSemanticEncoderProcessor
from hf_bark_semantic.configuration_bark_semantic import CODEBOOK_SIZE
from tiny import noise, random_codes

WAVEFORMS = [noise(1.0), noise(0.5, 1)]
CODES = [random_codes(75), random_codes(38, 1, num_codebooks=2)]  # of the same seconds
processor = BarkSemanticEncoderProcessor()


def test_padding_is_to_the_longest_and_masked():
    inputs = processor(WAVEFORMS, audio_codes=CODES)
    assert inputs.input_values.shape == inputs.attention_mask.shape == (2, 16_000)
    assert inputs.attention_mask.sum(1).tolist() == [16_000, 8_000]
    assert inputs.audio_codes.shape == (2, 8, 75) and inputs.audio_codes_mask.sum(1).tolist() == [75, 38]
    assert np.array_equal(inputs.audio_codes[1, :2, :38], CODES[1])
    assert (inputs.audio_codes[1, 2:] == CODEBOOK_SIZE).all() and (
        inputs.audio_codes[1, :, 38:] == CODEBOOK_SIZE
    ).all()


@pytest.mark.parametrize(("return_tensors", "kind"), [("pt", torch.Tensor), ("np", np.ndarray)])
def test_return_tensors_names_the_kind_of_tensor(return_tensors, kind):
    inputs = processor(WAVEFORMS, audio_codes=CODES, return_tensors=return_tensors)
    assert {type(values) for values in inputs.values()} == {kind}
    expected = processor(WAVEFORMS, audio_codes=CODES)
    assert all(np.array_equal(inputs[name], values) for name, values in expected.items())


def test_without_padding_every_row_keeps_its_length_and_makes_no_tensor():
    inputs = processor(WAVEFORMS, audio_codes=CODES, padding=False, return_tensors=None)
    assert [len(row) for row in inputs["input_values"]] == [len(row) for row in inputs["attention_mask"]]
    assert [len(row) for row in inputs["input_values"]] == [16_000, 8_000]
    assert [row.shape for row in inputs["audio_codes"]] == [(8, 75), (8, 38)]
    with pytest.raises(ValueError, match="padding=True"):
        processor(WAVEFORMS, padding=False)


def test_max_length_counts_samples_and_cuts_and_pads_codes_to_the_same_time():
    options = {"padding": "max_length", "max_length": 12_000, "truncation": True}
    inputs = processor(WAVEFORMS, audio_codes=CODES, **options)
    assert inputs.input_values.shape == (2, 12_000) and inputs.attention_mask.sum(1).tolist() == [12_000, 8_000]
    assert inputs.audio_codes.shape == (2, 8, 57) and inputs.audio_codes_mask.sum(1).tolist() == [57, 38]  # 0.75 s
    assert np.array_equal(inputs.input_values[0], WAVEFORMS[0][:12_000])
    assert np.array_equal(inputs.audio_codes[0], CODES[0][:, :57])


def test_max_length_alone_cuts_nothing():
    assert processor(WAVEFORMS, max_length=100).input_values.shape == (2, 16_000)


@pytest.mark.parametrize("options", [{"truncation": True}, {"padding": "max_length"}])
def test_cutting_and_padding_to_a_length_need_that_length(options):
    for inputs in ({"audio": WAVEFORMS}, {"audio_codes": CODES}):
        with pytest.raises(ValueError, match="max_length"):
            processor(**inputs, **options)


@pytest.mark.parametrize("max_length", [0, -1, 0.5])
def test_impossible_max_length_is_refused(max_length):
    with pytest.raises(ValueError, match=f"`max_length` is {max_length}.*samples"):
        processor(WAVEFORMS, max_length=max_length)


def test_unknown_argument_is_refused_with_the_nearest_name():
    with pytest.raises(TypeError, match="no argument `sample_rate`. Did you mean `sampling_rate`"):
        processor(noise(1.0, sampling_rate=44_100), sample_rate=44_100)
    with pytest.raises(TypeError, match="no argument `images`. Its arguments are audio, sampling_rate, "):
        processor(noise(1.0), images=None)


def test_another_sampling_rate_is_refused():
    with pytest.raises(ValueError, match=r"44100 Hz; the encoder reads 16000 Hz.*load_audio"):
        processor(noise(1.0, sampling_rate=44_100), sampling_rate=44_100)
