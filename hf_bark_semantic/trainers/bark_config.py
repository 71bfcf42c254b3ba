"""The config of Bark's fine-tuning: a dataclass for each section, checked before anything is computed.

config = read_bark_config("finetune_lora", ["training.steps=100"])
config.training_of("semantic").steps, config.of_stage("lora", "coarse"), config.validation.patience
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..bark.adapters import lora_config
from ..bark.configs import STAGES
from .bark_batches import UtteranceBatches
from .loop import TrainingArguments
from .settings import arguments_of, checked_values, parameters_of, read_config, set_value

KEYS = {  # keys of the sections that each stage can have; the run sets the others
    "lora": parameters_of(lora_config),
    "training": {name: hint for name, hint in parameters_of(TrainingArguments).items() if name != "output_dir"},
    "batches": {
        **{
            name: hint
            for name, hint in parameters_of(UtteranceBatches).items()
            if name not in ("utterances", "configs", "stage", "steps", "seed", "share")
        },
        "gradient_accumulation": int,  # turns of a `Share`
    },
}
# Low learning rates, because few recordings are enough for a voice, but not for a language.
DEFAULT_TRAINING = {"steps": 500, "warmup": 0.05, "weight_decay": 0.01, "checkpoint_every": 50, "log_every": 10}
DEFAULT_RATES = {"lora": 1e-4, "qlora": 1e-4, "full": 1e-5}
DEFAULT_REPLAY_SHARE = 0.2
PROBE_TEXTS = (  # the second and third after suno-ai/bark, README
    "The train to the airport leaves at seven, and I have not packed my bag yet.",
    "Hello, my name is Suno. And I like pizza. [laughs] But I also have other interests.",
    "♪ In the jungle, the mighty jungle, the lion barks tonight ♪",
)


@dataclass(frozen=True)
class HeldOutArguments:
    """The `validation` section.

    Args:
        share (`float`): held-out share of the utterances, above 0 and at most 0.5.
        every (`int`), patience (`int`): see [`Validation`].
    """

    share: float = 0.1
    every: int = 50
    patience: int = 4


@dataclass(frozen=True)
class ReplayArguments:
    """The `replay` section: Bark's own speech among the examples, so that it forgets less.

    Args:
        corpus (`str`, *optional*): folder or Hub id of a corpus from generate_corpus.py.
        share (`float`, *optional*): its share of the examples; 0.2 by default, and 0 without a corpus.
    """

    corpus: str | None = None
    share: float | None = None

    def __post_init__(self):
        if self.share is None:
            object.__setattr__(self, "share", DEFAULT_REPLAY_SHARE if self.corpus else 0.0)
        if (self.share > 0) != (self.corpus is not None):
            raise ValueError("`replay` takes a `corpus` and a `share` above 0, or neither of them.")


@dataclass(frozen=True)
class ProbeArguments:
    """The `probe` section: speech of the original Bark, whose loss shows how much a fine-tuned Bark forgets.

    Args:
        texts (`list[str]`): the texts; without any, there is no probe.
        voices (`list[str]`, *optional*): as in generate_corpus.py; by default, four of the Bark's presets.
    """

    texts: list[str] = field(default_factory=lambda: list(PROBE_TEXTS))
    voices: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class StageSections:
    """Sections that apply to all stages, or to one of them.

    Args:
        lora (`dict`): arguments of [`lora_config`].
        training (`dict`): arguments of [`TrainingArguments`].
        batches (`dict`): arguments of [`UtteranceBatches`]: num_positions, history_probability, ...; and
            `gradient_accumulation`, the turns in which a process computes its [`Share`] of a batch.
    """

    lora: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    batches: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BarkTrainingConfig(StageSections):
    """The config file of Bark's fine-tuning; `lora`, `training` and `batches` are those of [`StageSections`].

    Args:
        bark (`str`): Hub id, folder or "nano".
        data (`str`): folder of `finetune_bark.py prepare`.
        output_dir (`str`): the folder of all results.
        method (`str`): "lora", "qlora" (needs bitsandbytes) or "full", which trains all weights.
        stages (`list[str]` or `dict[str, StageSections]`): any of semantic, coarse and fine; in a `dict`, each with
            its own sections, which override those of all stages.
        replay ([`ReplayArguments`]), validation ([`HeldOutArguments`]), probe ([`ProbeArguments`]): see there.
        samples (`list[str]`): texts that are spoken before training and after each stage.
        license (`str`, *optional*): the license in the card.

    Raises:
        ValueError: no stage, or an unknown key or invalid value in a section.
    """

    bark: str
    data: str
    output_dir: str
    method: Literal["lora", "qlora", "full"] = "lora"
    stages: (
        list[Literal["semantic", "coarse", "fine"]] | dict[Literal["semantic", "coarse", "fine"], StageSections | None]
    ) = field(default_factory=lambda: list(STAGES))
    replay: ReplayArguments = field(default_factory=ReplayArguments)
    validation: HeldOutArguments = field(default_factory=HeldOutArguments)
    probe: ProbeArguments = field(default_factory=ProbeArguments)
    samples: list[str] = field(default_factory=lambda: list(PROBE_TEXTS[:1]))
    license: str | None = None

    def __post_init__(self):
        if not self.stages:
            raise ValueError(f"`stages` is empty; name one or more of {', '.join(STAGES)}.")
        own = self.stages if isinstance(self.stages, dict) else {}
        stages = {stage: own.get(stage) or StageSections() for stage in self.stages}
        object.__setattr__(self, "stages", stages)
        for prefix, sections in [("", self), *((f"stages.{stage}.", own) for stage, own in stages.items())]:
            for name, hints in KEYS.items():
                values = checked_values(hints, getattr(sections, name), f"{prefix}{name}")
                object.__setattr__(sections, name, values)
        for stage in stages:
            self.training_of(stage)
            lora_config(**self.of_stage("lora", stage))

    def of_stage(self, section: str, stage: str) -> dict[str, Any]:
        """The values of `lora`, `training` or `batches` for a stage."""
        return {**getattr(self, section), **getattr(self.stages[stage], section)}

    def training_of(self, stage: str) -> TrainingArguments:
        """The settings of a stage's training; the defaults are for few recordings."""
        values = {**DEFAULT_TRAINING, "learning_rate": DEFAULT_RATES[self.method], **self.of_stage("training", stage)}
        return TrainingArguments(**values, output_dir=str(Path(self.output_dir) / stage))


def read_bark_config(
    place: str | os.PathLike, assignments: Iterable[str] = (), *, output_dir: str | None = None
) -> BarkTrainingConfig:
    """Read a config file; the arguments override its values.

    Args:
        place (`str` or `os.PathLike`): YAML with the sections of [`BarkTrainingConfig`], or the name of a packaged
            recipe, such as `"finetune_lora"`.
        assignments (`Iterable[str]`): such as `"training.steps=100"`; the section must exist.
        output_dir (`str`, *optional*): replaces the file's.

    Raises:
        FileNotFoundError: there is neither such a file nor such a recipe.
        ValueError: an unknown key, with the nearest one that is known; a missing section; a value of the wrong type.
    """
    config = read_config(place)
    for assignment in assignments:
        set_value(config, assignment)
    if output_dir is not None:
        config["output_dir"] = output_dir
    return arguments_of(BarkTrainingConfig, config, "")
