"""Batches of utterances: held-out, replay and validation batches, and a voice prompt of them."""

from dataclasses import replace

import numpy as np
import pytest

from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.bark.examples import Utterance
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.trainers.bark_batches import ReplayBatches, judged_batches, split_held_out, voice_prompt_of
from tiny import random_codes, tiny_bark


@pytest.fixture(scope="module")
def configs():
    return bark_generation_configs(tiny_bark())


def utterances(count: int, voice: str = "a", seed: int = 0) -> list[Utterance]:
    made = []
    for number in range(count):
        rng, codes = np.random.default_rng(seed + number), random_codes(num_codec_frames(60), number)
        text_ids, tokens = rng.integers(0, 20, 5), rng.integers(0, 50, 60)
        made.append(Utterance(text_ids, tokens, codes, voice=voice, id=f"{voice}{number}"))
    return made


def test_held_out_utterances_share_no_text_with_the_others_and_stay_the_same():
    clips = utterances(40)
    clips += [replace(clip, id=f"again {clip.id}") for clip in clips]
    training, held_out = split_held_out(clips, 0.1)
    assert 8 <= len(held_out) <= 9 and len(training) + len(held_out) == 80
    assert not {u.text_ids.tobytes() for u in training} & {u.text_ids.tobytes() for u in held_out}
    _, of_fewer = split_held_out(clips[:60], 0.1)
    assert {u.id for u in of_fewer} & {u.id for u in held_out}
    assert [len(part) for part in split_held_out(clips[:2], 0.01)] == [1, 1]
    for wrong, share in ((clips, 0.0), (clips, 0.9), ([clips[0]], 0.1), ([clips[0], clips[40]], 0.1)):
        with pytest.raises(ValueError, match="share|two texts"):
            split_held_out(wrong, share)


def test_replayed_examples_have_their_share(configs):
    own, bark = utterances(4), utterances(4, "bark", seed=10)
    options = {"replay": bark, "replay_share": 0.25, "history_probability": 0.0}
    batches, rng = ReplayBatches(own, configs, "semantic", **options), np.random.default_rng(0)
    theirs = {utterance.semantic_tokens.tobytes() for utterance in bark}
    share = np.mean([batches.example(rng)["labels"][:-1].tobytes() in theirs for _ in range(400)])
    assert 0.18 < share < 0.32
    for wrong in ({"replay": bark}, {"replay_share": 0.2}, {"replay": bark, "replay_share": 1.0}):
        with pytest.raises(ValueError, match="replayed"):
            ReplayBatches(own, configs, "semantic", **wrong)


@pytest.mark.parametrize("stage", ["semantic", "coarse", "fine"])
def test_judged_batches_are_always_the_same_and_hold_every_utterance(configs, stage):
    clips = utterances(5) + utterances(1, "alone")
    first, again = (judged_batches(clips, configs, stage, num_positions=3_000) for _ in range(2))
    assert all((a[name] == b[name]).all() for a, b in zip(first, again, strict=True) for name in a)
    assert sum(len(batch["labels"]) for batch in first) == 11  # with and without a history, but for the lonely one
    assert sum(len(batch["labels"]) for batch in judged_batches(clips, configs, stage, histories=[None] * 6)) == 6


def test_the_voice_prompt_is_of_the_commonest_voice_and_ends_with_its_longest_clip(configs):
    clips = utterances(7) + utterances(2, "b")
    long = Utterance(np.arange(3), np.arange(90) % 50, random_codes(num_codec_frames(90)), voice="a", id="long")
    prompt = voice_prompt_of([*clips, long], configs)
    assert prompt.semantic_tokens[-90:].tolist() == long.semantic_tokens.tolist()
    assert 256 <= prompt.num_tokens <= 341 and prompt.semantic_vocab_size == 50
