"""A random Bark of two layers, none of whose ids and lengths is Suno's, with its tokenizer, prompts and requests."""

import numpy as np
import torch
from transformers import BarkConfig, BarkModel, EncodecConfig, GenerationConfig

from hf_bark_semantic import VoicePrompt
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.sampling import Sampling
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames

VOCAB_SIZE, CODEBOOK_SIZE, TEXT_LENGTH, MAX_TOKENS = 500, 64, 64, 60
CODES_END = VOCAB_SIZE + 2 * CODEBOOK_SIZE
SUB_CONFIGS = {  # none of the ids and lengths is Suno's
    "semantic_config": {
        "eos_token_id": VOCAB_SIZE, "text_encoding_offset": 520, "text_pad_token": 598, "semantic_infer_token": 599,
        "semantic_vocab_size": VOCAB_SIZE, "max_input_semantic_length": TEXT_LENGTH, "max_new_tokens": MAX_TOKENS,
    },
    "coarse_acoustics_config": {
        "coarse_semantic_pad_token": CODES_END, "coarse_infer_token": CODES_END + 2,
        "max_coarse_input_length": 96, "max_coarse_history": 210, "sliding_window_len": 30,
    },
    "fine_acoustics_config": {"max_fine_history_length": 64, "max_fine_input_length": 128},
}  # fmt: skip
GREEDY = Sampling(0.0, min_eos_p=None)
ALL_GREEDY = {"semantic": GREEDY, "coarse": GREEDY, "fine": GREEDY}
TEXTS = ["the cat sleeps", "a dog runs.", "one two three", "x" * TEXT_LENGTH]


class LetterTokenizer:
    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [byte % 60 for byte in text.encode()]}


def make_bark() -> BarkModel:
    """A random Bark whose weights are large enough that its tokens vary."""
    torch.manual_seed(0)
    shape = {"num_layers": 2, "num_heads": 4, "hidden_size": 32, "bias": False}
    coarse, fine = CODES_END + 16, CODEBOOK_SIZE + 8
    config = BarkConfig(
        semantic_config={
            **shape, "block_size": TEXT_LENGTH + MAX_TOKENS, "input_vocab_size": 600, "output_vocab_size": 508,
        },
        coarse_acoustics_config={
            **shape, "block_size": 336, "input_vocab_size": coarse, "output_vocab_size": coarse,
        },
        fine_acoustics_config={**shape, "block_size": 128, "input_vocab_size": fine, "output_vocab_size": fine},
        codec_config=EncodecConfig(
            num_filters=2, hidden_size=16, codebook_dim=16, codebook_size=CODEBOOK_SIZE, num_lstm_layers=1,
            target_bandwidths=[6.0],
        ).to_dict(),
    )  # fmt: skip
    model = BarkModel(config).eval()
    with torch.no_grad():
        for stage in (model.semantic, model.coarse_acoustics, model.fine_acoustics):
            for parameter in stage.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3)
        model.semantic.lm_head.weight[VOCAB_SIZE] *= 1.2  # so that some texts come to an end, and some do not
        for layer in model.codec_model.quantizer.layers:
            layer.codebook.embed.normal_()
    model.generation_config = GenerationConfig(**SUB_CONFIGS, codebook_size=CODEBOOK_SIZE, sample_rate=24_000)
    return model


def make_prompt(num_tokens: int | None, seed: int = 0) -> VoicePrompt | None:
    if num_tokens is None:
        return None
    generator = np.random.default_rng(seed)
    tokens = generator.integers(0, VOCAB_SIZE, num_tokens)
    codes = generator.integers(0, CODEBOOK_SIZE, (8, num_codec_frames(num_tokens)))
    return VoicePrompt(tokens, codes, semantic_vocab_size=VOCAB_SIZE, codebook_size=CODEBOOK_SIZE)


def make_tokens(num_tokens: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB_SIZE, num_tokens)


def make_requests(**values) -> list[SynthesisRequest]:
    """Every kind of request: texts and tokens, with and without prompts, long and short."""
    return [
        SynthesisRequest(text=TEXTS[0], seed=1, max_semantic_tokens=30, **values),
        SynthesisRequest(text=TEXTS[1], seed=2, voice_prompt=make_prompt(20), **values),
        SynthesisRequest(semantic_tokens=make_tokens(50), seed=3, voice_prompt=make_prompt(150), **values),
        SynthesisRequest(
            text=TEXTS[2], max_semantic_tokens=35, voice_prompt=make_prompt(150), prompt_mode="acoustic", **values
        ),
        SynthesisRequest(semantic_tokens=make_tokens(3), seed=5, **values),
        SynthesisRequest(
            text=TEXTS[3], max_semantic_tokens=20, voice_prompt=make_prompt(60, 1), prompt_mode="semantic", **values
        ),
    ]


def assert_same(results, others):
    for one, other in zip(results, others, strict=True):
        np.testing.assert_array_equal(one.semantic_tokens, other.semantic_tokens)
        np.testing.assert_array_equal(one.audio_codes, other.audio_codes)
        np.testing.assert_allclose(one.waveform, other.waveform, atol=1e-5)
        assert one.finish_reason == other.finish_reason
