"""The ids, lengths and rates of a Bark's stages, from its generation config, without assuming those of Suno."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from transformers import BarkModel, GenerationConfig
from transformers.models.bark.generation_configuration_bark import (
    BarkCoarseGenerationConfig,
    BarkFineGenerationConfig,
    BarkSemanticGenerationConfig,
)

from ..configuration_bark_semantic import CODEC_RATE_HZ, NUM_COARSE_CODEBOOKS, SEMANTIC_RATE_HZ, num_semantic_tokens

STAGES = ("semantic", "coarse", "fine")
SUNO_TEMPERATURES = {"semantic": 0.7, "coarse": 0.7, "fine": 0.5}  # suno-ai/bark, api.py and generation.py


@dataclass(frozen=True)
class HistoryLengths:
    """How much of a voice prompt each stage of a Bark uses; the default is for Suno's.

    Args:
        semantic_tokens (`int`): the semantic stage's.
        coarse_ids (`int`): the coarse stage's, of two codebooks.
        fine_frames (`int`): the fine stage's.
        coarse_per_token (`float`): coarse ids per semantic token, 3.006.
    """

    semantic_tokens: int = BarkSemanticGenerationConfig().max_input_semantic_length  # 256 tokens, 5.13 s
    coarse_ids: int = BarkCoarseGenerationConfig().max_coarse_history  # 630 ids, 4.19 s
    fine_frames: int = BarkFineGenerationConfig().max_fine_history_length  # 512 frames, 6.83 s
    coarse_per_token: float = NUM_COARSE_CODEBOOKS * CODEC_RATE_HZ / SEMANTIC_RATE_HZ

    @property
    def coarse_tokens(self) -> int:
        """Semantic tokens that belong to the coarse ids (209)."""
        return int(self.coarse_ids / self.coarse_per_token)

    @property
    def most_tokens(self) -> int:
        """The semantic tokens that any stage reads (341, 6.83 s)."""
        return max(self.semantic_tokens, self.coarse_tokens + 1, num_semantic_tokens(self.fine_frames))

    @property
    def window_s(self) -> tuple[float, float]:
        """Seconds that fill the histories of the semantic and the coarse stage, and all that any stage reads."""
        shortest = max(self.semantic_tokens, self.coarse_tokens + 1) / SEMANTIC_RATE_HZ
        return shortest, max(shortest, self.fine_frames / CODEC_RATE_HZ)


SUNO_HISTORIES = HistoryLengths()


@dataclass(frozen=True, eq=False)
class BarkGenerationConfigs:
    """The typed generation configurations of the three stages, and the lengths that inference derives from them."""

    semantic: BarkSemanticGenerationConfig
    coarse: BarkCoarseGenerationConfig
    fine: BarkFineGenerationConfig
    codebook_size: int

    @property
    def coarse_per_token(self) -> float:
        """Coarse ids per semantic token (3.006 in Suno's Bark)."""
        return self.coarse.coarse_rate_hz / self.semantic.semantic_rate_hz * self.coarse.n_coarse_codebooks

    @property
    def history_lengths(self) -> HistoryLengths:
        return HistoryLengths(
            self.semantic.max_input_semantic_length,
            self.coarse.max_coarse_history,
            self.fine.max_fine_history_length,
            self.coarse_per_token,
        )

    @property
    def vocabularies(self) -> dict[str, Any]:
        """The two vocabulary sizes that a voice prompt must fit: its keyword arguments."""
        return {"semantic_vocab_size": self.semantic.semantic_vocab_size, "codebook_size": self.codebook_size}

    def guidance_scales(self, stage: str) -> tuple[float, float]:
        """Default classifier-free guidance of `"semantic"` or `"coarse"` by content and by voice; 1 for none.

        They are in keys of this package, because transformers' own `guidance_scale` has another meaning.
        """
        config = getattr(self, stage)
        condition = getattr(config, "condition_guidance_scale", None)
        return condition or 1.0, getattr(config, "voice_guidance_scale", None) or 1.0

    @property
    def temperatures(self) -> dict[str, float]:
        """Default temperatures of the `"semantic"`, `"coarse"` and `"fine"` stages.

        They are in a key of this package. Without it, they are the values of Suno's program, which can differ from the
        `temperature` in Suno's files.
        """
        own = {stage: getattr(getattr(self, stage), "speech_temperature", None) for stage in SUNO_TEMPERATURES}
        return {stage: SUNO_TEMPERATURES[stage] if value is None else value for stage, value in own.items()}

    def num_frames(self, num_tokens: int) -> int:
        """Codec frames that the coarse stage makes of `num_tokens` semantic tokens."""
        return int(np.floor(num_tokens * self.coarse_per_token / self.coarse.n_coarse_codebooks + 1e-6))


def bark_generation_configs(bark) -> BarkGenerationConfigs:
    """The three generation configurations of a `BarkModel`, or of its `generation_config`.

    The parts may be objects or dictionaries, as after `from_pretrained`.
    """
    config = getattr(bark, "generation_config", bark)
    classes = {
        "semantic_config": BarkSemanticGenerationConfig,
        "coarse_acoustics_config": BarkCoarseGenerationConfig,
        "fine_acoustics_config": BarkFineGenerationConfig,
    }
    missing = [name for name in (*classes, "codebook_size") if getattr(config, name, None) is None]
    if missing:
        raise ValueError(
            f"The generation config lacks {', '.join(missing)}, so Bark's ids and lengths are unknown. Set "
            "`bark.generation_config` to a GenerationConfig with semantic_config, coarse_acoustics_config, "
            "fine_acoustics_config and codebook_size."
        )
    parts = [getattr(config, name) for name in classes]
    semantic, coarse, fine = (_typed(part, class_) for part, class_ in zip(parts, classes.values(), strict=True))
    return BarkGenerationConfigs(semantic, coarse, fine, config.codebook_size)


def _typed(part, class_):
    if not isinstance(part, dict):
        return part
    config = class_(**part)
    if "speech_temperature" in part:  # BarkFineGenerationConfig drops unknown keys
        config.speech_temperature = part["speech_temperature"]
    return config


def with_coarse_window(bark: BarkModel, length: int) -> GenerationConfig:
    """A Bark's generation config with another window of the coarse stage, and the longest history that fits with it.

    With a longer window, the coarse stage has fewer prefills, and generates different tokens.

    Args:
        bark (`BarkModel`): the Bark; it is not changed.
        length (`int`): coarse ids that are generated before the window moves, `sliding_window_len`.

    Raises:
        ValueError: the window splits a frame, or leaves no room for a history of the same length.
    """
    coarse = bark_generation_configs(bark).coarse
    room = bark.coarse_acoustics.config.block_size - coarse.max_coarse_input_length - length
    history = min(coarse.max_coarse_history, room - room % coarse.n_coarse_codebooks)
    if length % coarse.n_coarse_codebooks or history < length:
        raise ValueError(
            f"A window of {length} ids does not fit: it must have whole frames of {coarse.n_coarse_codebooks}, and "
            f"leave room for a history of this length or longer in the {room + length} positions of the coarse stage."
        )
    config = deepcopy(bark.generation_config)
    part = config.coarse_acoustics_config
    part = part if isinstance(part, dict) else part.to_dict()
    config.coarse_acoustics_config = {**part, "sliding_window_len": length, "max_coarse_history": history}
    return config


def bark_stage(bark: BarkModel, stage: str) -> nn.Module:
    """The model of "semantic", "coarse" or "fine"."""
    return {"semantic": bark.semantic, "coarse": bark.coarse_acoustics, "fine": bark.fine_acoustics}[stage]


__all__ = [
    "STAGES",
    "SUNO_HISTORIES",
    "SUNO_TEMPERATURES",
    "BarkGenerationConfigs",
    "HistoryLengths",
    "bark_generation_configs",
    "bark_stage",
    "with_coarse_window",
]
