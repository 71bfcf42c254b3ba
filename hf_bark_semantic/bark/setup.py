"""A Bark with its generation configs, which are checked against each other, and options of its synthesis."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BarkModel
from transformers.models.bark.generation_configuration_bark import (
    BarkCoarseGenerationConfig,
    BarkFineGenerationConfig,
    BarkSemanticGenerationConfig,
)

from .configs import BarkGenerationConfigs, bark_generation_configs
from .prompting import check_text, longest_generation, text_to_ids
from .request import SynthesisRequest
from .sampling import Guidance, Sampling
from .transformer import Savings


@dataclass(frozen=True)
class BarkSetup:
    """A Bark that matches its generation config, and options of its synthesis.

    Args:
        bark, batch_size, savings, transformers_rules, offload, on_step: see [`synthesize`].

    Raises:
        ValueError: a value is out of range, the Bark is in training mode, or its models have fewer ids or positions
            than its generation config needs.
    """

    bark: BarkModel
    batch_size: int = 1
    _: KW_ONLY
    savings: Savings = Savings()
    transformers_rules: bool = False
    offload: bool = False
    on_step: Callable[[str], Any] | None = None
    configs: BarkGenerationConfigs = field(init=False)

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"`batch_size` is {self.batch_size}; it must be 1 or more.")
        if any(isinstance(module, nn.Dropout) and module.training and module.p for module in self.bark.modules()):
            raise ValueError("Bark is in training mode and drops values at random. Call bark.eval() first.")
        if self.offload and not torch.accelerator.is_available():
            raise ValueError("`offload=True` needs an accelerator, and torch finds none. Leave it out.")
        object.__setattr__(self, "configs", bark_generation_configs(self.bark))
        self._check_sizes()

    def _check_sizes(self) -> None:
        bark, semantic, coarse, fine = self.bark, self.semantic, self.coarse, self.fine
        coarse_end = semantic.semantic_vocab_size + coarse.n_coarse_codebooks * self.codebook_size
        coarse_window = coarse.max_coarse_input_length + coarse.max_coarse_history + coarse.sliding_window_len
        rules = [  # (name, needed by the generation config, present in the model)
            ("text ids", semantic.max_input_semantic_length + 1, bark.semantic.config.block_size),
            ("semantic ids", semantic.semantic_pad_token + 1, bark.semantic.config.output_vocab_size),
            ("coarse ids", coarse_end, bark.coarse_acoustics.config.output_vocab_size),
            ("positions of the coarse stage", coarse_window, bark.coarse_acoustics.config.block_size),
            ("fine ids", self.codebook_size, bark.fine_acoustics.config.output_vocab_size),
            ("positions of the fine stage", fine.max_fine_input_length, bark.fine_acoustics.config.block_size),
            ("frames of fine history", fine.max_fine_history_length, fine.max_fine_input_length),
            ("semantic tokens per second", semantic.semantic_rate_hz, coarse.coarse_rate_hz),
        ]
        for name, needed, present in rules:
            if needed > present:
                raise ValueError(
                    f"`bark.generation_config` needs {needed} {name}, but there are only {present}. It belongs to "
                    "another Bark; load the model with its own generation_config.json."
                )
        if coarse.sliding_window_len % coarse.n_coarse_codebooks:
            raise ValueError(
                f"`sliding_window_len` is {coarse.sliding_window_len}; it must hold whole frames of "
                f"{coarse.n_coarse_codebooks} coarse codebooks."
            )

    @property
    def semantic(self) -> BarkSemanticGenerationConfig:
        return self.configs.semantic

    @property
    def coarse(self) -> BarkCoarseGenerationConfig:
        return self.configs.coarse

    @property
    def fine(self) -> BarkFineGenerationConfig:
        return self.configs.fine

    @property
    def codebook_size(self) -> int:
        return self.configs.codebook_size

    @property
    def sampling_rate(self) -> int:
        return self.bark.generation_config.sample_rate

    @property
    def max_semantic_tokens(self) -> int:
        """See [`longest_generation`]."""
        return longest_generation(self.configs, self.bark.semantic.config.block_size)

    def text_ids(self, text: str, tokenizer: Any, name: str = "The text") -> np.ndarray:
        """The ids of a text, after checking them: see [`text_to_ids`].

        Raises:
            ValueError: the text has no ids, more than this Bark reads at once, or ids beyond its vocabulary.
        """
        ids = text_to_ids(text, tokenizer)
        if not len(ids):
            raise ValueError(f"{name} {text!r} has no token. Write words, or leave the text out.")
        check_text(len(ids), self.configs, f"{name} {text[:40]!r}...")
        vocab_size = self.bark.semantic.config.input_vocab_size
        if ids.max() + self.semantic.text_encoding_offset >= vocab_size:
            raise ValueError(
                f"{name}: the tokenizer gives id {ids.max()}, beyond the {vocab_size} inputs of this Bark. Pass the "
                "tokenizer that belongs to it."
            )
        return ids

    def sampling(self, stage: str, request: SynthesisRequest | None) -> Sampling | None:
        """The sampling of a stage for a request; the default temperature is the Bark's own."""
        sampling = getattr(request, stage, None)
        if sampling is None or sampling.temperature is not None:
            return sampling
        return replace(sampling, temperature=self.configs.temperatures[stage])

    def temperature(self, stage: str, request: SynthesisRequest) -> float:
        """The temperature of a stage for a request; 0 chooses the likeliest token."""
        sampling = self.sampling(stage, request)
        assert sampling is not None and sampling.temperature is not None
        greedy = stage == "fine" and self.transformers_rules and sampling.temperature == 1.0
        return 0.0 if greedy else sampling.temperature

    def announce(self, stage: str) -> None:
        """Call `on_step` at the start of a step."""
        if self.on_step is not None:
            self.on_step(stage)

    def guidance(self, stage: str, sampling: Sampling) -> Guidance:
        """The guidance of the sampling; its defaults are the Bark's own."""
        own = (1.0, 1.0) if self.transformers_rules else self.configs.guidance_scales(stage)
        asked = (sampling.guidance_scale, sampling.voice_guidance_scale)
        return Guidance(*(scale if wanted is None else wanted for scale, wanted in zip(own, asked, strict=True)))

    def token_limit(self, request: SynthesisRequest) -> int:
        return request.max_semantic_tokens or self.max_semantic_tokens


__all__ = ["BarkSetup"]
