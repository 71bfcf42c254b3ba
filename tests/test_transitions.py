"""Transition counts of neighbouring tokens, and the predictions that they reweight."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from hf_bark_semantic.configuration_bark_semantic import BarkSemanticEncoderConfig
from hf_bark_semantic.heads_bark_semantic import DISCOUNT, NUM_CANDIDATES, TokenTransitions
from hf_bark_semantic.modeling_bark_semantic import BarkSemanticEncoderModel
from tiny import noise, tiny_encoder

CODES = {"codec_hidden_size": 8}
MAPPED_FILES = Path("/proc/self/maps")
STRINGS = [[0, 1, 2, 1, 2], [2, 1, 0, 0, 3], [0, 1, 2, 1, 2]]  # the last one counts once, with the first one


def transitions_of(strings, vocab_size: int, weight: float = 0.5) -> TokenTransitions:
    transitions = TokenTransitions(BarkSemanticEncoderConfig(vocab_size=vocab_size, transition_weight=weight, **CODES))
    transitions.count(strings)
    return transitions


def reweighted(transitions: TokenTransitions, logits: torch.Tensor, mask=None, at_once: int = 3) -> torch.Tensor:
    """Logits, given in parts, with those of the candidates replaced."""
    return logits.scatter(-1, *transitions(logits.split(at_once, dim=1), mask))


def gain(first: int, second: int, vocab_size: int) -> float:
    """By the definition, over the two different strings."""
    strings = STRINGS[:2]
    tokens = [token for string in strings for token in string]
    share = (tokens.count(second) + 0.5) / (len(tokens) + 0.5 * vocab_size)
    behind = [b for string in strings for a, b in itertools.pairwise(string) if a == first]
    if not behind:
        return 0.0
    rest = DISCOUNT * len(set(behind)) / len(behind)
    return math.log((max(behind.count(second) - DISCOUNT, 0) / len(behind) + rest * share) / share)


def test_gains_are_those_of_absolute_discounting():
    transitions = transitions_of(STRINGS, 6)
    for first, second in itertools.product(range(6), repeat=2):
        found = transitions._gains(torch.tensor([[[first], [second]]]))
        assert found.item() == pytest.approx(gain(first, second, 6), abs=1e-5)
    assert [divmod(pair, 6) for pair in transitions.pairs.tolist()] == [(0, 0), (0, 1), (0, 3), (1, 0), (1, 2), (2, 1)]


def test_the_chain_gives_what_all_its_paths_give():
    torch.manual_seed(0)
    transitions, logits = transitions_of(STRINGS, 4), torch.randn(1, 4, 4)
    expected = torch.zeros(4, 4)
    for path in itertools.product(range(4), repeat=4):
        score = sum(logits[0, i, token].item() for i, token in enumerate(path))
        score += 0.5 * sum(gain(a, b, 4) for a, b in itertools.pairwise(path))
        for i, token in enumerate(path):
            expected[i, token] += math.exp(score)
    expected /= expected.sum(-1, keepdim=True)
    assert torch.allclose(reweighted(transitions, logits)[0].softmax(-1), expected, atol=1e-5)


def test_only_candidates_are_weighed_and_they_keep_their_probability():
    torch.manual_seed(0)
    vocab_size = NUM_CANDIDATES + 30
    strings = torch.randint(vocab_size, (50, 40)).tolist()
    logits = torch.randn(2, 9, vocab_size)
    transitions = transitions_of(strings, vocab_size)
    changed = reweighted(transitions, logits)
    assert torch.equal(changed, reweighted(transitions, logits, at_once=9))
    candidates = logits.topk(NUM_CANDIDATES).indices
    others = torch.ones_like(logits, dtype=torch.bool).scatter(-1, candidates, False)
    assert torch.equal(changed[others], logits[others])
    assert not torch.allclose(changed, logits)
    assert torch.allclose(changed.logsumexp(-1), logits.logsumexp(-1), atol=1e-5)


def test_padding_says_nothing_about_a_row():
    torch.manual_seed(0)
    transitions, logits = transitions_of(STRINGS, 6), torch.randn(1, 7, 6)
    padded = torch.cat([logits[:, :5], 9 * torch.randn(1, 2, 6)], dim=1)
    mask = torch.tensor([[True] * 5 + [False] * 2])
    alone = reweighted(transitions, logits[:, :5])
    assert torch.allclose(reweighted(transitions, padded, mask)[:, :5], alone, atol=1e-5)


def test_an_encoder_reads_with_its_transitions_and_keeps_them(tmp_path):
    plain, model = tiny_encoder(), tiny_encoder(transition_weight=1.0)
    model.load_state_dict(plain.state_dict(), strict=False)
    inputs = torch.from_numpy(noise(1.0))[None]
    expected = plain.encode(inputs, top_k=5)
    assert torch.equal(model.encode(inputs).semantic_tokens, expected.semantic_tokens)  # no pair is known yet
    guesses = expected.top_k_tokens[0]
    other = [*guesses[:-1, 0].tolist(), guesses[-1, 1].item()]
    model.transitions.count([other])
    model.config.num_transitions = len(model.transitions.pairs)
    tokens = model.encode(inputs).semantic_tokens
    assert not torch.equal(tokens, expected.semantic_tokens)
    model.save_pretrained(tmp_path)
    loaded = BarkSemanticEncoderModel.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded.encode(inputs).semantic_tokens, tokens)
    waveforms = torch.from_numpy(noise(2.0))[None].repeat(2, 1)
    attention_mask = torch.ones_like(waveforms, dtype=torch.long)
    attention_mask[0, 16_000:] = 0
    waveforms[0, :16_000] = inputs
    assert torch.equal(model.encode(waveforms, attention_mask).semantic_tokens[0, : tokens.shape[1]], tokens[0])


@pytest.mark.skipif(not MAPPED_FILES.exists(), reason="the system doesn't say which files are in memory")
def test_the_file_of_weights_that_were_converted_does_not_stay_in_memory(tmp_path):
    model = tiny_encoder(transition_weight=1.0).half()
    model.transitions.count(STRINGS)
    model.config.num_transitions = len(model.transitions.pairs)
    model.save_pretrained(tmp_path)
    loaded, _ = BarkSemanticEncoderModel.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert torch.equal(loaded.transitions.pairs, model.transitions.pairs)
    assert str(tmp_path) not in MAPPED_FILES.read_text()
