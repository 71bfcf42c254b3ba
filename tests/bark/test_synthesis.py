"""Bark over an unmodified BarkModel: equal to transformers, to itself in other company, and clear where it can't."""

import copy
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from transformers import BarkModel, EncodecConfig, GenerationConfig
from transformers.models.bark.generation_configuration_bark import (
    BarkCoarseGenerationConfig,
    BarkFineGenerationConfig,
    BarkGenerationConfig,
    BarkSemanticGenerationConfig,
)

from hf_bark_semantic import VoicePrompt
from hf_bark_semantic.bark import stages as bark_stages
from hf_bark_semantic.bark import transformer
from hf_bark_semantic.bark.examples import Utterance, coarse_example, collate, semantic_example
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.sampling import Sampling, Temperatures, pick_tokens
from hf_bark_semantic.bark.setup import BarkSetup
from hf_bark_semantic.bark.synthesis import codes_to_waveform, semantic_to_codes, synthesize, text_to_semantic
from hf_bark_semantic.bark.transformer import DecodingBatch, Savings, attend
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from random_bark import (
    ALL_GREEDY,
    CODEBOOK_SIZE,
    CODES_END,
    GREEDY,
    MAX_TOKENS,
    SUB_CONFIGS,
    TEXT_LENGTH,
    TEXTS,
    VOCAB_SIZE,
    LetterTokenizer,
    assert_same,
    make_bark,
    make_prompt,
    make_requests,
    make_tokens,
)

AT_ONCE = replace(Savings(), few_rows=False)  # as on an accelerator
PROMPT_LENGTHS = [None, 20, 150]  # none, shorter than every window, longer than every window


@pytest.fixture(scope="module")
def bark() -> BarkModel:
    return make_bark()


@pytest.fixture
def tokenizer() -> LetterTokenizer:
    return LetterTokenizer()


def generation_configs() -> dict:
    return {
        "semantic_generation_config": BarkSemanticGenerationConfig(**SUB_CONFIGS["semantic_config"]),
        "coarse_generation_config": BarkCoarseGenerationConfig(**SUB_CONFIGS["coarse_acoustics_config"]),
    }


def text_inputs(text: str) -> dict[str, torch.Tensor]:
    """What BarkProcessor gives for a text."""
    ids = LetterTokenizer()(text, add_special_tokens=False)["input_ids"]
    input_ids, attention_mask = torch.zeros(2, 1, TEXT_LENGTH, dtype=torch.long)
    input_ids[0, : len(ids)], attention_mask[0, : len(ids)] = torch.tensor(ids), 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def transformers_tokens(bark: BarkModel, text: str, prompt: VoicePrompt | None, **kwargs) -> np.ndarray:
    config = generation_configs()["semantic_generation_config"]
    history = None if prompt is None else prompt.to_dict(return_tensors="pt")
    generated = bark.semantic.generate(
        **text_inputs(text), semantic_generation_config=config, history_prompt=history, **kwargs
    )
    return generated[0].numpy()


def transformers_codes(bark: BarkModel, tokens: np.ndarray, prompt: VoicePrompt | None) -> torch.Tensor:
    """Codes of shape `(1, 8, num_frames)`."""
    configs = {**generation_configs(), "codebook_size": CODEBOOK_SIZE}
    configs["history_prompt"] = None if prompt is None else prompt.to_dict(return_tensors="pt")
    coarse = bark.coarse_acoustics.generate(torch.tensor(tokens)[None], **configs)
    fine_config = BarkFineGenerationConfig(**SUB_CONFIGS["fine_acoustics_config"])
    return bark.fine_acoustics.generate(coarse, fine_generation_config=fine_config, **configs)


@pytest.mark.parametrize("prompt_length", PROMPT_LENGTHS)
def test_text_stage_equals_transformers(bark, tokenizer, prompt_length):
    prompt = make_prompt(prompt_length)
    texts = TEXTS[1:]
    requests = [SynthesisRequest(text=text, voice_prompt=prompt, **ALL_GREEDY) for text in texts]
    said = text_to_semantic(bark, requests, tokenizer=tokenizer)
    for text, (tokens, reason) in zip(texts, said, strict=True):
        expected = transformers_tokens(bark, text, prompt)
        assert (expected[-1] == VOCAB_SIZE) == (reason == "eos")
        np.testing.assert_array_equal(tokens, expected[:-1] if reason == "eos" else expected)
    if prompt is None:
        assert [reason for _, reason in said] == ["eos", "length", "eos"]  # both are put to the test


def test_early_end_equals_transformers(bark, tokenizer):
    request = SynthesisRequest(text=TEXTS[2], semantic=Sampling(0.0, min_eos_p=0.05))
    tokens, reason = text_to_semantic(bark, [request], tokenizer=tokenizer, transformers_rules=True)[0]
    expected = transformers_tokens(bark, TEXTS[2], None, min_eos_p=0.05)
    assert reason == "eos" and 0 < len(tokens) < MAX_TOKENS  # which the text reaches otherwise
    np.testing.assert_array_equal(tokens, expected[:-1])


@pytest.mark.parametrize("prompt_length", PROMPT_LENGTHS)
@pytest.mark.parametrize("num_tokens", [1, 160])  # one frame; 16 windows of the coarse stage, 3 or 4 of the fine one
def test_codes_and_waveform_equal_transformers(bark, num_tokens, prompt_length):
    tokens, prompt = make_tokens(num_tokens), make_prompt(prompt_length)
    expected = transformers_codes(bark, tokens, prompt)
    request = SynthesisRequest(semantic_tokens=tokens, voice_prompt=prompt, **ALL_GREEDY)
    codes = semantic_to_codes(bark, [tokens], [request], transformers_rules=True)[0]
    assert codes.shape == (8, num_codec_frames(num_tokens))
    np.testing.assert_array_equal(codes, expected[0].numpy())
    waveform = codes_to_waveform(bark, [codes])[0]
    with torch.no_grad():
        np.testing.assert_allclose(waveform, bark.codec_decode(expected)[0].numpy(), atol=1e-6)


def test_whole_equals_transformers(bark, tokenizer):
    prompt = make_prompt(40)
    waveform = bark.generate(
        **text_inputs(TEXTS[1]), history_prompt=prompt.to_dict(return_tensors="pt"), semantic_max_new_tokens=30
    )
    request = SynthesisRequest(text=TEXTS[1], voice_prompt=prompt, max_semantic_tokens=30, **ALL_GREEDY)
    result = next(synthesize(bark, [request], tokenizer=tokenizer, transformers_rules=True))
    assert result.sampling_rate == 24_000
    np.testing.assert_allclose(result.waveform, waveform[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("sampling", [ALL_GREEDY, {}], ids=["greedy", "sampled"])
def test_a_row_does_not_depend_on_its_batch(bark, tokenizer, sampling):
    requests = make_requests(**sampling)
    alone = [next(synthesize(bark, [request], tokenizer=tokenizer)) for request in requests]
    together = list(synthesize(bark, requests, tokenizer=tokenizer, batch_size=3, look_ahead=2))
    assert [result.index for result in together] == list(range(len(requests)))
    assert [result.request for result in together] == requests
    assert_same(together, alone)
    assert_same(synthesize(bark, requests[::-1], tokenizer=tokenizer), alone[::-1])


@pytest.mark.parametrize("rules", [False, True])
def test_rows_of_other_temperatures_share_a_batch(bark, tokenizer, monkeypatch, rules):
    def request(text, temperature):
        sampling = Sampling(temperature, min_eos_p=None)
        return SynthesisRequest(text, semantic=sampling, coarse=sampling, fine=sampling)

    requests = [request(text, temperature) for text, temperature in zip(TEXTS, (0.0, 0.7, 1.0, 1.3), strict=True)]
    alone = [next(synthesize(bark, [one], tokenizer=tokenizer, transformers_rules=rules)) for one in requests]
    sizes, start = [], DecodingBatch.__init__
    monkeypatch.setattr(DecodingBatch, "__init__", lambda *args: sizes.append(args[2]) or start(*args))
    assert_same(synthesize(bark, requests, tokenizer=tokenizer, transformers_rules=rules), alone)
    spoken = sum(len(result.semantic_tokens) > 0 for result in alone)
    assert sizes == [4, spoken] and spoken > 1


def test_texts_with_missing_words_are_tried_again_before_the_coarse_stage(bark, tokenizer):
    lengths = {"min_semantic_tokens": 5, "max_semantic_tokens": 5}
    requests = [SynthesisRequest(text, semantic=GREEDY, **lengths) for text in TEXTS[:3]]
    better = SynthesisRequest(semantic_tokens=make_tokens(7), seed=5)
    asked, steps = [], []

    def retry(index, request, finish_reason):
        asked.append((index, request, finish_reason))
        return [None, better, replace(request, seed=1)][index]

    results = list(synthesize(bark, requests, tokenizer=tokenizer, retry=retry, on_step=steps.append))
    assert asked == [(i, request, "length") for i, request in enumerate(requests)]
    assert [result.request for result in results] == [requests[0], better, requests[2]]  # no better: the first stays
    assert [result.finish_reason for result in results] == ["length", "given", "length"]
    assert_same(results, [next(synthesize(bark, [result.request], tokenizer=tokenizer)) for result in results])
    assert steps.index("coarse") > max(i for i, step in enumerate(steps) if step == "semantic")


def test_a_step_of_a_small_model_runs_on_one_thread(bark, monkeypatch):
    num_threads, batch = torch.get_num_threads(), DecodingBatch(bark.semantic, 4, 8, Savings())
    plain = DecodingBatch(bark.semantic, 4, 8, Savings(one_thread=False))
    try:
        torch.set_num_threads(2)
        with batch.threads(4):
            assert torch.get_num_threads() == 1
        with plain.threads(4):
            assert torch.get_num_threads() == 2
        with pytest.raises(KeyboardInterrupt), batch.threads(4):
            raise KeyboardInterrupt
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(transformer, "SMALL_PRODUCT", 3 * batch.largest_layer)
        for num_rows, expected in ((3, 1), (4, 2)):
            with batch.threads(num_rows):
                assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(num_threads)


@pytest.mark.parametrize("saving", [field.name for field in fields(Savings)])
def test_no_saving_changes_a_token(bark, tokenizer, saving):
    requests = make_requests()
    with_all = synthesize(bark, requests, tokenizer=tokenizer, batch_size=3)
    without_one = synthesize(
        bark, requests, tokenizer=tokenizer, batch_size=3, savings=replace(Savings(), **{saving: False})
    )
    assert_same(with_all, without_one)


def test_weights_that_changed_are_packed_anew(bark):
    bark, tokens = copy.deepcopy(bark), [make_tokens(40)]
    (before,) = semantic_to_codes(bark, tokens)
    with torch.no_grad():
        for part in (bark.coarse_acoustics, bark.fine_acoustics):
            for block in part.layers:
                block.mlp.in_proj.weight.mul_(-1)
    (after,) = semantic_to_codes(bark, tokens)
    (plain,) = semantic_to_codes(bark, tokens, savings=replace(Savings(), packed_weights=False))
    assert np.array_equal(after, plain) and not np.array_equal(after, before)


def test_coarse_cache_is_kept_until_the_window_moves(bark, monkeypatch):
    lengths, prefill = [], DecodingBatch.prefill

    def count(batch, slots, inputs_embeds, row_lengths):
        lengths.extend(row_lengths)
        prefill(batch, slots, inputs_embeds, row_lengths)

    monkeypatch.setattr(DecodingBatch, "prefill", count)
    semantic_to_codes(bark, [make_tokens(80)])  # 240 ids in 8 windows of 30
    assert lengths == [96, 96 + 210]  # after 210 ids the semantic window moves by one token
    lengths.clear()
    semantic_to_codes(bark, [make_tokens(80)], savings=replace(Savings(), keep_cache=False))
    assert lengths == [96 + 30 * window for window in range(8)]


def test_same_seed_same_result(bark, tokenizer):
    def speak(seed):
        request = SynthesisRequest(text="the cat", seed=seed, max_semantic_tokens=20, min_semantic_tokens=20)
        return next(synthesize(bark, [request], tokenizer=tokenizer))

    one, again, other = speak(1), speak(1), speak(2)
    assert_same([one], [again])
    assert not np.array_equal(one.semantic_tokens, other.semantic_tokens)


def test_prompt_modes_reach_their_stages(bark, tokenizer):
    tokens, prompt = make_tokens(40), make_prompt(60)
    said, codes = {}, {}
    for mode in ("full", "acoustic", "semantic", "none"):
        request = SynthesisRequest(text=TEXTS[0], voice_prompt=prompt, prompt_mode=mode, max_semantic_tokens=30)
        said[mode] = text_to_semantic(bark, [request], tokenizer=tokenizer)[0][0].tolist()
        codes[mode] = semantic_to_codes(bark, [tokens], [request])[0].tolist()
    assert said["full"] == said["semantic"] != said["acoustic"] == said["none"]
    assert codes["semantic"] == codes["none"] not in (codes["full"], codes["acoustic"])
    assert codes["full"] != codes["acoustic"]


def test_acoustic_mode_replaces_the_words_of_the_coarse_history(bark):
    tokens, prompt = make_tokens(40), make_prompt(60)
    request = SynthesisRequest(semantic_tokens=tokens, voice_prompt=prompt, **ALL_GREEDY)
    codes = semantic_to_codes(bark, [tokens], [replace(request, prompt_mode="acoustic")], transformers_rules=True)[0]
    history = prompt.to_dict(return_tensors="pt")
    history["semantic_prompt"] = torch.full_like(history["semantic_prompt"], CODES_END)
    coarse = bark.coarse_acoustics.generate(
        torch.tensor(tokens)[None], **generation_configs(), codebook_size=CODEBOOK_SIZE, history_prompt=history
    )
    expected = (coarse[0].view(-1, 2).T.numpy() - VOCAB_SIZE) % CODEBOOK_SIZE
    np.testing.assert_array_equal(codes[:2], expected)


def test_number_of_tokens_is_held_between_minimum_and_maximum(bark, tokenizer):
    eager = Sampling(0.7, min_eos_p=1e-9)  # ends as soon as it may
    texts = [
        SynthesisRequest(text="a cat", semantic=eager, min_semantic_tokens=minimum, max_semantic_tokens=maximum)
        for minimum, maximum in [(0, 9), (5, 9), (9, 9)]
    ]
    said = text_to_semantic(bark, texts, tokenizer=tokenizer)
    assert [(len(tokens), reason) for tokens, reason in said] == [(0, "empty"), (5, "eos"), (9, "length")]


def test_immediate_end_gives_an_empty_result(bark, tokenizer):
    requests = [
        SynthesisRequest(text="the cat", semantic=Sampling(0.7, min_eos_p=1e-9)),
        SynthesisRequest(semantic_tokens=make_tokens(5)),
    ]
    empty, spoken = synthesize(bark, requests, tokenizer=tokenizer)
    assert empty.finish_reason == "empty" and spoken.finish_reason == "given"
    assert empty.semantic_tokens.shape == (0,) and empty.audio_codes.shape == (8, 0) and empty.waveform.shape == (0,)
    assert spoken.waveform.shape == (320 * num_codec_frames(5),) and spoken.waveform.dtype == np.float32
    assert semantic_to_codes(bark, [np.zeros(0, int)])[0].shape == (8, 0)
    assert codes_to_waveform(bark, [empty.audio_codes])[0].shape == (0,)


def test_frame_count_is_that_of_the_package(bark):
    setup = BarkSetup(bark)
    assert [setup.configs.num_frames(n) for n in range(3000)] == [num_codec_frames(n) for n in range(3000)]


def test_only_legal_codes_unless_transformers_rules(bark):
    tempted = copy.deepcopy(bark)
    with torch.no_grad():
        tempted.coarse_acoustics.lm_head.weight[CODES_END:] *= 50  # the special ids, which alias codes
    tokens = make_tokens(10)
    request = SynthesisRequest(semantic_tokens=tokens, **ALL_GREEDY)
    codes = {rules: semantic_to_codes(tempted, [tokens], [request], transformers_rules=rules)[0] for rules in (0, 1)}
    expected = transformers_codes(tempted, tokens, None)[0].numpy()
    np.testing.assert_array_equal(codes[1], expected)
    assert not np.array_equal(codes[0][1], expected[1])


@pytest.mark.parametrize("causal", [True, False])
def test_codec_rows_do_not_depend_on_their_batch(bark, causal):
    bark = copy.deepcopy(bark)
    if not causal:
        codec_config = EncodecConfig(**{**bark.codec_model.config.to_dict(), "use_causal_conv": False})
        quantizer = bark.codec_model.quantizer
        bark.codec_model = type(bark.codec_model)(codec_config).eval()
        bark.codec_model.quantizer = quantizer
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, CODEBOOK_SIZE, (8, num_frames)) for num_frames in (1, 2, 7, 8, 40, 0, 25)]
    together = codes_to_waveform(bark, rows, savings=AT_ONCE)
    for codes, waveform in zip(rows, together, strict=True):
        assert waveform.shape == (320 * codes.shape[1],)
        np.testing.assert_allclose(waveform, codes_to_waveform(bark, [codes])[0], atol=1e-6)


def test_only_clips_of_like_length_are_decoded_together_and_on_a_cpu_none(bark, monkeypatch):
    shapes, decode = [], bark.codec_model.decoder.forward
    monkeypatch.setattr(
        bark.codec_model.decoder,
        "forward",
        lambda embeds: shapes.append((len(embeds), embeds.shape[2])) or decode(embeds),
    )
    clips = [np.zeros((8, n), np.int64) for n in (55, 200, 50, 210, 52)]
    codes_to_waveform(bark, clips, batch_size=4, savings=AT_ONCE)
    assert shapes == [(3, 55), (2, 210)]
    shapes.clear()
    codes_to_waveform(bark, clips, batch_size=4)
    assert shapes == [(1, n) for n in (50, 52, 55, 200, 210)]


def test_a_longer_text_starts_first(bark, tokenizer, monkeypatch):
    started, row = [], bark_stages._TextRow
    monkeypatch.setattr(
        bark_stages,
        "_TextRow",
        lambda setup, item, views: started.append(item.request.text) or row(setup, item, views),
    )
    requests = [SynthesisRequest(text, max_semantic_tokens=3) for text in ("a dog", "a", "the dog runs", "the dog")]
    results = text_to_semantic(bark, requests, tokenizer=tokenizer, batch_size=1)
    assert started == ["the dog runs", "the dog", "a dog", "a"]
    for request, (tokens, reason) in zip(requests, results, strict=True):  # in the order of the requests
        alone = text_to_semantic(bark, [request], tokenizer=tokenizer)[0]
        np.testing.assert_array_equal(tokens, alone[0])
        assert reason == alone[1]


GUIDED = {"semantic": (1.7, 1.0), "coarse": (1.5, 2.25)}  # by what is said, by the voice


def guided_scores(scales, logits_of) -> torch.Tensor:
    """The formula of InstructPix2Pix; `logits_of(content, voice)` of the same positions."""
    content, voice = scales
    everything, wordless = (logits_of(known, known).log_softmax(-1) for known in (True, False))
    voiceless = logits_of(True, False).log_softmax(-1)
    return wordless + content * (voiceless - wordless) + voice * (everything - voiceless)


@pytest.mark.parametrize("num_prompt_tokens", PROMPT_LENGTHS)
@pytest.mark.parametrize("scales", [GUIDED["semantic"], (1.0, 2.0), (3.0, 3.0)])
def test_guidance_of_the_text_stage(bark, tokenizer, scales, num_prompt_tokens):
    sampling = replace(GREEDY, guidance_scale=scales[0], voice_guidance_scale=scales[1])
    prompt = make_prompt(num_prompt_tokens)
    requests = [SynthesisRequest(text=text, semantic=sampling, voice_prompt=prompt) for text in TEXTS]
    results = text_to_semantic(bark, requests, tokenizer=tokenizer, batch_size=3)
    plain = text_to_semantic(bark, [replace(r, semantic=GREEDY) for r in requests], tokenizer=tokenizer)
    changed = any(list(tokens) != list(unguided) for (tokens, _), (unguided, _) in zip(results, plain, strict=True))
    assert changed == (prompt is not None or scales[0] > 1)
    configs = BarkSetup(bark).configs
    history = None if prompt is None else Utterance(np.zeros(0), prompt.semantic_tokens)
    embed = bark.semantic.input_embeds_layer
    for text, (tokens, reason) in zip(TEXTS, results, strict=True):
        text_ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])

        def logits_of(content, voice, ids=text_ids, tokens=tokens, complete=reason == "eos"):
            utterance = Utterance(ids if content else ids[:0], tokens, complete=complete)
            example = collate([semantic_example(utterance, history if voice else None, configs)], configs)
            prefix = embed(example["text_ids"]) + embed(example["history_ids"])
            embeds = torch.cat([prefix, embed(example["input_ids"])], 1)
            return bark.semantic(inputs_embeds=embeds).logits[0, prefix.shape[1] :, : VOCAB_SIZE + 1]

        with torch.no_grad():
            best = guided_scores(scales, logits_of).argmax(-1).tolist()
        assert best == [*tokens, VOCAB_SIZE][: len(best)] and len(best) >= len(tokens)


@pytest.mark.parametrize("num_prompt_tokens", PROMPT_LENGTHS)
@pytest.mark.parametrize("scales", [GUIDED["coarse"], (1.5, 1.0), (2.0, 2.0)])
def test_guidance_of_the_coarse_stage(bark, scales, num_prompt_tokens):
    sampling = replace(GREEDY, guidance_scale=scales[0], voice_guidance_scale=scales[1])
    prompt = make_prompt(num_prompt_tokens)
    said = [make_tokens(30), make_tokens(95, seed=2), make_tokens(7, seed=3)]  # the second moves every window
    requests = [SynthesisRequest(semantic_tokens=row, coarse=sampling, voice_prompt=prompt) for row in said]
    results = semantic_to_codes(bark, said, requests, batch_size=2)
    plain = semantic_to_codes(bark, said, [replace(request, coarse=GREEDY) for request in requests])
    assert any((guided[:2] != unguided[:2]).any() for guided, unguided in zip(results, plain, strict=True))
    configs = BarkSetup(bark).configs
    history = prompt and Utterance(np.zeros(0), prompt.semantic_tokens, prompt.audio_codes)
    pad, length = configs.coarse.coarse_semantic_pad_token, configs.coarse.max_coarse_input_length
    for tokens, codes in zip(said, results, strict=True):
        utterance = Utterance(np.zeros(0), tokens, codes)
        ids = (codes[:2] + VOCAB_SIZE + CODEBOOK_SIZE * np.arange(2)[:, None]).T.reshape(-1)
        for start in range(0, len(ids), configs.coarse.sliding_window_len):
            wanted = ids[start : start + configs.coarse.sliding_window_len]

            def logits_of(content, voice, utterance=utterance, start=start, wanted=wanted):
                num_new, voice_read = len(wanted), history if voice else None
                example = coarse_example(utterance, voice_read, configs, num_generated=start)
                input_ids = torch.from_numpy(example["input_ids"])
                if not content:
                    input_ids[:length] = pad
                logits = bark.coarse_acoustics(input_ids[None]).logits[0, -num_new:, VOCAB_SIZE:CODES_END]
                return logits.view(num_new, 2, CODEBOOK_SIZE)[range(num_new), np.arange(num_new) % 2]

            with torch.no_grad():
                best = guided_scores(scales, logits_of).argmax(-1)
            np.testing.assert_array_equal(best + VOCAB_SIZE + CODEBOOK_SIZE * (torch.arange(len(best)) % 2), wanted)


def test_guidance_comes_from_the_generation_config_unless_it_is_asked_for(bark, tokenizer):
    def speak(bark, sampling, **rules):
        requests = [
            SynthesisRequest(text=text, seed=seed, voice_prompt=make_prompt(20), semantic=sampling, coarse=sampling)
            for seed, text in enumerate(TEXTS)
        ]
        results = synthesize(bark, requests, tokenizer=tokenizer, batch_size=2, **rules)
        return [(result.semantic_tokens.tolist(), result.audio_codes.tolist()) for result in results]

    scales = {"guidance_scale": 1.5, "voice_guidance_scale": 2.0}
    guiding, config = copy.deepcopy(bark), {"condition_guidance_scale": 1.5, "voice_guidance_scale": 2.0}
    for stage in ("semantic_config", "coarse_acoustics_config"):
        setattr(guiding.generation_config, stage, {**getattr(guiding.generation_config, stage), **config})
    plain = speak(bark, Sampling())
    assert speak(guiding, Sampling()) == speak(bark, Sampling(**scales)) != plain
    assert speak(guiding, Sampling(guidance_scale=1, voice_guidance_scale=1)) == plain
    assert speak(guiding, Sampling(), transformers_rules=True) == speak(bark, Sampling(), transformers_rules=True)


def test_temperatures_are_the_barks_own_unless_asked_for(bark):
    cool = copy.deepcopy(bark)
    cool.generation_config.coarse_acoustics_config["speech_temperature"] = 0.4
    cool.generation_config.fine_acoustics_config["speech_temperature"] = 0.3

    def temperatures(bark, **samplings):
        setup = BarkSetup(bark)
        request = SynthesisRequest(text="the dog", **samplings)
        return [setup.sampling(stage, request).temperature for stage in ("semantic", "coarse", "fine")]

    assert temperatures(bark) == [0.7, 0.7, 0.5]
    assert temperatures(cool) == [0.7, 0.4, 0.3]
    assert temperatures(cool, coarse=Sampling(0.6), fine=Sampling(0, top_k=3)) == [0.7, 0.6, 0]
    setup = BarkSetup(cool)
    assert setup.sampling("coarse", SynthesisRequest(text="a", coarse=Sampling(top_k=3))) == Sampling(0.4, top_k=3)
    assert setup.sampling("codec", None) is None


def test_every_step_is_announced_and_may_be_the_last(bark, tokenizer):
    requests = [SynthesisRequest(text=text, min_semantic_tokens=10, max_semantic_tokens=20) for text in TEXTS[:2]]
    steps = []
    results = list(synthesize(bark, requests, tokenizer=tokenizer, on_step=steps.append))
    longest = max(len(result.semantic_tokens) + (result.finish_reason == "eos") for result in results)
    num_coarse_ids = 2 * max(result.audio_codes.shape[1] for result in results)
    assert [steps.count(stage) for stage in ("semantic", "coarse", "fine")] == [longest, num_coarse_ids, 6]
    assert 1 <= steps.count("codec") <= 2

    def cancel(stage):
        if stage == last:
            raise TimeoutError(stage)

    for last in ("semantic", "coarse", "fine", "codec"):
        with pytest.raises(TimeoutError, match=last):
            list(synthesize(bark, requests, tokenizer=tokenizer, on_step=cancel))
    for result, again in zip(results, synthesize(bark, requests, tokenizer=tokenizer), strict=True):
        np.testing.assert_array_equal(result.waveform, again.waveform)


def test_guided_rows_do_not_depend_on_their_company(bark, tokenizer):
    sampling = Sampling(guidance_scale=1.5, voice_guidance_scale=2.0)
    requests = [
        SynthesisRequest(
            text=text,
            seed=seed,
            voice_prompt=make_prompt(length),
            prompt_mode=mode,
            semantic=sampling,
            coarse=sampling,
        )
        for seed, (text, length, mode) in enumerate(
            zip(TEXTS, [20, 150, None, 150], ["full", "acoustic", "none", "semantic"], strict=True)
        )
    ]
    together = list(synthesize(bark, requests, tokenizer=tokenizer, batch_size=3))
    for request, result in zip(requests, together, strict=True):
        (alone,) = synthesize(bark, [request], tokenizer=tokenizer, savings=Savings(keep_cache=False, refill=False))
        np.testing.assert_array_equal(result.semantic_tokens, alone.semantic_tokens)
        np.testing.assert_array_equal(result.audio_codes, alone.audio_codes)


def test_guidance_below_one_is_refused():
    with pytest.raises(ValueError, match="`voice_guidance_scale` is 0.5; it must be 1 or more"):
        Sampling(voice_guidance_scale=0.5)


def test_adapters_are_run(bark, tokenizer):
    peft = pytest.importorskip("peft")
    bark = copy.deepcopy(bark)
    plain = text_to_semantic(bark, [SynthesisRequest(text=TEXTS[0], semantic=GREEDY)], tokenizer=tokenizer)[0][0]
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["att_proj", "out_proj", "in_proj"]), bark.semantic)
    with torch.no_grad():
        for name, parameter in bark.semantic.named_parameters():
            if "lora" in name:
                parameter.normal_(0, 0.3)
    bark.eval()
    request = SynthesisRequest(text=TEXTS[0], semantic=GREEDY)
    tokens = text_to_semantic(bark, [request], tokenizer=tokenizer)[0][0]
    np.testing.assert_array_equal(tokens, transformers_tokens(bark, TEXTS[0], None)[: len(tokens)])
    assert not np.array_equal(tokens, plain)


@pytest.mark.parametrize("num_positions", [1, 450])  # a step; several slices of the queries, or of what they read
@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_bfloat16(num_positions, causal):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, 4, num_positions, 16, generator=generator).bfloat16() for _ in range(3))
    exact = attend(query.float(), key.float(), value.float(), causal=causal, fused=False)
    torch.testing.assert_close(attend(query, key, value, causal=causal).float(), exact, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("num_views", [1, 2])
@pytest.mark.parametrize("slots", [[0, 1, 2, 3], [0, 1, 3]])
@torch.inference_mode()
def test_steps_in_bfloat16_are_close_to_those_in_float32(bark, slots, num_views):
    ids, lengths = torch.from_numpy(make_tokens(3 * 30)).view(3, 30), [30, 25, 30]
    states = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = copy.deepcopy(bark.coarse_acoustics).to(dtype)
        batch = DecodingBatch(model, 4, 40, Savings(), num_views)
        batch.prefill([0, 1, 2, 3], model.input_embeds_layer(ids[[0, 0, 0, 0], :9]), [9] * 4)
        rows = [slot % 3 for slot in slots]
        batch.prefill(slots, model.input_embeds_layer(ids[rows]), [lengths[row] for row in rows])
        states[dtype] = batch.step([1, 2, 3, 4]).float()
    assert torch.cosine_similarity(*states.values()).min() > 0.99


def test_half_precision_and_typed_configs_are_taken(bark, tokenizer):
    bark = copy.deepcopy(bark).to(torch.bfloat16)
    bark.generation_config = BarkGenerationConfig(**SUB_CONFIGS, codebook_size=CODEBOOK_SIZE)
    result = next(synthesize(bark, [SynthesisRequest(text="a", max_semantic_tokens=5)], tokenizer=tokenizer))
    assert result.waveform.dtype == np.float32 and np.isfinite(result.waveform).all()


def test_bark_stays_as_it_is(bark, tokenizer):
    config, generation_config = bark.config.to_dict(), copy.deepcopy(bark.generation_config.to_dict())
    prompt = make_prompt(30)
    request = SynthesisRequest(text="a", max_semantic_tokens=5, voice_prompt=prompt)
    list(synthesize(bark, [request], tokenizer=tokenizer))
    assert bark.config.to_dict() == config and bark.generation_config.to_dict() == generation_config
    assert prompt == make_prompt(30)
    assert not torch.is_inference_mode_enabled()


def test_requests_are_read_a_window_at_a_time(bark, tokenizer):
    read = []

    def requests():
        for seed in range(9):
            read.append(seed)
            yield SynthesisRequest(semantic_tokens=make_tokens(2), seed=seed)

    results = synthesize(bark, requests(), batch_size=2, look_ahead=2)
    assert read == []
    assert next(results).request.seed == 0 and len(read) == 4
    assert [result.request.seed for result in results] == list(range(1, 9))


def test_what_is_ready_is_delivered_before_an_interrupt(bark, monkeypatch):
    fill, lengths = bark_stages._fill_windows, []

    def interrupt(setup, decoder, sampling, rows):
        lengths.append(len(rows))
        if len(lengths) == 3:
            raise KeyboardInterrupt
        fill(setup, decoder, sampling, rows)

    monkeypatch.setattr(bark_stages, "_fill_windows", interrupt)
    requests = [SynthesisRequest(semantic_tokens=make_tokens(n)) for n in (2, 40, 2, 80)]
    delivered = []
    with pytest.raises(KeyboardInterrupt):
        for result in synthesize(bark, requests, batch_size=1, look_ahead=4):
            delivered.append(result.index)
    assert delivered == [1, 3]  # the longest start first


def test_batches_shrink_until_they_fit(bark, tokenizer, monkeypatch):
    requests = make_requests()
    expected = list(synthesize(bark, requests, tokenizer=tokenizer))
    step, sizes = DecodingBatch.step, []

    def step_in_little_memory(batch, token_ids):
        if len(batch.lengths) > 1:
            sizes.append(len(batch.lengths))
            raise MemoryError if len(sizes) % 2 else RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return step(batch, token_ids)

    monkeypatch.setattr(DecodingBatch, "step", step_in_little_memory)
    assert_same(synthesize(bark, requests, tokenizer=tokenizer), expected)
    assert sizes == [4, 2, 5, 2]  # 4 texts, of which one says nothing, and 5 rows of tokens


def test_too_little_memory_for_one_row_is_said(bark, monkeypatch):
    def fail(*args):
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(DecodingBatch, "step", fail)
    with pytest.raises(MemoryError, match="coarse stage of a single utterance"):
        semantic_to_codes(bark, [make_tokens(3)] * 3)


def test_little_memory_of_an_accelerator_is_freed_by_the_oldest_torch_too(bark, monkeypatch):
    freed, step = [], DecodingBatch.step

    def step_in_little_memory(batch, token_ids):
        if len(batch.lengths) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return step(batch, token_ids)

    monkeypatch.setattr(DecodingBatch, "step", step_in_little_memory)
    expected = list(semantic_to_codes(bark, [make_tokens(3)] * 2, batch_size=1))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append("cuda"))
    monkeypatch.delattr(torch.accelerator, "empty_cache", raising=False)
    codes = semantic_to_codes(bark, [make_tokens(3)] * 2, batch_size=2)
    assert all(np.array_equal(a, b) for a, b in zip(codes, expected, strict=True)) and freed == ["cuda"]


def test_other_errors_are_not_taken_for_lack_of_memory(bark, monkeypatch):
    def fail(*args):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(DecodingBatch, "step", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        semantic_to_codes(bark, [make_tokens(3)] * 3)


def test_requests_before_a_wrong_one_are_spoken(bark, tokenizer):
    requests = [
        SynthesisRequest(text="a", max_semantic_tokens=2, min_semantic_tokens=2),
        SynthesisRequest(text="x" * (TEXT_LENGTH + 1)),
    ]
    results = synthesize(bark, requests, tokenizer=tokenizer)
    assert next(results).index == 0
    with pytest.raises(ValueError, match=r"Request 1: the text 'x+'... has 65 ids; Bark reads 64 at once. Split"):
        next(results)


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "either a `text` or `semantic_tokens`"),
        ({"text": "a", "semantic_tokens": [1]}, "either a `text` or `semantic_tokens`"),
        ({"text": " \n"}, "nothing to say"),
        ({"semantic_tokens": []}, "one or more"),
        ({"semantic_tokens": [0.5]}, "must be integers"),
        ({"semantic_tokens": [[1]]}, "must be integers of shape"),
        ({"text": "a", "prompt_mode": "loud"}, "full, acoustic, semantic, none"),
        ({"text": "a", "seed": -1}, "`seed` is -1"),
        ({"text": "a", "min_semantic_tokens": -1}, "0 or more"),
    ],
)
def test_request_says_what_is_wrong(values, message):
    with pytest.raises(ValueError, match=message):
        SynthesisRequest(**values)


def test_request_takes_only_voice_prompts():
    with pytest.raises(TypeError, match=r"VoicePrompt.load reads files"):
        SynthesisRequest(text="a", voice_prompt="voice.npz")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"semantic_tokens": [0, 500]}, r"from 0 to 500; this Bark's lie in \[0, 500\)"),
        ({"text": "a", "max_semantic_tokens": 61}, "must be from 1 to 60"),
        ({"text": "a", "max_semantic_tokens": 0}, "must be from 1 to 60"),
        ({"text": "a", "min_semantic_tokens": 61}, "above the maximum of 60"),
        ({"text": "a", "max_semantic_tokens": 5, "min_semantic_tokens": 6}, "above the maximum of 5"),
    ],
)
def test_bark_says_what_it_cannot_speak(bark, tokenizer, values, message):
    with pytest.raises(ValueError, match=message):
        next(synthesize(bark, [SynthesisRequest(**values)], tokenizer=tokenizer))


@pytest.mark.parametrize("sizes, message", [({}, "10000 kinds"), ({"semantic_vocab_size": 500}, "8 of 64")])
def test_prompts_of_another_bark_are_refused(bark, sizes, message):
    prompt = VoicePrompt(np.zeros(10, int), np.zeros((8, 15), int), **sizes)
    with pytest.raises(ValueError, match=message):
        next(synthesize(bark, [SynthesisRequest(semantic_tokens=[1], voice_prompt=prompt)]))


def test_tokenizer_must_fit(bark, tokenizer):
    requests = [SynthesisRequest(text="a")]
    with pytest.raises(ValueError, match="pass Bark's `tokenizer`"):
        next(synthesize(bark, requests))
    with pytest.raises(ValueError, match="Pass the tokenizer that belongs to it"):
        next(synthesize(bark, requests, tokenizer=lambda text, add_special_tokens: {"input_ids": [30_000]}))
    with pytest.raises(ValueError, match="has no token"):
        next(synthesize(bark, requests, tokenizer=lambda text, add_special_tokens: {"input_ids": []}))
    with pytest.raises(TypeError, match=r"Request 0 is a str; make it a SynthesisRequest"):
        next(synthesize(bark, ["a"], tokenizer=tokenizer))


def test_bark_must_be_ready(bark):
    tokens = [make_tokens(3)]
    for options, message in [({"batch_size": 0}, "`batch_size` is 0"), ({"offload": True}, "needs an accelerator")]:
        if torch.accelerator.is_available() and "offload" in options:
            continue
        with pytest.raises(ValueError, match=message):
            semantic_to_codes(bark, tokens, **options)
    unready = copy.deepcopy(bark)
    unready.generation_config.coarse_acoustics_config["sliding_window_len"] = 31
    unready.coarse_acoustics.config.block_size = 337
    with pytest.raises(ValueError, match="whole frames of 2 coarse codebooks"):
        semantic_to_codes(unready, tokens)
    unready.generation_config.coarse_acoustics_config["sliding_window_len"] = 80
    with pytest.raises(ValueError, match="386 positions of the coarse stage, but there are only 337"):
        semantic_to_codes(unready, tokens)
    unready.generation_config = GenerationConfig()
    with pytest.raises(ValueError, match="lacks semantic_config"):
        semantic_to_codes(unready, tokens)
    unready.semantic.drop.p = 0.1
    unready.train()
    with pytest.raises(ValueError, match=r"Call bark.eval\(\) first"):
        semantic_to_codes(unready, tokens)


def test_codes_must_be_bark_codes(bark):
    with pytest.raises(ValueError, match=r"audio_codes 1 are int64 of shape \(2, 5\)"):
        codes_to_waveform(bark, [np.zeros((8, 5), int), np.zeros((2, 5), int)])
    with pytest.raises(ValueError, match=r"from 64 to 64; this Bark's lie in \[0, 64\)"):
        codes_to_waveform(bark, [np.full((8, 5), 64)])


@pytest.mark.parametrize("values", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"min_eos_p": 1.5}])
def test_sampling_refuses_what_is_out_of_range(values):
    with pytest.raises(ValueError, match=f"`{next(iter(values))}` is"):
        Sampling(**values)


def test_tokens_are_picked_as_often_as_they_are_likely():
    logits, count = torch.tensor([2.0, 0.0, 1.0, -1.0]), 20_000
    picked = pick_tokens(logits.expand(count, 4), Sampling(0.7), torch.linspace(0, 1, count))
    torch.testing.assert_close(picked.bincount(minlength=4) / count, (logits / 0.7).softmax(0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rules", [False, True])
def test_each_row_is_picked_at_its_own_temperature(rules):
    logits = 2 * torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    uniforms, temperatures = torch.tensor([0.1, 0.5, 0.9, 0.7]), [0.0, 0.5, 1.5, 0.0]
    for min_eos_p in (None, 0.02, 0.1, 0.3):
        rule = Sampling(min_eos_p=min_eos_p, top_p=0.9)
        options = {"predicts_end": True, "transformers_rules": rules}
        together = pick_tokens(
            logits, rule, uniforms, temperatures=Temperatures.of(temperatures, logits.device), **options
        )
        for row, temperature in enumerate(temperatures):
            one = slice(row, row + 1)
            alone = pick_tokens(logits[one], replace(rule, temperature=temperature), uniforms[one], **options)
            assert together[row] == alone


@pytest.mark.parametrize("rules", [False, True])
def test_filters_leave_the_likeliest_tokens(rules):
    logits = torch.tensor([[0.05, 0.4, 0.3, 0.15, 0.1]]).log().expand(1000, 5)

    def picked(**values):
        sampling = Sampling(1.0, **values)
        return set(pick_tokens(logits, sampling, torch.linspace(0, 1, 1000), transformers_rules=rules).tolist())

    assert picked() == {0, 1, 2, 3, 4}
    assert picked(top_k=1) == {1} and picked(top_k=3) == {1, 2, 3}
    assert picked(top_p=0.3) == {1} and picked(top_p=0.6) == {1, 2} and picked(top_p=0.9) == {1, 2, 3, 4}
    assert picked(top_p=0.9, top_k=2) == {1, 2}


def test_the_end_counts_after_temperature_unless_transformers_rules():
    logits = torch.tensor([[0.7, 0.3]]).log()  # the end, last, has 0.3; at temperature 0.5 it has 0.155
    uniforms = torch.zeros(1)

    def ends(sampling, rules):
        return pick_tokens(logits, sampling, uniforms, predicts_end=True, transformers_rules=rules).item() == 1

    assert ends(Sampling(0.5, min_eos_p=0.2), True) and not ends(Sampling(0.5, min_eos_p=0.2), False)
    assert ends(Sampling(0.5, min_eos_p=0.15), False)
    assert not ends(Sampling(0.5, min_eos_p=None), True)
    end_alone = torch.tensor([[-torch.inf, 0.0]])
    assert pick_tokens(end_alone, Sampling(1.0), uniforms, predicts_end=True).item() == 1


def test_fine_stage_samples_at_temperature_one_unless_transformers_rules(bark):
    tokens = [make_tokens(10)]
    at_one, greedy = (
        [SynthesisRequest(semantic_tokens=tokens[0], coarse=GREEDY, fine=fine)] for fine in (Sampling(1.0), GREEDY)
    )
    expected = semantic_to_codes(bark, tokens, greedy, transformers_rules=True)[0]
    np.testing.assert_array_equal(semantic_to_codes(bark, tokens, at_one, transformers_rules=True)[0], expected)
    assert not np.array_equal(semantic_to_codes(bark, tokens, at_one)[0], expected)
