"""The config of Bark's fine-tuning."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..bark.configs import STAGES
from .loop import TrainingArguments
from .settings import arguments_of

METHODS = ("lora", "qlora", "full")
MAY_CHANGE = ("output_dir", "samples", "license")  # in a run that goes on


# Low rates: so few recordings teach a voice, not a language.
DEFAULT_TRAINING = {"steps": 500, "warmup": 0.05, "weight_decay": 0.01, "checkpoint_every": 50, "log_every": 10}
DEFAULT_RATES = {"lora": 1e-4, "qlora": 1e-4, "full": 1e-5}
PROBE_TEXTS = [  # the second and third after suno-ai/bark, README
    "The train to the airport leaves at seven, and I have not packed my bag yet.",
    "Hello, my name is Suno. And I like pizza. [laughs] But I also have other interests.",
    "♪ In the jungle, the mighty jungle, the lion barks tonight ♪",
]


@dataclass
class Settings:
    """The config file.

    Args:
        bark (`str`): Hub id, folder or "nano".
        data (`str`): what `prepare` wrote.
        output_dir (`str`): for everything that is made.
        method (`str`): "lora", "qlora" (needs bitsandbytes) or "full".
        stages (`list` or `dict`): any of semantic, coarse and fine; as a `dict`, with `lora`, `training` and `batches`
            of their own.
        lora (`dict`): rank, alpha, dropout, targets, use_dora, use_rslora; see `bark_adapters.lora_config`.
        training (`dict`): of `TrainingArguments`.
        batches (`dict`): of `UtteranceBatches`: num_positions, history_probability, ...
        replay (`dict`): `corpus` (what generate_corpus.py wrote) and `share` of the examples.
        validation (`dict`): `share` of the utterances that is held out, `every` so many steps, `patience`.
        probe (`dict`): `texts` and `voices` of Bark's own speech; no texts, no probe.
        samples (`list[str]`): texts to speak before and after each stage.
        license (`str`, *optional*): for the card.
    """

    bark: str
    data: str
    output_dir: str
    method: str = "lora"
    stages: list | dict = field(default_factory=lambda: list(STAGES))
    lora: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)
    batches: dict = field(default_factory=dict)
    replay: dict = field(default_factory=dict)
    validation: dict = field(default_factory=dict)
    probe: dict = field(default_factory=dict)
    samples: list = field(default_factory=lambda: PROBE_TEXTS[:1])
    license: str | None = None

    def __post_init__(self):
        if isinstance(self.stages, list):
            self.stages = {stage: {} for stage in self.stages}
        self.stages = {stage: options or {} for stage, options in self.stages.items()}
        self.validation = {"share": 0.1, "every": 50, "patience": 4, **self.validation}
        self.replay = {"corpus": None, "share": 0.2 if self.replay.get("corpus") else 0.0, **self.replay}
        self.probe = {"texts": PROBE_TEXTS, "voices": None, **self.probe}
        if self.method not in METHODS:
            raise ValueError(f"`method` is {self.method!r}; it must be one of {', '.join(METHODS)}.")
        if not self.stages or set(self.stages) - set(STAGES):
            raise ValueError(f"`stages` are {list(self.stages)}; they must be some of {', '.join(STAGES)}.")
        for section, known in (
            ("validation", {"share", "every", "patience"}),
            ("replay", {"corpus", "share"}),
            ("probe", {"texts", "voices"}),
            *((f"stages.{stage}", {"lora", "training", "batches"}) for stage in self.stages),
        ):
            values = self.stages[section[7:]] if section.startswith("stages.") else getattr(self, section)
            if set(values) - known:
                raise ValueError(f"`{section}` has no {sorted(set(values) - known)}; it knows {sorted(known)}.")

    def of_stage(self, section: str, stage: str) -> dict:
        return {**getattr(self, section), **self.stages[stage].get(section, {})}

    def training_of(self, stage: str) -> TrainingArguments:
        rate = {"learning_rate": DEFAULT_RATES[self.method]}
        values = {**DEFAULT_TRAINING, **rate, **self.of_stage("training", stage)}
        return arguments_of(
            TrainingArguments, {**values, "output_dir": str(Path(self.output_dir) / stage)}, f"training of {stage}"
        )


def remember_settings(settings: Settings, folder: Path) -> None:
    """Refuse to go on with what other settings have begun."""
    file, here = folder / "settings.json", json.loads(json.dumps(asdict(settings)))
    there = json.loads(file.read_text()) if file.exists() else here
    differing = [name for name in here if there.get(name) != here[name] and name not in MAY_CHANGE]
    if differing:
        raise ValueError(
            f"{folder} holds an unfinished run with other settings ({', '.join(differing)}). Repeat those, name "
            "another output_dir, or remove this one."
        )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(here, indent=1))
