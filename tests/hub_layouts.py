"""Repositories in the layouts of the Hub, with random weights, tiny or of their real shapes.

bark_small       suno/bark-small: one pickled checkpoint of 2023, a WordPiece tokenizer, presets in folders
speech_model     facebook/hubert-base-ls960 and the like: one pickled checkpoint with the old names of weight norm
encodec_24khz    facebook/encodec_24khz: safetensors with today's names
community        a quantizer as its program writes it
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import (
    BarkConfig,
    BarkModel,
    BertTokenizerFast,
    EncodecConfig,
    EncodecFeatureExtractor,
    EncodecModel,
    GenerationConfig,
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
    WavLMModel,
)

from hf_bark_semantic import VoicePrompt
from hf_bark_semantic.configuration_bark_semantic import SEMANTIC_VOCAB_SIZE, num_codec_frames
from quantizers import Quantizer, save_as_gitmylo, seeded
from tiny import backbone_config, random_codes, tiny_bark, tiny_codec_config

PRESETS = ("v2/en_speaker_0", "v2/de_speaker_3", "announcer")
BARK_SMALL = {"num_layers": 12, "num_heads": 12, "hidden_size": 768, "block_size": 1024, "bias": False, "dropout": 0.0}
FIRST_SPOKEN = 257  # position of the first semantic token, behind text and history
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "cat", "runs", "sleeps", ".", ",", "!", "[", "]"]


def with_old_weight_norm(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of weights as torch had them before 2.0 and the Hub's old checkpoints still do."""
    return {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): weight
        for name, weight in weights.items()
    }


def save_pickled(model: PreTrainedModel, folder: Path, **more: torch.Tensor) -> None:
    """`config.json` and `pytorch_model.bin`, as transformers wrote them until 2023."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    torch.save({**with_old_weight_norm(model.state_dict()), **more}, folder / "pytorch_model.bin")


def bark_small(folder: Path, *, real: bool = False) -> Path:
    """Suno's Bark of 10,000 tokens; a tiny one has their ids, too, behind fewer layers."""
    bark = real_bark() if real else tiny_bark(vocab_size=SEMANTIC_VOCAB_SIZE)
    masks = {}
    for stage in ("semantic", "coarse_acoustics"):  # buffers that transformers no longer has
        config = getattr(bark.config, f"{stage}_config")
        mask = torch.tril(torch.ones(config.block_size, config.block_size, dtype=torch.bool))
        names = (f"{stage}.layers.{number}.attn.bias" for number in range(config.num_layers))
        masks |= {name: mask.view(1, 1, config.block_size, config.block_size) for name in names}
    save_pickled(bark, folder, **masks)
    bark.generation_config.save_pretrained(folder)
    padding = [f"[unused{number}]" for number in range(119_547 - len(WORDS))] if real else []
    (folder / "vocab.txt").write_text("\n".join([*WORDS, *padding]), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    paths = {"repo_or_path": "ylacombe/bark-small"}  # where its author had it first
    for name in PRESETS:
        prompt = VoicePrompt(31 * np.arange(300) % SEMANTIC_VOCAB_SIZE, random_codes(num_codec_frames(300)))
        paths[name] = {part: f"speaker_embeddings/{name}_{part}.npy" for part in prompt.to_dict()}
        for part, array in prompt.to_dict().items():
            (folder / paths[name][part]).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / paths[name][part], array)
    (folder / "speaker_embeddings_path.json").write_text(json.dumps(paths))
    (folder / "README.md").write_text("---\nlicense: mit\npipeline_tag: text-to-speech\n---\n# Bark\n")
    return folder


def real_bark() -> BarkModel:
    """Of bark-small's shapes and ids; what it says has 2 s."""
    torch.manual_seed(0)
    config = BarkConfig(
        semantic_config={**BARK_SMALL, "input_vocab_size": 129_600, "output_vocab_size": 10_048},
        coarse_acoustics_config={**BARK_SMALL, "input_vocab_size": 12_096, "output_vocab_size": 12_096},
        fine_acoustics_config={**BARK_SMALL, "input_vocab_size": 1_056, "output_vocab_size": 1_056},
        codec_config=EncodecConfig().to_dict(),
    )
    bark = BarkModel(config).eval()
    end_after(bark, 100)
    bark.generation_config = GenerationConfig(
        semantic_config={"max_new_tokens": 768, "semantic_vocab_size": SEMANTIC_VOCAB_SIZE},
        coarse_acoustics_config={},
        fine_acoustics_config={},
        codebook_size=1024,
        sample_rate=24_000,
    )
    return bark


@torch.no_grad()
def end_after(bark: BarkModel, num_tokens: int) -> None:
    """Let a Bark of random weights end what it says: its last position looks like the end, whatever was said."""
    width = bark.semantic.config.hidden_size
    end = torch.tensor([1.0, -1.0]).repeat(width // 2)
    bark.semantic.position_embeds_layer.weight[FIRST_SPOKEN + num_tokens - 1] = 100 * end
    bark.semantic.lm_head.weight[SEMANTIC_VOCAB_SIZE] = end / width**0.5


def speech_model(folder: Path, kind: type[PreTrainedModel] = HubertModel, *, real: bool = False) -> Path:
    """A HuBERT base, or another kind of its layout; a tiny one is 32 wide and has twelve layers, too."""
    torch.manual_seed(0)
    config = HubertConfig() if real else backbone_config("wavlm" if kind is WavLMModel else "hubert")
    config.num_hidden_layers = 12
    save_pickled(kind(config), folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def encodec_24khz(folder: Path, *, real: bool = False) -> Path:
    torch.manual_seed(0)
    EncodecModel(EncodecConfig() if real else tiny_codec_config()).save_pretrained(folder)
    EncodecFeatureExtractor(sampling_rate=24_000).save_pretrained(folder)
    return folder


def community(folder: Path, file: str, *, version: int = 0, real: bool = False) -> Path:
    """Of 10,000 tokens; without an `.info` record where it has the sizes that those are known to have."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = (768, 1_024, SEMANTIC_VOCAB_SIZE) if real else (32, 24, SEMANTIC_VOCAB_SIZE)
    quantizer = seeded(Quantizer(*sizes, version, *([4_096] if real else [])))
    info = dict(zip(("input_size", "hidden_size", "output_size"), sizes, strict=True)) | {"version": version}
    save_as_gitmylo(folder / file, quantizer, None if real and not version else info)
    return folder


def in_shards(model: nn.Module, folder: Path) -> Path:
    """Safetensors in several files with an index."""
    model.save_pretrained(folder, max_shard_size="50KB")
    return folder
