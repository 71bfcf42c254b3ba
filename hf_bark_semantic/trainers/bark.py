"""Fine-tuning of Bark's models on recordings, one after another: FineTuning(config).run()

All models are trained in the same way, each from its original weights, so their order doesn't matter.

    output_dir/ settings.json            the settings of the run
                probe/                   speech of the original Bark, to measure forgetting
                samples/                 the sample texts, spoken before training and after each stage
                semantic/ coarse/ fine/  log.jsonl validation.json best/trained.safetensors, done.json at the end
                adapter/ or bark/        the result
                report.json              written last
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from transformers import BarkModel, BarkProcessor, BitsAndBytesConfig

from ..bark.adapter_bundle import save_adapters
from ..bark.adapters import add_adapters, lora_config
from ..bark.configs import STAGES, bark_stage
from ..bark.examples import Utterance
from ..bark.loading import load_bark, load_bark_processor, load_configs, save_bark
from ..bark.losses import LOSSES
from ..bark.synthesis import synthesize
from ..corpus.utterances import load_utterances
from ..files import fingerprint, read_json, write_json, write_text
from ..packaged import card_template
from ..publishing import public_name
from .bark_batches import ReplayBatches, judged_batches, minutes, split_held_out, voice_prompt_of
from .bark_card import adapter_card, report_tables
from .bark_config import BarkTrainingConfig
from .bark_speech import Probe, speak_probe, speak_samples
from .checkpoints import remove_checkpoints
from .loop import WITHOUT_EFFECT, TrainingArguments, chosen_precision, new_accelerator, process_state, train
from .settings import remember_settings
from .shares import Share
from .trained_weights import checkpoint_trained_weights_only, load_weights, save_weights, trainable
from .validation import Validation

QUANTIZED = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
NOT_QUANTIZED = ["codec_model", "lm_head", "fine_acoustics.lm_heads"]
BEST, DONE, REPORT = Path("best", "trained.safetensors"), "done.json", "report.json"
RESULTS = (*STAGES, "probe", "samples", "adapter", "bark", REPORT)
MAY_CHANGE = ("output_dir", "samples", "license", "data", "replay.corpus")  # moved data keeps its fingerprint
MAY_CHANGE += tuple(
    f"{prefix}training.{name}" for prefix in ("", *(f"stages.{stage}." for stage in STAGES)) for name in WITHOUT_EFFECT
)


class FineTuning:
    """One run: the Bark, its training data, and its validation data.

    Args:
        config ([`BarkTrainingConfig`]): the config of the training.

    Raises:
        FileNotFoundError: this installation has no template of the adapters' card.
        OSError: the Bark or its data cannot be read.
        ValueError: this Bark cannot be trained on the data; or the folder holds a run with other settings, which the
            message names.
    """

    def __init__(self, config: BarkTrainingConfig):
        self.config, self.output_dir, self.state = config, Path(config.output_dir), process_state()
        self.template = None if config.method == "full" else card_template("adapter")
        self.configs, processor = load_configs(config.bark), load_bark_processor(config.bark)
        utterances, self.replay = (
            load_utterances(place, processor.tokenizer, self.configs) if place else []
            for place in (config.data, config.replay.corpus)
        )
        self.training, self.held_out = split_held_out(utterances, config.validation.share)
        self.voice_prompt = voice_prompt_of(self.training, self.configs)
        self.arguments = self.remember(utterances)

    def remember(self, utterances: Sequence[Utterance]) -> dict[str, TrainingArguments]:
        """Refuse to continue a run with other settings or data; otherwise print how each stage is trained."""
        arguments = {stage: self.config.training_of(stage) for stage in self.config.stages}
        chosen = {asked.mixed_precision: asked for asked in arguments.values()}
        chosen = {name: chosen_precision(asked) for name, asked in chosen.items()}  # prints each choice once
        settings = remember_settings(
            self.output_dir,
            {
                **asdict(self.config),
                "data_fingerprint": _fingerprint(utterances),
                "replay_fingerprint": _fingerprint(self.replay),
                "precision": {stage: chosen[asked.mixed_precision] for stage, asked in arguments.items()},
            },
            may_change=MAY_CHANGE,
            keep=["precision"],  # a new measurement must not change the precision of a continued run
            results=RESULTS,
            write=self.state.is_main_process,
        )
        precision = settings["precision"]
        return {stage: replace(asked, mixed_precision=precision[stage]) for stage, asked in arguments.items()}

    def run(self) -> None:
        """Train the stages that are not trained yet, and save the result."""
        if (self.output_dir / REPORT).exists():
            self.state.print(f"{self.output_dir} already holds a finished run; nothing to do.")
            return
        self.state.print(
            f"{len(self.training)} utterances to train on ({minutes(self.training):.1f} minutes), "
            f"{len(self.held_out)} held out, {len(self.replay)} to replay"
        )
        self.bark, self.processor = load_for_training(self.config, self.state.device)
        offload = self.state.device.type != "cpu" and self.config.method != "qlora"
        self.speak = partial(synthesize, self.bark, tokenizer=self.processor.tokenizer, offload=offload)
        probe = speak_probe(
            self.speak, self.config.probe, self.output_dir / "probe",
            processor=self.processor, configs=self.configs, state=self.state,
        )  # fmt: skip
        results = {stage: self.tune(stage, probe) for stage in self.config.stages}
        if self.state.is_main_process:
            self.save(results)
        self.state.wait_for_everyone()

    def tune(self, stage: str, probe: Sequence[Probe]) -> dict:
        """Train one stage, load its best weights into the Bark, and return its figures."""
        arguments, model = self.arguments[stage], bark_stage(self.bark, stage)
        folder, number = Path(arguments.output_dir), list(self.config.stages).index(stage) + 1
        trained, count, total = self.make_trainable(stage, arguments.seed)
        if (folder / DONE).exists():
            remove_checkpoints(folder, self.state)  # left by a run that was killed at its end
            load_weights(model, folder / BEST)
            return read_json(folder / DONE)
        accelerator = new_accelerator(arguments, f"{self.output_dir.resolve().name}-{stage}")
        if self.config.method != "full":
            checkpoint_trained_weights_only(accelerator)
        loss = LOSSES[stage](model, self.configs).to(accelerator.device).eval()
        say = partial(
            speak_samples, self.speak, self.config.samples, self.voice_prompt, self.output_dir / "samples",
            accelerator=accelerator,
        )  # fmt: skip
        if number == 1:
            say(label="0-before")
        probes = {kind: self.probe_batches(stage, probe, kind) for kind in dict.fromkeys(part.kind for part in probe)}
        before = {kind: mean_loss(loss, batches, accelerator) for kind, batches in probes.items()}
        validation = self.train_stage(stage, loss, arguments, accelerator, trained)
        load_weights(model, folder / BEST)
        after = {kind: mean_loss(loss, batches, accelerator) for kind, batches in probes.items()}
        loss.eval()
        say(label=f"{number}-{stage}")
        for tracker in accelerator.trackers:
            tracker.finish()
        if self.config.method != "qlora":
            loss.to("cpu")
        result = {
            "parameters": total,
            "trained": count,
            "best_step": validation.best_step,
            "last_step": max(validation.figures),
            "validation_loss": {step: figures["loss"] for step, figures in validation.figures.items()},
            "probe": {kind: {"before": before[kind], "after": after[kind]} for kind in probes},
        }
        if accelerator.is_main_process:
            write_json(folder / DONE, result)
        remove_checkpoints(folder, accelerator)
        return result

    def make_trainable(self, stage: str, seed: int) -> tuple[list[str], int, int]:
        """Names of a stage's trainable parameters, their number, and the number of all parameters of the stage."""
        model = bark_stage(self.bark, stage)
        torch.manual_seed(seed)
        if self.config.method == "full":
            model.requires_grad_(True)
        else:
            add_adapters(self.bark, {stage: lora_config(**self.config.of_stage("lora", stage))})
            model.eval()  # new layers are in training mode, and a finished stage is not trained again
        weights = trainable(model)
        count, total = (sum(p.numel() for p in part) for part in (weights.values(), model.parameters()))
        self.state.print(
            f"{stage}: {count:,} of {total:,} parameters are trained ({count / total:.2%}), {4 * count / 1e6:.1f} MB"
        )
        return list(weights), count, total

    def probe_batches(self, stage: str, probe: Sequence[Probe], kind: str) -> list[dict[str, torch.Tensor]]:
        parts = [part for part in probe if part.kind == kind]
        histories = [part.history for part in parts]
        return judged_batches([part.utterance for part in parts], self.configs, stage, histories=histories)

    def train_stage(
        self, stage: str, loss: nn.Module, arguments: TrainingArguments, accelerator: Accelerator, trained: list[str]
    ) -> Validation:
        """Train a stage, or continue its training, and save the best weights of the parameters `trained`."""
        judged = judged_batches(self.held_out, self.configs, stage)
        validation = Validation(
            lambda current: {"loss": mean_loss(current, judged, accelerator)},
            # by name, because no parameter of an averaged model is trainable
            lambda current, best: save_weights({n: current.model.get_parameter(n) for n in trained}, best / BEST.name),
            steps=arguments.steps,
            folder=Path(arguments.output_dir),
            accelerator=accelerator,
            every=self.config.validation.every,
            patience=self.config.validation.patience,
            best_by="loss",
        )
        if not validation.figures:
            validation(0, loss)
        options = self.config.of_stage("batches", stage)
        turns = options.pop("gradient_accumulation", 1)
        batches = ReplayBatches(
            self.training, self.configs, stage,
            replay=self.replay, replay_share=self.config.replay.share, steps=arguments.steps, seed=arguments.seed,
            share=Share(accelerator.process_index, accelerator.num_processes, turns), **options,
        )  # fmt: skip
        train(loss, batches, arguments, accelerator=accelerator, on_step=validation, keep_checkpoint=True)
        return validation

    def save(self, results: dict[str, dict]) -> None:
        """Write the bundle of adapters, or the whole Bark, and the report."""
        report = {
            "bark": public_name(self.config.bark),
            "method": self.config.method,
            "utterances": len(self.training) + len(self.held_out),
            "minutes": round(minutes(self.training) + minutes(self.held_out), 1),
            "voices": len({utterance.voice for utterance in self.training}),
            "stages": results,
        }
        if self.config.method == "full":
            folder = self.output_dir / "bark"
            save_bark(self.bark, self.processor, folder)
            self.voice_prompt.save(folder / "voice.npz")
            self.state.print(folder)
        else:
            folder = self.output_dir / "adapter"
            save_adapters(self.bark, folder, base_model=report["bark"], voice_prompt=self.voice_prompt)
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            report["adapter_megabytes"] = round(size / 1e6, 2)
            self.state.print(f"{folder}: {report['adapter_megabytes']} MB")
            write_text(folder / "README.md", adapter_card(self.config, report, self.template))
        write_json(self.output_dir / REPORT, report)
        self.state.print(report_tables(report["stages"]))


@torch.no_grad()
def mean_loss(loss: nn.Module, batches: Sequence[dict], accelerator: Accelerator) -> float:
    """The mean loss over all targets of all batches; the processes share the computation."""
    loss.eval()
    sums = torch.zeros(2, device=accelerator.device)
    for batch in batches[accelerator.process_index :: accelerator.num_processes]:
        with accelerator.autocast():
            output = loss(**{name: tensor.to(accelerator.device) for name, tensor in batch.items()})
        sums += torch.stack([output.loss.float() * output.num_targets, output.num_targets.float()])
    value, count = accelerator.reduce(sums, "sum").tolist()
    return value / count


def load_for_training(config: BarkTrainingConfig, device: torch.device) -> tuple[BarkModel, BarkProcessor]:
    """The Bark of a config, quantized to 4 bits where its method is QLoRA.

    Raises:
        ImportError: QLoRA without bitsandbytes.
        ValueError: QLoRA on a CPU.
    """
    if config.method != "qlora":
        return load_bark(config.bark)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError("`method: qlora` needs bitsandbytes: `pip install bitsandbytes`, or use `method: lora`.")
    if device.type == "cpu":  # there, bitsandbytes repacks weights for inference, without gradients
        raise ValueError("`method: qlora` needs a GPU. Use `method: lora` on a CPU.")
    quantization = BitsAndBytesConfig(**QUANTIZED, llm_int8_skip_modules=NOT_QUANTIZED)
    return load_bark(config.bark, quantization_config=quantization, device_map={"": device})


def _fingerprint(utterances: Sequence[Utterance]) -> str:
    return fingerprint((u.id, u.voice, u.complete, u.text_ids, u.semantic_tokens, u.audio_codes) for u in utterances)
