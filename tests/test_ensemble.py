"""Ensembles of encoders: mean, windows, and encoders that cannot be combined."""

import numpy as np
import pytest
import torch

from hf_bark_semantic.ensemble import EncoderEnsemble, one_encoder
from tiny import noise, random_codes, save_tiny_encoder, tiny_encoder


def waveform(seconds: float) -> torch.Tensor:
    return torch.from_numpy(noise(seconds))[None]


def log_probabilities(encoder, **inputs) -> torch.Tensor:
    """Of one input `(num_tokens, vocab_size)`, from what `encode` gives."""
    result = encoder.encode(**inputs, top_k=encoder.config.vocab_size)
    ids, confidence = result.top_k_tokens[0], result.top_k_confidence[0]
    return torch.empty(confidence.shape).scatter_(-1, ids, confidence.log())


@pytest.fixture
def community():
    """An encoder of the kind that `bark-semantic convert` makes of a quantizer."""
    return tiny_encoder("hubert", head_type="recurrent", window_s=3.0, overlap_s=0.4)


@pytest.fixture
def ours():
    """One with another backbone and head, a level, a temperature, and windows of other length."""
    config = {"backbone_layers": [1, 3], "head_type": "transformer", "codec_hidden_size": 16, "codec_weight": 0.3}
    temperatures = {"audio": 1.6, "audio+codes": 0.7}
    return tiny_encoder("whisper", **config, input_level_db=-20.0, temperatures=temperatures, window_s=4.0)


@pytest.mark.parametrize("seconds", [1.0, 9.0])
def test_one_encoder_alone_or_twice_gives_what_it_gives_itself_bit_by_bit(community, ours, seconds):
    for encoder in (community, ours):
        expected = encoder.encode(waveform(seconds), top_k=20)
        for ensemble in (EncoderEnsemble([encoder]), EncoderEnsemble([encoder, encoder], [2, 2])):
            result = ensemble.encode(waveform(seconds), top_k=20)
            assert all(torch.equal(result[name], expected[name]) for name in expected)


def test_log_probabilities_of_different_encoders_are_averaged_with_their_weights(community, ours):
    ours.config.window_s, ours.config.overlap_s = 3.0, 0.4  # so that both, alone, read the windows of the ensemble
    first, second = (log_probabilities(encoder, input_values=waveform(7.0)) for encoder in (community, ours))
    for weights, share in ((None, 0.5), ([1, 3], 0.25), ([0.9, 0.1], 0.9)):
        ensemble = EncoderEnsemble([community, ours], weights)
        expected = (share * first + (1 - share) * second).log_softmax(-1)
        torch.testing.assert_close(
            log_probabilities(ensemble, input_values=waveform(7.0)), expected, atol=1e-4, rtol=0
        )
        assert torch.equal(ensemble.encode(waveform(7.0)).semantic_tokens[0], expected.argmax(-1))


def test_every_encoder_reads_the_windows_of_the_one_with_the_shortest(community, ours):
    mixed = EncoderEnsemble([ours, community]).encode(waveform(11.0))
    ours.config.window_s, ours.config.overlap_s = community.config.window_s, community.config.overlap_s
    alike = EncoderEnsemble([ours, community]).encode(waveform(11.0))
    assert torch.equal(mixed.semantic_tokens, alike.semantic_tokens)
    assert torch.equal(mixed.confidence, alike.confidence)


def test_rows_of_a_batch_have_their_own_lengths(community, ours):
    ensemble = EncoderEnsemble([community, ours])
    short, long = noise(2.0), noise(8.0, 1)
    batch = np.stack([np.pad(short, (0, len(long) - len(short))), long])
    mask = torch.ones(batch.shape, dtype=torch.long)
    mask[0, len(short) :] = 0
    result = ensemble.encode(torch.from_numpy(batch), mask)
    assert result.num_tokens.tolist() == ours.encode(torch.from_numpy(batch), mask).num_tokens.tolist()
    for row, alone in enumerate((short, long)):
        expected = ensemble.encode(torch.from_numpy(alone)[None]).semantic_tokens[0]
        assert torch.equal(result.semantic_tokens[row, : len(expected)], expected)


def test_codes_are_read_where_every_encoder_reads_them(community, ours):
    codes = torch.from_numpy(random_codes(300))[None]
    codes_only = tiny_encoder(None, codec_hidden_size=16)
    ensemble = EncoderEnsemble([ours, codes_only])
    expected = (log_probabilities(ours, audio_codes=codes) + log_probabilities(codes_only, audio_codes=codes)) / 2
    assert torch.equal(ensemble.encode(audio_codes=codes).semantic_tokens[0], expected.argmax(-1))
    assert ensemble.backbone is None and ensemble.codec_front_end is not None
    with pytest.raises(ValueError, match="reads codes only"):
        ensemble.encode(waveform(1.0))
    with pytest.raises(ValueError, match="no codec front end"):
        EncoderEnsemble([ours, community]).encode(audio_codes=codes)


def test_encoders_that_make_no_ensemble_are_refused(community):
    with pytest.raises(ValueError, match=r"`vocab_size` of these encoders is \[50, 40\]"):
        EncoderEnsemble([community, tiny_encoder(vocab_size=40)])
    with pytest.raises(ValueError, match="some codes only"):
        EncoderEnsemble([community, tiny_encoder(None, codec_hidden_size=16)])
    codecs = [tiny_encoder(codec_hidden_size=16, codebook_size=size) for size in (1024, 512)]
    with pytest.raises(ValueError, match=r"`codebook_size` of these encoders is \[1024, 512\]"):
        EncoderEnsemble(codecs)
    with pytest.raises(TypeError, match="not of Linear"):
        EncoderEnsemble([community, torch.nn.Linear(1, 1)])
    for members, weights in (([], None), ([community], [1, 2]), ([community], [0.0]), ([community], [float("nan")])):
        with pytest.raises(ValueError, match="a weight above 0"):
            EncoderEnsemble(members, weights)
    with pytest.raises(ValueError, match="given for one encoder"):
        one_encoder(community, [1.0])


def test_an_ensemble_only_encodes(community, tmp_path):
    ensemble = EncoderEnsemble([community, community])
    with pytest.raises(ValueError, match="only encodes"):
        ensemble(waveform(1.0))
    with pytest.raises(ValueError, match="no embeddings"):
        ensemble.encode(waveform(1.0), output_embeddings=True)
    with pytest.raises(ValueError, match="one by one"):
        ensemble.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="takes a list"):
        EncoderEnsemble.from_pretrained(tmp_path)


def test_folders_and_models_are_members_alike_and_the_config_tells_the_ensembles_apart(community, tmp_path):
    folder = save_tiny_encoder(tmp_path / "other", head_type="transformer")
    ensembles = [one_encoder([community, folder], weights) for weights in (None, [1, 3])]
    loaded = ensembles[0].members[1]
    expected = EncoderEnsemble([community, loaded]).encode(waveform(2.0))
    assert torch.equal(ensembles[0].encode(waveform(2.0)).semantic_tokens, expected.semantic_tokens)
    first, second = (ensemble.config.to_json_string() for ensemble in ensembles)
    assert first != second and '"recurrent"' in first and '"transformer"' in first
