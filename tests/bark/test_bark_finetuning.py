"""Bark's training examples match inference: teacher forcing predicts the tokens of transformers' `generate`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import (
    BarkCoarseConfig,
    BarkFineConfig,
    BarkSemanticConfig,
    GenerationConfig,
)
from transformers.models.bark.generation_configuration_bark import BarkGenerationConfig
from transformers.models.bark.modeling_bark import BarkBlock, BarkCoarseModel, BarkFineModel, BarkSemanticModel

from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.bark.examples import (
    Utterance,
    coarse_example,
    collate,
    fine_example,
    join_utterances,
    semantic_example,
)
from hf_bark_semantic.bark.losses import LOSSES, block_states
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.trainers.bark_batches import UtteranceBatches, random_example
from hf_bark_semantic.trainers.loop import TrainingArguments, train
from hf_bark_semantic.trainers.shares import Share

VOCAB, CODES = 50, 16  # semantic tokens, and codes of a codebook
GENERATION = {
    "semantic_config": {
        "eos_token_id": VOCAB,
        "text_encoding_offset": 60,
        "text_pad_token": 95,
        "semantic_infer_token": 96,
        "semantic_vocab_size": VOCAB,
        "max_input_semantic_length": 24,
        "max_new_tokens": 60,
    },
    "coarse_acoustics_config": {
        "coarse_semantic_pad_token": VOCAB + 2 * CODES,
        "coarse_infer_token": VOCAB + 2 * CODES + 1,
        "max_coarse_input_length": 28,
        "max_coarse_history": 70,
        "sliding_window_len": 20,
    },
    "fine_acoustics_config": {"max_fine_history_length": 32, "max_fine_input_length": 64},
    "codebook_size": CODES,
    "sample_rate": 24_000,
}
SHAPE = {"num_layers": 2, "num_heads": 2, "hidden_size": 32, "block_size": 128}
CONFIGS = bark_generation_configs(GenerationConfig(**GENERATION))
MODELS = {
    "semantic": (BarkSemanticModel, BarkSemanticConfig(input_vocab_size=97, output_vocab_size=56, **SHAPE)),
    # The output has no ids beyond the second codebook's, which transformers would let the odd steps generate.
    "coarse": (
        BarkCoarseModel,
        BarkCoarseConfig(input_vocab_size=VOCAB + 2 * CODES + 2, output_vocab_size=VOCAB + 2 * CODES, **SHAPE),
    ),
    "fine": (BarkFineModel, BarkFineConfig(input_vocab_size=CODES + 4, output_vocab_size=CODES + 4, **SHAPE)),
}
COARSE_IDS = [range(VOCAB, VOCAB + CODES), range(VOCAB + CODES, VOCAB + 2 * CODES)]
STAGES = list(LOSSES)


def stage_loss(stage: str, **options):
    """A random model whose weights are large enough that its output varies, in its loss."""
    torch.manual_seed(0)
    class_, config = MODELS[stage]
    model = class_(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return LOSSES[stage](model, CONFIGS, **options).eval()


def utterance(num_tokens: int, seed: int = 0, **fields) -> Utterance:
    rng = np.random.default_rng(seed)
    fields = {"voice": "a", "id": str(seed), **fields}
    codes = rng.integers(0, CODES, (8, CONFIGS.num_frames(num_tokens)))
    return Utterance(rng.integers(0, 30, 9), rng.integers(0, VOCAB, num_tokens), codes, **fields)


def prompt(history: Utterance | None):
    if history is None:
        return None
    tokens, codes = torch.from_numpy(history.semantic_tokens), torch.from_numpy(history.audio_codes)
    return {"semantic_prompt": tokens, "coarse_prompt": codes[:2], "fine_prompt": codes}


def predictions(loss, example) -> torch.Tensor:
    """What the model says, and should say, at the targets of one example."""
    with torch.no_grad():
        logits, classes = loss.target_logits(**collate([example], CONFIGS))
    return logits.argmax(-1), classes


def all_logits(model, stage, batch) -> torch.Tensor:
    """What transformers' own forward says at every position of the labels."""
    if stage == "coarse":
        return model(batch["input_ids"]).logits
    if stage == "fine":
        rows = zip(batch["codebook"], batch["codes"], strict=True)
        return torch.cat([model(int(codebook), codes[None]).logits for codebook, codes in rows])
    embed = model.input_embeds_layer
    prefix = embed(batch["text_ids"]) + embed(batch["history_ids"])
    logits = model(inputs_embeds=torch.cat([prefix, embed(batch["input_ids"])], 1)).logits
    return logits[:, prefix.shape[1] :]


def generated_coarse(loss, tokens, history) -> np.ndarray:
    ids = loss.model.generate(
        torch.from_numpy(tokens)[None].clone(),
        semantic_generation_config=CONFIGS.semantic,
        coarse_generation_config=CONFIGS.coarse,
        codebook_size=CODES,
        history_prompt=prompt(history),
    )
    return ids[0].numpy()


def with_coarse(clip: Utterance, ids: np.ndarray) -> Utterance:
    codes = clip.audio_codes.copy()
    codes[:2] = (ids - VOCAB).reshape(-1, 2).T - np.array([[0], [CODES]])
    return replace(clip, audio_codes=codes)


def generated_fine(loss, clip, history) -> tuple[np.ndarray, list]:
    """The codes, and what the model was shown on the way: (codebook, codes of the window)."""
    shown, forward = [], loss.model.forward

    def listen(codebook, codes):
        shown.append((codebook, codes[0].T.clone().numpy()))
        return forward(codebook, codes)

    loss.model.forward = listen
    ids = torch.from_numpy((clip.audio_codes[:2] + np.array([[VOCAB], [VOCAB + CODES]])).T.reshape(1, -1))
    codes = loss.model.generate(
        ids,
        semantic_generation_config=CONFIGS.semantic,
        coarse_generation_config=CONFIGS.coarse,
        fine_generation_config=CONFIGS.fine,
        codebook_size=CODES,
        history_prompt=prompt(history),
    )
    del loss.model.forward
    return codes[0].numpy(), shown


@pytest.mark.parametrize(
    "history, ends",
    [(None, False), (utterance(9, 1), False), (utterance(40, 1), False), (None, True)],
    ids=["none", "short", "long", "end"],
)
def test_semantic_teacher_forcing_predicts_what_greedy_generation_says(history, ends):
    loss, clip = stage_loss("semantic"), utterance(1, seed=1)
    if ends:
        loss.model.lm_head.weight.data[VOCAB] *= 2
    length = CONFIGS.semantic.max_input_semantic_length
    text = torch.zeros(1, length, dtype=torch.long)
    text[0, : len(clip.text_ids)] = torch.from_numpy(clip.text_ids)
    mask = (torch.arange(length) < len(clip.text_ids)).long()[None]
    tokens = loss.model.generate(
        text, semantic_generation_config=CONFIGS.semantic, history_prompt=prompt(history), attention_mask=mask
    )[0].numpy()
    complete = tokens[-1] == VOCAB
    tokens = tokens[:-1] if complete else tokens
    said, right = predictions(
        loss, semantic_example(replace(clip, semantic_tokens=tokens, complete=complete), history, CONFIGS)
    )
    assert complete == ends and len(set(tokens)) > 8 and len(right) == len(tokens) + complete
    assert said.tolist() == right.tolist()


@pytest.mark.parametrize(
    "history", [None, utterance(14, 1), utterance(17, 2), utterance(60, 3)], ids=lambda h: h and h.id
)
def test_every_coarse_window_predicts_what_greedy_generation_says(history):
    loss, clip = stage_loss("coarse"), utterance(57)
    ids = generated_coarse(loss, clip.semantic_tokens, history)
    clip = with_coarse(clip, ids)
    said, right = [], []
    for step in range(0, len(ids), CONFIGS.coarse.sliding_window_len):
        example = coarse_example(clip, history, CONFIGS, num_generated=step, past_targets=False)
        window = predictions(loss, example)
        said += window[0].tolist()
        right += window[1].tolist()
    assert len(right) == len(ids) == 2 * clip.num_frames and len(set(ids)) > 14
    assert said == right


@pytest.mark.parametrize("history", [None, utterance(14, 1)], ids=["none", "history"])
def test_one_coarse_crop_stands_for_all_windows_before_the_first_that_slides(history):
    loss, clip = stage_loss("coarse"), utterance(57)
    clip = with_coarse(clip, generated_coarse(loss, clip.semantic_tokens, history))
    num_past = 0 if history is None else round(14 * CONFIGS.coarse_per_token) - 2
    last = (CONFIGS.coarse.max_coarse_history - num_past) // 20 * 20
    said, right = predictions(loss, coarse_example(clip, history, CONFIGS, num_generated=last))
    assert len(right) == last + 20
    assert said.tolist() == right.tolist()


def test_random_coarse_crops_cover_every_id_and_start_with_the_first_codebook():
    clip, rng = utterance(57), np.random.default_rng(0)
    seen, lengths = set(), set()
    for _ in range(100):
        example = random_example("coarse", clip, None, CONFIGS, rng)
        labels = example["labels"][example["labels"] != -100]
        assert (labels[::2] < VOCAB + CODES).all() and (labels[1::2] >= VOCAB + CODES).all()
        seen.add(tuple(labels[-10:]))
        lengths.add(len(labels))
    ids = (clip.audio_codes[:2] + np.array([[VOCAB], [VOCAB + CODES]])).T.reshape(-1)
    ends = range(80, len(ids) + 19, 20)  # the first window slides behind 60 generated ids
    assert seen == {tuple(ids[:end][-10:]) for end in ends}
    assert max(lengths) == CONFIGS.coarse.max_coarse_history + CONFIGS.coarse.sliding_window_len


def test_coarse_history_is_a_target_only_on_demand():
    clip, history = utterance(20), utterance(30, 1)
    counts = [
        (coarse_example(clip, history, CONFIGS, history_targets=targets)["labels"] != -100).sum()
        for targets in (False, True)
    ]
    num_past = round(CONFIGS.history_lengths.coarse_tokens * CONFIGS.coarse_per_token) - 2
    assert counts == [20, 20 + num_past]


@pytest.mark.parametrize(
    "num_tokens, history",
    [(44, None), (43, None), (20, None), (20, utterance(14, 1)), (43, utterance(40, 1)), (65, utterance(30, 1))],
    ids=["a window", "a window", "short", "short history", "two windows", "three windows"],
)
def test_fine_teacher_forcing_predicts_what_greedy_generation_says(num_tokens, history):
    """The windows of the longer clips don't overlap; where they do, inference overwrites what it saw."""
    loss, clip = stage_loss("fine"), utterance(num_tokens)
    length, hop = CONFIGS.fine.max_fine_input_length, CONFIGS.fine.max_fine_history_length
    num_past = 0 if history is None else min(hop, history.num_frames)
    if num_past + clip.num_frames > length:
        clip = replace(clip, audio_codes=clip.audio_codes[:, : clip.num_frames // hop * hop])
    generated, shown = generated_fine(loss, clip, history)
    clip = replace(clip, audio_codes=generated)
    num_windows = len(shown) // 6
    assert num_windows == max(1, 1 + -(-(num_past + clip.num_frames - length) // hop))
    num_right = 0
    for window in range(num_windows):
        for codebook, codes in shown[6 * window : 6 * window + 6]:
            start = window * hop
            num_frames = num_past + clip.num_frames - start
            example = fine_example(
                clip,
                history,
                CONFIGS,
                codebook=codebook,
                start=start,
                num_known=num_past if start == 0 else hop,
                tail_codes=codes[:, num_frames:],
            )
            assert np.array_equal(example["codes"][:, : codebook + 1].T, codes[: codebook + 1])
            said, right = predictions(loss, example)
            assert said.tolist() == right.tolist()
            num_right += len(right)
    assert num_right >= 6 * clip.num_frames and len(np.unique(clip.audio_codes[2:])) > 5


def test_codes_behind_the_end_decide_what_the_fine_model_says():
    """Why they are part of the layout: transformers leaves its guesses there, so padding alone is not what it runs."""
    loss, clip = stage_loss("fine"), utterance(20)
    clip = replace(clip, audio_codes=generated_fine(loss, clip, None)[0])
    equal = []
    for codebook in (2, 3):
        said, right = predictions(loss, fine_example(clip, None, CONFIGS, codebook=codebook))
        equal.append((said == right).all().item())
    assert equal == [True, False]


def test_overlapping_fine_windows_show_the_model_what_it_is_to_predict():
    """Why known frames are targets sometimes: transformers predicts them anew and keeps the second answer."""
    loss, clip, history = stage_loss("fine"), utterance(30), utterance(40, 1)
    _, shown = generated_fine(loss, clip, history)
    _, last_window = shown[-6]  # before its first codebook is predicted
    num_new = CONFIGS.fine.max_fine_input_length - CONFIGS.fine.max_fine_history_length
    predicted_again = last_window[2, -num_new:] != CODES
    assert 0 < predicted_again.sum() < num_new


def test_random_fine_windows_hide_what_inference_does_not_know():
    rng, clips = np.random.default_rng(0), [utterance(n, n) for n in (12, 30, 90)]
    length, most = CONFIGS.fine.max_fine_input_length, CONFIGS.fine.max_fine_history_length
    num_known, copied, codebooks = set(), 0, set()
    for draw in range(300):
        clip, history = clips[draw % 3], utterance(40, 1) if draw % 2 else None
        example = random_example("fine", clip, history, CONFIGS, rng)
        codes, labels, codebook = example["codes"], example["labels"], int(example["codebook"])
        inside = codes[:, 0] != CODES
        hidden = inside & (codes[:, codebook] == CODES)
        assert codes.shape == (length, 8) and (codes[inside, :codebook] < CODES).all()
        assert (labels[hidden] >= 0).all() and (labels[~inside] == -100).all()
        if (labels[inside & ~hidden] >= 0).any():
            copied += 1
        else:
            num_known.add(int((inside & ~hidden).sum()))
        codebooks.add(codebook)
    assert codebooks == set(range(2, 8)) and min(num_known) == 0 and max(num_known) == most
    assert 30 < copied < 90


@pytest.mark.parametrize("stage", STAGES)
def test_loss_is_the_negative_log_likelihood_over_legal_ids(stage):
    loss, rng = stage_loss(stage), np.random.default_rng(0)
    clips = [utterance(n, n) for n in (20, 31, 24)]
    batch = collate([random_example(stage, clip, utterance(30, 9), CONFIGS, rng) for clip in clips], CONFIGS)
    labels, legal = (
        batch["labels"],
        {"semantic": [range(VOCAB + 1)], "coarse": COARSE_IDS, "fine": [range(CODES)]}[stage],
    )
    expected = []
    with torch.no_grad():
        logits = all_logits(loss.model, stage, batch)
        for row, position in (labels != -100).nonzero().tolist():
            label = int(labels[row, position])
            [classes] = [classes for classes in legal if label in classes]
            log_probabilities = logits[row, position, list(classes)].double().log_softmax(-1)
            expected.append(-log_probabilities[classes.index(label)])
        output = loss(**batch)
    assert output.num_targets == len(expected)
    assert output.loss.item() == pytest.approx(torch.stack(expected).mean().item(), abs=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_rows_of_a_batch_do_not_see_each_other(stage):
    loss, rng = stage_loss(stage), np.random.default_rng(0)
    examples = [random_example(stage, utterance(n, n), None, CONFIGS, rng) for n in (12, 31, 24)]
    with torch.no_grad():
        batched = loss(**collate(examples, CONFIGS))
        single = [loss(**collate([example], CONFIGS)) for example in examples]
    total = sum(output.loss * output.num_targets for output in single)
    assert batched.num_targets == sum(output.num_targets for output in single)
    assert batched.num_correct == sum(output.num_correct for output in single)
    assert (batched.loss * batched.num_targets - total).abs() < 1e-3


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_equals_that_of_transformers(is_causal, dtype):
    torch.manual_seed(0)
    config = BarkCoarseConfig(num_layers=1, num_heads=2, hidden_size=32, block_size=512)
    config._attn_implementation = "eager"
    block = BarkBlock(config, is_causal=is_causal).to(dtype)
    hidden = torch.randn(2, 450, 32, dtype=dtype)  # several slices of the queries
    kept = torch.rand(2, 450) < 0.5
    with torch.no_grad():
        expected, states = block(hidden)[0], block_states(block, hidden)
        assert torch.allclose(states, expected, atol=1e-5 if dtype == torch.float32 else 0.05)
        assert torch.allclose(block_states(block, hidden, kept), states[kept], atol=1e-5)


def test_the_end_is_a_target_of_complete_clips_only():
    clip = utterance(20)
    assert semantic_example(clip, None, CONFIGS)["labels"].tolist() == [*clip.semantic_tokens, VOCAB]
    cut = semantic_example(replace(clip, complete=False), None, CONFIGS)
    assert cut["labels"].tolist() == clip.semantic_tokens.tolist()
    assert cut["input_ids"].tolist() == [96, *clip.semantic_tokens[:-1]]
    long = semantic_example(utterance(70), None, CONFIGS)["labels"]
    assert len(long) == CONFIGS.semantic.max_new_tokens and VOCAB not in long


@pytest.mark.parametrize("stage", STAGES)
def test_no_padding_is_a_target(stage):
    clips = [utterance(n, n) for n in (12, 40, 25, 33)]
    batches = UtteranceBatches(clips, CONFIGS, stage, num_positions=600, steps=20)
    pads = {CONFIGS.semantic.text_pad_token, CONFIGS.coarse.coarse_semantic_pad_token}
    for [batch] in batches:
        labels = batch["labels"][batch["labels"] != -100]
        assert labels.min() >= 0 and not pads & set(labels.tolist())
        if stage == "fine":
            assert labels.max() < CODES
            assert (batch["labels"][batch["codes"][:, :, 0] == CODES] == -100).all()
        else:
            highest = VOCAB if stage == "semantic" else VOCAB + 2 * CODES - 1
            assert labels.max() <= highest


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("num_processes", "turns"), [(2, 1), (1, 3), (2, 2), (40, 1)])
def test_processes_and_turns_divide_a_batch_and_its_loss(stage, num_processes, turns):
    clips = [utterance(n, n, voice=str(n % 3)) for n in range(10, 40)]
    loss = stage_loss(stage)

    def parts(**options):
        return UtteranceBatches(clips, CONFIGS, stage, num_positions=700, **options)[3]

    [whole] = parts()
    divided = []
    for process in range(num_processes):
        of_process = parts(share=Share(process, num_processes, turns))
        assert len(of_process) == turns
        divided += of_process
    weights = [float(part.pop("loss_weight", 1.0)) for part in divided]
    rows = [row[row != -100].tolist() for part, w in zip(divided, weights, strict=True) if w for row in part["labels"]]
    assert sorted(rows) == sorted(row[row != -100].tolist() for row in whole["labels"])
    with torch.no_grad():
        losses = [float(loss(**part).loss) for part in divided]
        expected = float(loss(**whole).loss)
    assert np.dot(weights, losses) / num_processes == pytest.approx(expected, abs=1e-4)


def test_no_turn_is_no_share():
    with pytest.raises(ValueError, match="`gradient_accumulation` is 0"):
        Share(turns=0)


def test_batches_are_pure_functions_of_the_step_and_keep_to_their_size():
    clips = [utterance(n, n, voice=str(n % 3)) for n in range(10, 40)]
    for stage in STAGES:

        def batch(step, stage=stage, **options):
            batches = UtteranceBatches(clips, CONFIGS, stage, num_positions=700, join_probability=0.5, **options)
            return batches[step][0]

        first, again = batch(5), batch(5)
        assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)
        for other in (batch(6), batch(5, seed=1)):
            assert not torch.equal(first["labels"], other["labels"][: len(first["labels"])])
        for step in range(10):
            inputs = batch(step)
            positions = inputs["labels"].numel() + inputs.get("text_ids", torch.zeros(0)).numel()
            assert positions <= 700


def test_histories_are_other_clips_of_the_same_voice():
    clips = [
        Utterance(np.zeros(3, int), np.full(10, n), np.full((8, 15), n % CODES), voice=str(n // 3), id=str(n))
        for n in range(9)
    ]
    batches = UtteranceBatches(clips, CONFIGS, "semantic", num_positions=400, history_probability=1.0, steps=20)
    for [batch] in batches:
        for history, labels in zip(batch["history_ids"].tolist(), batch["labels"].tolist(), strict=True):
            voices, clip = {token // 3 for token in history if token != VOCAB}, labels[0]
            assert voices == {clip // 3} and clip not in history
    joined = [*clips[:3], join_utterances(clips[:2], CONFIGS)]
    batches = UtteranceBatches(joined, CONFIGS, "semantic", num_positions=400)
    others = {tuple(sorted(batches.others([index], np.random.default_rng(0)))) for index in (0, 3)}
    assert others == {(1, 2), (2,)}
    alone = UtteranceBatches(clips[:1], CONFIGS, "semantic", num_positions=400, history_probability=1.0)
    assert (alone[0][0]["history_ids"] == VOCAB).all()


def test_joined_clips_keep_tokens_and_frames_together():
    clips = [utterance(n, n) for n in (13, 20, 17)]
    both = join_utterances(clips, CONFIGS)
    assert both.num_frames == CONFIGS.num_frames(both.num_tokens) and 48 <= both.num_tokens <= 50
    assert np.array_equal(both.text_ids, np.concatenate([clip.text_ids for clip in clips]))
    batches = UtteranceBatches(clips, CONFIGS, "semantic", num_positions=400, join_probability=1.0)
    lengths = {batches.example(np.random.default_rng(seed))["labels"].size for seed in range(20)}
    assert min(lengths) >= 30  # 13 + 17, of which one may be given up, and the end


@pytest.mark.parametrize("stage", STAGES)
def test_gradients_reach_the_embeddings_of_what_is_seen_and_every_layer(stage):
    loss = stage_loss(stage, gradient_checkpointing=True).train()
    clips = [utterance(n, n) for n in (12, 40, 25, 33)]
    [batch] = UtteranceBatches(clips, CONFIGS, stage, num_positions=3_000, history_probability=1.0)[0]
    output = loss(**batch)
    output.loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in loss.parameters())
    assert all(p.grad.abs().sum() > 0 for name, p in loss.named_parameters() if "layers" in name)
    if stage == "semantic":
        rows = loss.model.input_embeds_layer.weight.grad.abs().sum(1)
        seen = torch.cat([batch[name].flatten() for name in ("text_ids", "history_ids", "input_ids")]).unique()
        assert (rows[seen[seen != VOCAB]] > 0).all()
    plain = stage_loss(stage).train()
    plain(**batch).loss.backward()
    for (name, kept), computed_again in zip(plain.named_parameters(), loss.parameters(), strict=True):
        assert torch.allclose(kept.grad, computed_again.grad, atol=1e-6), name


def test_adapters_are_run_and_trained():
    peft = pytest.importorskip("peft")
    loss, clip = stage_loss("coarse"), utterance(20)
    batch = collate([coarse_example(clip, None, CONFIGS)], CONFIGS)
    before = loss(**batch).loss.item()
    config = peft.LoraConfig(r=2, target_modules=["att_proj", "out_proj", "in_proj"])
    peft.inject_adapter_in_model(config, loss.model)
    assert loss(**batch).loss.item() == pytest.approx(before, abs=1e-6)
    loss(**batch).loss.backward()
    trained = {name: p for name, p in loss.named_parameters() if p.requires_grad}
    assert trained and all("lora" in name for name in trained)
    assert all(p.grad is not None for p in trained.values())
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 0.5
    assert abs(loss(**batch).loss.item() - before) > 1e-3


@pytest.mark.parametrize("stage", STAGES)
def test_a_model_learns_two_clips_by_heart(stage, tmp_path):
    torch.manual_seed(0)
    class_, config = MODELS[stage]
    loss, clips = LOSSES[stage](class_(config), CONFIGS), [utterance(n, n) for n in (15, 21)]
    batches = UtteranceBatches(clips, CONFIGS, stage, num_positions=800, steps=30, history_probability=0.5)
    before = loss.eval()(**batches[0][0])
    loss = train(loss, batches, TrainingArguments(str(tmp_path), steps=30, learning_rate=1e-2, log_every=0))
    after = loss.eval()(**batches[0][0])
    assert after.loss < 0.8 * before.loss and after.num_correct > before.num_correct


def test_generation_configs_are_read_from_dicts_objects_and_models():
    typed = bark_generation_configs(BarkGenerationConfig(**GENERATION))
    for configs in (CONFIGS, typed):
        assert configs.semantic.semantic_pad_token == VOCAB
        assert configs.coarse.sliding_window_len == 20 and configs.fine.max_fine_input_length == 64
        assert configs.codebook_size == CODES and configs.history_lengths.coarse_tokens == 23
    with pytest.raises(ValueError, match="semantic_config"):
        bark_generation_configs(GenerationConfig())


def test_lengths_follow_the_rule_of_the_package():
    assert all(CONFIGS.num_frames(n) == num_codec_frames(n) for n in range(5_000))


@pytest.mark.parametrize(
    "clip, message",
    [
        (replace(utterance(20), semantic_tokens=np.full(20, VOCAB)), "ids in \\[0, 50\\)"),
        (replace(utterance(20), audio_codes=np.full((8, 30), CODES)), "ids in \\[0, 16\\)"),
        (replace(utterance(20), audio_codes=np.zeros((8, 40), int)), "make 30 codec frames, but there are 40"),
        (replace(utterance(20), audio_codes=None), "needs `audio_codes`"),
    ],
)
def test_utterances_that_the_model_cannot_have_made_are_named(clip, message):
    with pytest.raises(ValueError, match=f"0: .*{message}"):
        UtteranceBatches([clip], CONFIGS, "coarse")


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="one of semantic, coarse, fine"):
        UtteranceBatches([utterance(20)], CONFIGS, "text")
    with pytest.raises(ValueError, match="no utterances"):
        UtteranceBatches([], CONFIGS, "semantic")
    long_text = replace(utterance(20), text_ids=np.zeros(25, int))
    with pytest.raises(ValueError, match="25 ids; Bark reads 24"):
        semantic_example(long_text, None, CONFIGS)
    batch = collate([semantic_example(utterance(20), None, CONFIGS)], CONFIGS)
    with pytest.raises(ValueError, match="nothing to learn"):
        stage_loss("semantic")(**{**batch, "labels": torch.full_like(batch["labels"], -100)})
    with pytest.raises(ValueError, match="2 or more"):
        coarse_example(utterance(20), utterance(1), CONFIGS)
    with pytest.raises(ValueError, match="multiple of 2 in \\[0, 60\\)"):
        coarse_example(utterance(20), None, CONFIGS, num_generated=21)
    with pytest.raises(ValueError, match="2 to 7"):
        fine_example(utterance(20), None, CONFIGS, codebook=1)
    with pytest.raises(ValueError, match="300 positions; the model has 128"):
        stage_loss("semantic").target_states(torch.zeros(1, 300, 32), torch.zeros(1, 300))
    with pytest.raises(IndexError, match="`steps` is 3"):
        UtteranceBatches([utterance(20)], CONFIGS, "semantic", steps=3)[3]


def test_label_smoothing_is_over_legal_classes():
    example = collate([coarse_example(utterance(20), None, CONFIGS)], CONFIGS)
    loss = stage_loss("coarse", label_smoothing=0.1)
    logits, classes = loss.target_logits(**example)
    assert logits.shape[1] == CODES
    assert loss(**example).loss.item() == pytest.approx(F.cross_entropy(logits, classes, label_smoothing=0.1).item())
