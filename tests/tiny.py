"""Tiny models, voices, recordings and rows, random but reproducible."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    AutoConfig,
    BarkConfig,
    BarkModel,
    BarkProcessor,
    EncodecConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from hf_bark_semantic import (
    BarkSemanticEncoderConfig,
    BarkSemanticEncoderModel,
    BarkSemanticEncoderProcessor,
    VoicePrompt,
)
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames, num_samples_of_codec_frames

_TINY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
_TINY_CONV = {
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
BACKBONES = {
    "hubert": {**_TINY, **_TINY_CONV},
    "hubert-large": {
        **_TINY, **_TINY_CONV, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True
    },
    "wav2vec2": {**_TINY, **_TINY_CONV},
    "wavlm": {**_TINY, **_TINY_CONV},
    "wavlm-large": {
        **_TINY, **_TINY_CONV, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True
    },
    "data2vec-audio": {**_TINY, **_TINY_CONV, "num_conv_pos_embeddings": 3},
    "wav2vec2-bert": {**_TINY, "feature_projection_input_dim": 160},
    "whisper": {
        "d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 64,
        "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 64,
    },
}  # fmt: skip


def backbone_config(name: str):
    return AutoConfig.for_model(name.removesuffix("-large"), **BACKBONES[name])


def tiny_encoder(backbone: str | None = "hubert", **config) -> BarkSemanticEncoderModel:
    """A random encoder with a vocabulary of 50 and weights large enough that its tokens vary."""
    torch.manual_seed(0)
    config = {"backbone_layers": [2], "vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, **config}
    config = {"intermediate_size": 64, "num_hidden_layers": 1, **config}
    backbone = None if backbone is None else backbone_config(backbone)
    return BarkSemanticEncoderModel(BarkSemanticEncoderConfig(backbone_config=backbone, **config)).eval()


def save_tiny_encoder(folder: Path, **config) -> str:
    """`tiny_encoder` with its processor, as `save_pretrained` leaves them."""
    tiny_encoder(**config).save_pretrained(folder)
    BarkSemanticEncoderProcessor().save_pretrained(folder)
    return str(folder)


TINY_WORDS = ["the", "a", "dog", "cat", "runs", "sleeps", "laughs", "man", "one", "two", "three", *".,!?[]:♪'-"]


def tiny_codec_config(**values) -> EncodecConfig:
    return EncodecConfig(num_filters=4, hidden_size=8, codebook_dim=8, num_lstm_layers=1, **values)


def tiny_bark(*, vocab_size: int = 50, max_new_tokens: int = 100) -> BarkModel:
    """A random Bark none of whose ids is Suno's: the tokens of `tiny_encoder`, then the special ids, then the text."""
    torch.manual_seed(0)
    text_offset, num_words, codes_end = vocab_size + 6, 32, vocab_size + 2 * 1024
    shape = {"num_layers": 1, "num_heads": 2, "hidden_size": 16, "bias": False}
    config = BarkConfig(
        semantic_config={
            **shape, "block_size": 400,
            "input_vocab_size": text_offset + num_words + 2, "output_vocab_size": text_offset,
        },
        coarse_acoustics_config={
            **shape, "block_size": 1024, "input_vocab_size": codes_end + 4, "output_vocab_size": codes_end + 4
        },
        fine_acoustics_config={**shape, "bias": True, "block_size": 1024},
        codec_config=tiny_codec_config().to_dict(),
    )  # fmt: skip
    bark = BarkModel(config).eval()
    with torch.no_grad():  # so that what it says depends on what it hears
        for stage in (bark.semantic, bark.coarse_acoustics, bark.fine_acoustics):
            for weight in stage.parameters():
                weight *= 10 if weight.ndim == 2 else 1
    bark.generation_config = GenerationConfig(
        semantic_config={
            "eos_token_id": vocab_size, "max_new_tokens": max_new_tokens, "text_encoding_offset": text_offset,
            "text_pad_token": text_offset + num_words, "semantic_infer_token": text_offset + num_words + 1,
            "semantic_vocab_size": vocab_size,
        },
        coarse_acoustics_config={"coarse_semantic_pad_token": codes_end, "coarse_infer_token": codes_end + 2},
        fine_acoustics_config={},
        codebook_size=1024,
        sample_rate=24_000,
    )  # fmt: skip
    return bark


def tiny_bark_processor(presets: dict[str, dict] | None = None, folder: Path | None = None) -> BarkProcessor:
    """A tokenizer of some words, and voice presets, which are written to `folder`."""
    words = {word: i for i, word in enumerate(dict.fromkeys(["<unk>", "<pad>", *TINY_WORDS]))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")
    if not presets:
        return BarkProcessor(tokenizer)
    paths = {"repo_or_path": str(folder)}
    for name, arrays in presets.items():
        paths[name] = {key: f"{name.replace('/', '_')}_{key}.npy" for key in arrays}
        for key, array in arrays.items():
            np.save(folder / paths[name][key], array)
    return BarkProcessor(tokenizer, speaker_embeddings=paths)


def tiny_prompt(num_tokens: int = 60) -> VoicePrompt:
    """A voice for `tiny_bark`."""
    codes = random_codes(num_codec_frames(num_tokens))
    return VoicePrompt(np.arange(num_tokens) % 50, codes, semantic_vocab_size=50)


def noise(seconds: float, seed: int = 0, sampling_rate: int = 16_000) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * sampling_rate))).astype(np.float32)


def random_codes(num_frames: int, seed: int = 0, num_codebooks: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1024, (num_codebooks, num_frames))


def corpus_row(seed, num_tokens=180, source="pair", fold=0, with_audio=True, **changes):
    num_frames = num_codec_frames(num_tokens)
    waveform = np.resize(noise(2.0, seed), num_samples_of_codec_frames(num_frames))
    row = {
        "id": f"{source}-{seed}",
        "source": source,
        "kind": "english",
        "voice": f"voice-{seed}",
        "fold": fold,
        "in_folds": True,
        "semantic_tokens": np.random.default_rng(seed).integers(0, 50, num_tokens).tolist(),
        "audio_codes": random_codes(num_frames, seed).tolist(),
        "audio": waveform if with_audio else waveform[:0],
    }
    return {**row, **changes}
