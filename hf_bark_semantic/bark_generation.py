"""What a Bark's generation config says: the ids, lengths and rates of its stages. Nothing of Suno's is assumed."""

from dataclasses import dataclass

import numpy as np
from transformers.models.bark.generation_configuration_bark import (
    BarkCoarseGenerationConfig,
    BarkFineGenerationConfig,
    BarkSemanticGenerationConfig,
)


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
    def max_semantic_history(self) -> int:
        """Semantic tokens before the current one that the coarse stage sees (209)."""
        return int(np.floor(self.coarse.max_coarse_history / self.coarse_per_token))

    @property
    def max_history_tokens(self) -> int:
        """The semantic tokens of a voice history that any stage reads."""
        fine = int(self.fine.max_fine_history_length * self.coarse.n_coarse_codebooks / self.coarse_per_token) + 1
        return max(self.semantic.max_input_semantic_length, self.max_semantic_history, fine)

    def num_frames(self, num_tokens: int) -> int:
        """Codec frames that the coarse stage makes of `num_tokens` semantic tokens."""
        return int(np.floor(num_tokens * self.coarse_per_token / self.coarse.n_coarse_codebooks + 1e-6))


def bark_generation_configs(bark) -> BarkGenerationConfigs:
    """Give the three generation configurations of a `BarkModel`, or of its `generation_config`.

    Their parts may be dictionaries, as `from_pretrained` leaves them, or objects.
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
    typed = [class_(**p) if isinstance(p, dict) else p for class_, p in zip(classes.values(), parts, strict=True)]
    return BarkGenerationConfigs(*typed, codebook_size=config.codebook_size)


__all__ = ["BarkGenerationConfigs", "bark_generation_configs"]
