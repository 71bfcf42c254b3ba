"""Stage 2. Train an encoder on a labelled corpus.

    accelerate launch training/train_encoder.py training/configs/builtin.yaml
    accelerate launch training/train_encoder.py training/configs/builtin.yaml --fold 0 --output outputs/cv/fold0

A config has these parts: `corpus` (a `datasets` folder or id), `model` (a backbone and fields of the encoder's
config), `batches` (crops by source, augmentation) and `training` (see TrainingArguments); with `codec_training`, the
codec front end first learns what its codes sound like; with `feature_copies`, the head is trained on features that are
computed once. Killed, it goes on where it was when it is started again. With --fold, the clips of that fold and all
that may share a voice or a sentence with them are left out, and the run remembers the fold for `evaluate_encoder.py`.
"""

import argparse
import json
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file

from hf_bark_semantic import BarkSemanticEncoderConfig, BarkSemanticEncoderModel, BarkSemanticEncoderProcessor
from hf_bark_semantic.audio import load_audio
from hf_bark_semantic.augmentation import SpectrogramAugmentation, WaveformAugmentation
from hf_bark_semantic.centroids import centroids_of_tokens
from hf_bark_semantic.data import BatchPlan, CropBatches, FeatureBatches, load_corpus, split_fold
from hf_bark_semantic.modeling_bark_semantic import BarkSemanticEncoderOutput
from hf_bark_semantic.training_loop import TrainingArguments, train

REQUIRED, OPTIONAL = {"corpus", "model", "batches", "training"}, {"codec_training", "feature_copies"}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--fold", type=int, help="hold this fold out")
    parser.add_argument("--seed", type=int, help="instead of the config's")
    parser.add_argument("--output", help="instead of the config's output_dir")
    parser.add_argument("--corpus", help="instead of the config's corpus")
    parser.add_argument("--steps", type=int, help="instead of the config's")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="such as batches.crops.prompt=0")
    args = parser.parse_args(arguments)
    config = read_config(args.config)
    for assignment in args.set:
        set_value(config, assignment)
    for name, value in [("seed", args.seed), ("output_dir", args.output), ("steps", args.steps)]:
        if value is not None:
            config["training"][name] = value
    training = arguments_of(TrainingArguments, config["training"], "training")
    if (Path(training.output_dir) / "model.safetensors").exists():
        print(f"{training.output_dir} holds a trained model already; nothing to do.")
        return
    accelerator = Accelerator(mixed_precision=training.mixed_precision)
    clips, _ = split_fold(load_corpus(args.corpus or config["corpus"]), args.fold)
    accelerator.print(f"{len(clips)} clips, {sum(clip.num_tokens for clip in clips)} tokens to train on")
    model = train_encoder(config, training, clips, accelerator)
    if accelerator.is_main_process:
        used = Counter(clip.source for clip in clips if clip.source in config["batches"]["crops"])
        record = {"config": args.config.name, "fold": args.fold, "seed": training.seed, "steps": training.steps}
        record["clips"] = dict(used)
        (Path(training.output_dir) / "training.json").write_text(json.dumps(record, indent=1))
        BarkSemanticEncoderProcessor().save_pretrained(training.output_dir)
        model.save_pretrained(training.output_dir)


def read_config(path: Path) -> dict:
    """The config file, its sections checked; a typo must not pass for a default."""
    config = yaml.safe_load(path.read_text())
    found = set(config) if isinstance(config, dict) else {type(config).__name__}
    if not REQUIRED <= found <= REQUIRED | OPTIONAL:
        raise ValueError(
            f"{path} has sections {sorted(found)}; it must have {sorted(REQUIRED)} and may have {sorted(OPTIONAL)}."
        )
    return config


def set_value(config: dict, assignment: str):
    """Put a value at a dotted key of the config, whose section must be there."""
    key, equals, value = assignment.partition("=")
    *path, name = key.split(".")
    section = config
    for part in path:
        section = section.get(part) if isinstance(section, dict) else None
    if not equals or not isinstance(section, dict):
        raise ValueError(f"--set {assignment!r}: it must be KEY=VALUE with a section of the config, such as a.b=1.")
    section[name] = yaml.safe_load(value)


def train_encoder(config: dict, training: TrainingArguments, clips, accelerator) -> BarkSemanticEncoderModel:
    """The codec front end first, if the config says so; then the head, on computed-once features or end to end."""
    model, head_from = new_model(config["model"], training)
    batches = new_batches(config["batches"], model, training, clips, accelerator.process_index)
    if head_from == "centroids":
        labelled = [clip for clip in clips if clip.source in batches.pools]
        model.head.from_centroids(
            *centroids_of_tokens(model, labelled, iterations=config["model"].get("iterations", 0))
        )
    if "codec_training" in config:
        train_codec_front_end(model, config["codec_training"], batches, training, accelerator)
    if training.steps == 0:
        return model
    if "feature_copies" not in config:
        if model.backbone is not None and training.learning_rates.get("backbone") == 0:
            model.freeze_backbone()
        model = train(model, batches, training, accelerator=accelerator)
    else:
        copies = dict(config["feature_copies"])
        model.to(accelerator.device)
        set_seed(training.seed)
        batches = FeatureBatches(model, batches, copies, code_copies=copies.pop("codes_of_pairs", 0))
        trained = train(HeadOnFeatures(model), batches, training, accelerator=accelerator)
        model.head.load_state_dict(trained.head.state_dict())
    if hasattr(model.backbone, "augmentation"):
        model.backbone.augmentation = None
    return model


class HeadOnFeatures(torch.nn.Module):
    """The head alone, for features that are known."""

    def __init__(self, model: BarkSemanticEncoderModel):
        super().__init__()
        self.head, self.label_smoothing = model.head, model.config.label_smoothing

    def forward(self, features, mask, labels):
        loss, logits = self.head.loss(features.float(), mask, labels, self.label_smoothing)
        return BarkSemanticEncoderOutput(loss, logits)


class CodecRegression(torch.nn.Module):
    """The codec front end, learning what its codes sound like."""

    def __init__(self, model: BarkSemanticEncoderModel):
        super().__init__()
        self.model = model

    def forward(self, labels=None, **inputs):
        return BarkSemanticEncoderOutput(self.model.codec_regression_loss(**inputs))


def train_codec_front_end(model, settings: dict, batches: CropBatches, training: TrainingArguments, accelerator):
    """On clips with audio and codes; everything else of the model stays as it is."""
    folder = Path(training.output_dir) / "codec_front_end"
    settings = {"log_every": training.log_every, **settings, "output_dir": str(folder), "seed": training.seed}
    plan = replace(batches.plan, crops=settings.pop("crops"))
    rates = {name.split(".")[0]: 0.0 for name, _ in model.named_parameters()}
    rates = {f"model.{name}": rate for name, rate in rates.items() if name != "codec_front_end"}
    arguments = arguments_of(TrainingArguments, {**settings, "learning_rates": rates}, "codec_training")
    done = folder / "codec_front_end.safetensors"
    if not done.exists():
        pairs = [clip for clip in batches.clips if clip.waveform is not None and clip.audio_codes is not None]
        crops = CropBatches(pairs, plan, arguments.steps, training.seed, batches.codebook_size, batches.process)
        train(CodecRegression(model), crops, arguments, accelerator=accelerator)
        if accelerator.is_main_process:
            save_file(model.codec_front_end.state_dict(), done)
        accelerator.wait_for_everyone()
    model.codec_front_end.load_state_dict(load_file(done))
    model.requires_grad_(True)


def new_model(settings: dict, training: TrainingArguments):
    """The untrained model, and where its head is to start."""
    torch.manual_seed(training.seed)
    settings = {name: value for name, value in settings.items() if name != "iterations"}
    backbone, head_from = settings.pop("backbone", None), settings.pop("head_from", None)
    if head_from not in (None, "centroids"):
        raise ValueError(f"`head_from` is {head_from!r}; it must be 'centroids', or be left out.")
    if backbone is None:
        return BarkSemanticEncoderModel(BarkSemanticEncoderConfig(**settings)), head_from
    return BarkSemanticEncoderModel.from_backbone(backbone, **settings), head_from


def new_batches(settings: dict, model, training: TrainingArguments, clips, process_index: int) -> CropBatches:
    settings = dict(settings)
    waveform_augmentation = _waveform_augmentation(settings.pop("waveform_augmentation", None))
    spectrogram_augmentation = settings.pop("spectrogram_augmentation", None)
    if spectrogram_augmentation is not None:
        model.backbone.augmentation = SpectrogramAugmentation(**spectrogram_augmentation)
    plan = arguments_of(BatchPlan, settings, "batches")
    codebook_size = model.config.codebook_size
    return CropBatches(clips, plan, training.steps, training.seed, codebook_size, process_index, waveform_augmentation)


def _waveform_augmentation(settings):
    if settings is None:
        return None
    settings = dict(settings)
    for name in ("noises", "rooms"):
        if name in settings:
            files = sorted(Path(settings[name]).glob("*.wav"))
            if not files:
                raise ValueError(f"`{name}` is {settings[name]}, where no .wav file lies.")
            settings[name] = [load_audio(file) for file in files]
    return arguments_of(WaveformAugmentation, settings, "waveform_augmentation")


def arguments_of(cls, values: dict, section: str):
    unknown = set(values) - {field.name for field in fields(cls)}
    if unknown:
        raise ValueError(f"`{section}` has no {sorted(unknown)}; it knows {sorted(f.name for f in fields(cls))}.")
    return cls(**values)


if __name__ == "__main__":
    main()
