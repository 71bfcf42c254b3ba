"""Fine-tuning of Bark's models on recordings: what is trained, what it is judged by, and what is left of it."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from torch import nn
from transformers import BarkModel, BarkProcessor, BitsAndBytesConfig

from ..audio import save_audio
from ..bark.adapter_bundle import save_adapters
from ..bark.adapters import add_adapters, lora_config
from ..bark.configs import bark_stage
from ..bark.examples import Utterance
from ..bark.loading import check_bark, load_bark, save_bark
from ..bark.losses import CoarseLoss, FineLoss, SemanticLoss
from ..bark.request import SynthesisRequest
from ..bark.synthesis import synthesize
from ..corpus.rows import row_features
from ..corpus.shards import write_shard
from ..corpus.utterances import load_utterances
from ..corpus.voices import NO_VOICE, load_voices
from ..publishing import public_name
from .bark_batches import (
    ReplayBatches,
    judged_batches,
    minutes,
    split_held_out,
    utterance_of,
    voice_prompt_of,
)
from .bark_card import render_card, report_tables
from .bark_config import Settings, remember_settings
from .loop import new_accelerator, train
from .trained_weights import checkpoint_trained_weights_only, load_weights, save_weights, trainable
from .validation import Validation

LOSSES = {"semantic": SemanticLoss, "coarse": CoarseLoss, "fine": FineLoss}
QUANTIZED = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
NOT_QUANTIZED = ["codec_model", "lm_head", "fine_acoustics.lm_heads"]
BEST = Path("best", "trained.safetensors")
PROBE_VOICES = 4  # presets, evenly spaced, where the config names none


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


def log_audio(accelerator: Accelerator, name: str, waveform, sampling_rate: int) -> None:
    """To the trackers that can play it."""
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.writer.add_audio(name, waveform, sample_rate=sampling_rate)
        elif tracker.name == "wandb":
            import wandb

            tracker.log({name: wandb.Audio(waveform, sample_rate=sampling_rate)})


def kind_of(text: str) -> str:
    return "songs" if "♪" in text else "sounds" if "[" in text else "other voices"
