"""Fine-tuning of Bark's models on recordings: what is trained, what it is judged by, and what is left of it."""

import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from safetensors.torch import load_file, save
from torch import nn
from transformers import BarkModel, BarkProcessor, BitsAndBytesConfig

from ..audio import save_audio
from ..bark.adapter_bundle import save_adapters
from ..bark.adapters import add_adapters, lora_config
from ..bark.configs import STAGES, bark_stage
from ..bark.examples import Utterance
from ..bark.loading import check_bark, load_bark
from ..bark.losses import CoarseLoss, FineLoss, SemanticLoss
from ..bark.request import SynthesisRequest
from ..bark.synthesis import synthesize
from ..configuration_bark_semantic import SEMANTIC_RATE_HZ
from ..corpus.rows import row_features
from ..corpus.shards import write_shard
from ..corpus.utterances import load_utterances
from ..corpus.voices import NO_VOICE, load_voices
from ..files import atomic_write
from ..packaged import card_template
from ..publishing import markdown_table
from .bark_batches import (
    ReplayBatches,
    judged_batches,
    split_held_out,
    utterance_of,
    voice_prompt_of,
)
from .loop import TrainingArguments, new_accelerator, train
from .settings import arguments_of
from .validation import Validation

LOSSES = {"semantic": SemanticLoss, "coarse": CoarseLoss, "fine": FineLoss}
METHODS = ("lora", "qlora", "full")
QUANTIZED = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
NOT_QUANTIZED = ["codec_model", "lm_head", "fine_acoustics.lm_heads"]
BEST = Path("best", "trained.safetensors")
MAY_CHANGE = ("output_dir", "samples", "license")  # in a run that goes on

# Low rates: so few recordings teach a voice, not a language.
DEFAULT_TRAINING = {"steps": 500, "warmup": 0.05, "weight_decay": 0.01, "checkpoint_every": 50, "log_every": 10}
DEFAULT_RATES = {"lora": 1e-4, "qlora": 1e-4, "full": 1e-5}
PROBE_TEXTS = [  # the second and third after suno-ai/bark, README
    "The train to the airport leaves at seven, and I have not packed my bag yet.",
    "Hello, my name is Suno. And I like pizza. [laughs] But I also have other interests.",
    "♪ In the jungle, the mighty jungle, the lion barks tonight ♪",
]
PROBE_VOICES = 4  # presets, evenly spaced, where the config names none


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


class FineTuning:
    """One run: the Bark, what it learns from, what it is judged by."""

    def __init__(self, settings: Settings):
        self.settings, self.output_dir = settings, Path(settings.output_dir)
        self.state = PartialState()
        self.print = self.state.print
        if self.state.is_main_process:
            remember_settings(settings, self.output_dir)
        self.arguments = {stage: settings.training_of(stage) for stage in settings.stages}  # a typo fails at once
        self.adapters = None
        if settings.method != "full":
            self.adapters = {stage: lora_config(**settings.of_stage("lora", stage)) for stage in settings.stages}
        self.bark, self.processor = load_for_training(settings, self.state.device)
        self.configs = check_bark(self.bark)
        tokenizer = self.processor.tokenizer
        utterances = load_utterances(settings.data, tokenizer, self.configs)
        self.training, self.held_out = split_held_out(utterances, settings.validation["share"])
        self.replay = []
        if settings.replay["corpus"]:
            self.replay = load_utterances(settings.replay["corpus"], tokenizer, self.configs)
        self.voice_prompt = voice_prompt_of(self.training, self.configs)
        self.print(
            f"{len(self.training)} utterances to train on ({minutes(self.training):.1f} minutes), "
            f"{len(self.held_out)} held out, {len(self.replay)} to replay"
        )

    def run(self) -> None:
        probe = self.probe()
        report = {}
        for number, stage in enumerate(self.settings.stages, 1):
            report[stage] = self.tune(stage, probe, number)
        if self.state.is_main_process:
            self.save(report)
        self.state.wait_for_everyone()

    def tune(self, stage: str, probe: list[tuple[str, Utterance, Utterance | None]], number: int) -> dict:
        """Train one stage, leave its best weights on the Bark, and say what came of it."""
        settings, arguments = self.settings, self.arguments[stage]
        folder, model = Path(arguments.output_dir), bark_stage(self.bark, stage)
        torch.manual_seed(arguments.seed)
        if self.adapters is None:
            model.requires_grad_(True)
        else:
            add_adapters(self.bark, {stage: self.adapters[stage]})
        weights = trainable(model)
        count, total = (sum(p.numel() for p in part) for part in (weights.values(), model.parameters()))
        self.print(
            f"{stage}: {count:,} of {total:,} parameters are trained ({count / total:.2%}), {4 * count / 1e6:.1f} MB"
        )
        done = folder / "done.json"
        if done.exists():
            load_weights(model, folder / BEST)
            return json.loads(done.read_text())
        accelerator = new_accelerator(arguments, f"{self.output_dir.resolve().name}-{stage}")
        if self.adapters is not None:
            checkpoint_trained_weights_only(accelerator)
        loss = LOSSES[stage](model, self.configs)
        loss.to(accelerator.device).eval()
        if number == 1:
            self.speak_samples("0-before", accelerator)
        probes = {
            kind: judged_batches(
                [utterance for k, utterance, _ in probe if k == kind],
                self.configs,
                stage,
                histories=[history for k, _, history in probe if k == kind],
            )
            for kind in dict.fromkeys(kind for kind, _, _ in probe)
        }
        forgetting = {kind: {"before": mean_loss(loss, part, accelerator)} for kind, part in probes.items()}
        judged = judged_batches(self.held_out, self.configs, stage)
        validation = Validation(
            lambda current: {"loss": mean_loss(current, judged, accelerator)},
            # by name, for no parameter of an average is trainable
            lambda current, best: save_weights({n: current.model.get_parameter(n) for n in weights}, best / BEST.name),
            steps=arguments.steps,
            folder=folder,
            accelerator=accelerator,
            every=settings.validation["every"],
            patience=settings.validation["patience"],
            best_by="loss",
        )
        if not validation.figures:
            validation(0, loss)
        batches = ReplayBatches(
            self.training, self.configs, stage,
            replay=self.replay, replay_share=settings.replay["share"], steps=arguments.steps, seed=arguments.seed,
            process=accelerator.process_index, **settings.of_stage("batches", stage),
        )  # fmt: skip
        train(loss, batches, arguments, accelerator, on_step=validation)
        load_weights(model, folder / BEST)
        for kind, part in probes.items():
            forgetting[kind]["after"] = mean_loss(loss, part, accelerator)
        loss.eval()
        self.speak_samples(f"{number}-{stage}", accelerator)
        for tracker in accelerator.trackers:
            tracker.finish()
        if settings.method != "qlora":
            loss.to("cpu")
        result = {
            "parameters": total,
            "trained": count,
            "best_step": validation.best_step,
            "last_step": max(validation.figures),
            "validation_loss": {step: figures["loss"] for step, figures in validation.figures.items()},
            "probe": forgetting,
        }
        if accelerator.is_main_process:
            done.write_text(json.dumps(result))
        accelerator.wait_for_everyone()
        return result

    def probe(self) -> list[tuple[str, Utterance, Utterance | None]]:
        """What the untouched Bark says, with the kind of each utterance and the voice prompt that it was said with."""
        texts = self.settings.probe["texts"]
        if not texts:
            return []
        presets = self.processor.available_voice_presets
        names = self.settings.probe["voices"] or presets[:: max(1, len(presets) // PROBE_VOICES)][:PROBE_VOICES]
        voices = load_voices(names or [NO_VOICE], self.processor, self.voice_prompt.vocabularies, log=self.print)
        file = self.output_dir / "probe" / "data" / "train-00000.parquet"
        if self.state.is_main_process and not file.exists():
            pairs = [(text, voice) for text in texts for voice in voices]
            requests = [
                SynthesisRequest(text=text, voice_prompt=voices[voice], seed=seed)
                for seed, (text, voice) in enumerate(pairs)
            ]
            rows = [
                {
                    "id": f"{kind_of(pairs[result.index][0])} {result.index}",
                    "text": pairs[result.index][0],
                    "voice": pairs[result.index][1],
                    "semantic_tokens": result.semantic_tokens,
                    "audio_codes": list(result.audio_codes),
                    "finish_reason": result.finish_reason,
                }
                for result in self.speak(requests)
                if len(result.semantic_tokens)
            ]
            columns = {"id", "text", "voice", "semantic_tokens", "audio_codes", "finish_reason"}
            record = {"planned_rows": len(pairs), "rejected": []}
            write_shard(file.parents[1], 0, rows, record, row_features(columns))
        self.state.wait_for_everyone()
        utterances = load_utterances(file.parents[1], self.processor.tokenizer, self.configs)
        histories = {name: prompt and utterance_of(prompt) for name, prompt in voices.items()}
        return [(u.id.rpartition(" ")[0], u, histories.get(u.voice)) for u in utterances]

    def speak(self, requests: list[SynthesisRequest]):
        offload = self.state.device.type != "cpu" and self.settings.method != "qlora"
        return synthesize(self.bark, requests, tokenizer=self.processor.tokenizer, offload=offload)

    def speak_samples(self, label: str, accelerator: Accelerator) -> None:
        """Speak the sample texts in the voice of the recordings, for the samples folder and the tracker."""
        folder = self.output_dir / "samples"
        files = [folder / f"{label}-{number}.wav" for number in range(len(self.settings.samples))]
        if self.state.is_main_process and not all(file.exists() for file in files):
            folder.mkdir(parents=True, exist_ok=True)
            requests = [SynthesisRequest(text=text, voice_prompt=self.voice_prompt) for text in self.settings.samples]
            for result, file in zip(self.speak(requests), files, strict=True):
                if len(result.waveform):
                    save_audio(file, result.waveform, result.sampling_rate)
                    log_audio(accelerator, file.stem, result.waveform, result.sampling_rate)
        self.state.wait_for_everyone()

    def save(self, report: dict) -> None:
        settings = self.settings
        content = {
            "bark": public_name(settings.bark),
            "method": settings.method,
            "utterances": len(self.training) + len(self.held_out),
            "minutes": round(minutes(self.training) + minutes(self.held_out), 1),
            "voices": len({utterance.voice for utterance in self.training}),
            "stages": report,
        }
        if self.adapters is None:
            save_bark(self.bark, self.processor, self.output_dir / "bark")
            self.voice_prompt.save(self.output_dir / "bark" / "voice.npz")
            self.print(self.output_dir / "bark")
        else:
            folder, name = self.output_dir / "adapter", public_name(settings.bark)
            save_adapters(self.bark, folder, base_model=name, voice_prompt=self.voice_prompt)
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            content["adapter_megabytes"] = round(size / 1e6, 2)
            self.print(f"{folder}: {content['adapter_megabytes']} MB")
            (folder / "README.md").write_text(render_card(settings, content), encoding="utf-8")
        (self.output_dir / "report.json").write_text(json.dumps(content, indent=1))
        self.print(report_tables(content))


@torch.no_grad()
def mean_loss(loss: nn.Module, batches: Sequence[dict], accelerator: Accelerator) -> float:
    """Of all targets; every process computes a part and knows the whole."""
    loss.eval()
    sums = torch.zeros(2, device=accelerator.device)
    for batch in batches[accelerator.process_index :: accelerator.num_processes]:
        with accelerator.autocast():
            output = loss(**{name: tensor.to(accelerator.device) for name, tensor in batch.items()})
        sums += torch.stack([output.loss.float() * output.num_targets, output.num_targets.float()])
    value, count = accelerator.reduce(sums, "sum").tolist()
    return value / count


def load_for_training(settings: Settings, device: torch.device) -> tuple[BarkModel, BarkProcessor]:
    if settings.method != "qlora":
        return load_bark(settings.bark)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError("`method: qlora` needs bitsandbytes: `pip install bitsandbytes`, or take `method: lora`.")
    if device.type == "cpu":  # where bitsandbytes repacks the weights for inference, and gradients stop there
        raise ValueError("`method: qlora` needs a GPU. Take `method: lora` on a CPU.")
    quantization = BitsAndBytesConfig(**QUANTIZED, llm_int8_skip_modules=NOT_QUANTIZED)
    return load_bark(settings.bark, quantization_config=quantization, device_map={"": device})


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


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_weights(weights: dict[str, nn.Parameter], file: Path) -> None:
    with atomic_write(file) as opened:
        opened.write(save({name: value.detach().cpu().contiguous() for name, value in weights.items()}))


@torch.no_grad()
def load_weights(model: nn.Module, file: Path) -> None:
    weights, found = trainable(model), load_file(file)
    if weights.keys() != found.keys():
        raise ValueError(f"{file} holds other weights than this config trains. Name another output_dir.")
    for name, parameter in weights.items():
        parameter.copy_(found[name])


def checkpoint_trained_weights_only(accelerator: Accelerator) -> None:
    """Keep what does not change, and may be quantized, out of checkpoints."""

    def save(models, states, folder):
        if accelerator.is_main_process:
            save_weights(trainable(accelerator.unwrap_model(models[0])), Path(folder) / "trained.safetensors")
        states.clear()

    def load(models, folder):
        load_weights(accelerator.unwrap_model(models[0]), Path(folder) / "trained.safetensors")
        models.clear()

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def log_audio(accelerator: Accelerator, name: str, waveform, sampling_rate: int) -> None:
    """To the trackers that can play it."""
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.writer.add_audio(name, waveform, sample_rate=sampling_rate)
        elif tracker.name == "wandb":
            import wandb

            tracker.log({name: wandb.Audio(waveform, sample_rate=sampling_rate)})


def save_bark(bark: BarkModel, processor: BarkProcessor, folder: Path) -> None:
    bark.save_pretrained(folder)
    try:
        processor.save_pretrained(str(folder))
    except (OSError, ValueError) as error:
        print(f"The voice presets are not saved: {error}")
        BarkProcessor(processor.tokenizer).save_pretrained(str(folder))


def public_name(place: str) -> str:
    """A Hub id, or the last part of a folder."""
    return Path(place).resolve().name if os.path.isdir(place) else place


def kind_of(text: str) -> str:
    return "songs" if "♪" in text else "sounds" if "[" in text else "other voices"


def minutes(utterances: Sequence[Utterance]) -> float:
    return sum(utterance.num_tokens for utterance in utterances) / SEMANTIC_RATE_HZ / 60


def report_tables(content: dict) -> str:
    """What training brought, and what it cost."""
    stages, rows = content["stages"], []
    for stage, result in stages.items():
        losses = {int(step): value for step, value in result["validation_loss"].items()}
        best = result["best_step"]
        share = f"{result['trained'] / result['parameters']:.2%}"
        rows.append((stage, share, f"{losses[0]:.4f}", f"{losses[best]:.4f}", f"{best} of {result['last_step']}"))
    probes = [
        (stage, kind, f"{value['before']:.4f}", f"{value['after']:.4f}")
        for stage, result in stages.items()
        for kind, value in result["probe"].items()
    ]
    return "\n\n".join(
        [
            markdown_table(["model", "trained", "held-out loss before", "after", "best step"], rows),
            markdown_table(["model", "what Bark said itself", "loss before", "after"], probes) if probes else "",
        ]
    ).strip()


def render_card(settings: Settings, content: dict) -> str:
    """The adapter's card; all numbers are of the report."""
    base = content["bark"]
    loras = {stage: lora_config(**settings.of_stage("lora", stage)) for stage in settings.stages}
    values = {
        "name": Path(settings.output_dir).resolve().name,
        "base_line": f"base_model: {base}\n" if "/" in base else "",
        "license_line": f"license: {settings.license}\n" if settings.license else "",
        "base": base,
        "stages": ", ".join(
            f"{stage} (rank {lora.r}, alpha {lora.lora_alpha:g}{', DoRA' if lora.use_dora else ''})"
            for stage, lora in loras.items()
        ),
        "megabytes": f"{content['adapter_megabytes']}",
        "utterances": f"{content['utterances']:,}",
        "minutes": f"{content['minutes']:,}",
        "voices": f"{content['voices']:,}",
        "replay": f"{settings.replay['share']:.0%}",
        "tables": report_tables(content),
    }
    card = card_template("adapter").read_text(encoding="utf-8")
    for name, value in values.items():
        card = card.replace("{" + name + "}", value)
    return card
