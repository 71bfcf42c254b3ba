"""Tiny models and the paths of real data, which most machines don't have."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from hf_bark_semantic import BarkSemanticEncoderConfig, BarkSemanticEncoderModel

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"

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


def noise(seconds: float, seed: int = 0, sampling_rate: int = 16_000) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * sampling_rate))).astype(np.float32)


def random_codes(num_frames: int, seed: int = 0, num_codebooks: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1024, (num_codebooks, num_frames))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip("the real Bark artefacts are not here")
    return REAL_DATA
