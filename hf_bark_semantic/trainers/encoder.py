"""Training of the encoder on a labelled corpus.

train_or_resume    train in a folder, or continue the run that it holds
train_encoder      train the codec front end, then the head or the whole model
new_model, new_batches, save_encoder    parts of a training
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from safetensors.torch import load_file

from ..audio import load_audio
from ..bark.loading import load_codec
from ..configuration_bark_semantic import SEMANTIC_VOCAB_SIZE, BarkSemanticEncoderConfig
from ..corpus.rows import Clip
from ..corpus.stream import StreamedCorpus
from ..files import read_json
from ..modeling_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderOutput
from ..packaged import BUILTIN, encoder_for
from ..processing_bark_semantic import BarkSemanticEncoderProcessor
from .augmentation import SpectrogramAugmentation, WaveformAugmentation
from .checkpoints import remove_checkpoints
from .distillation import soft_label_loss, with_soft_labels
from .encoder_batches import CropBatches, FeatureBatches, StreamedBatches
from .encoder_config import CODES_OF_PAIRS, EncoderTrainingConfig
from .held_out_figures import HeldOutFigures
from .initial_heads import start_head
from .loop import WITHOUT_EFFECT, TrainingArguments, chosen_precision, new_accelerator, process_state, train
from .settings import remember_settings
from .trained_weights import save_weights
from .validation import Validation

RESULTS = ("checkpoint*", "soft_labels", "codec_front_end", "best", "validation.json", "model.safetensors")
MAY_CHANGE = ("corpus", "num_processes")  # a moved corpus keeps its fingerprint
MAY_CHANGE += tuple(f"{section}.{name}" for section in ("training", "codec_training") for name in WITHOUT_EFFECT)
READERS = ("num_processes", "training.num_workers")  # determine which rows of a stream each reader reads


def train_or_resume(
    config: EncoderTrainingConfig,
    clips: Sequence[Clip] | StreamedCorpus,
    held_out: Sequence[Clip],
    *,
    origin: Mapping[str, Any],
    record: Mapping[str, Any],
) -> None:
    """Train an encoder in its `output_dir`, or continue the run there; a finished run is left as it is.

    Args:
        clips (`Sequence[Clip]` or [`StreamedCorpus`]), held_out (`Sequence[Clip]`): from [`training_clips`].
        origin (`Mapping`): the origin of the clips, such as the fold and [`corpus_fingerprint`]; it is stored with the
            config.
        record (`Mapping`): further values for `training.json`.

    Raises:
        ValueError: the folder holds a run with other settings; the message names them.
    """
    training, state = config.training, process_state()
    folder = Path(training.output_dir)
    finished = (folder / "model.safetensors").exists()
    precision = chosen_precision(training)
    settings = remember_settings(
        folder,
        {**asdict(config), **origin, "precision": precision, "num_processes": state.num_processes},
        may_change=[name for name in MAY_CHANGE if not config.streaming or name not in READERS],
        keep=["precision"],  # a new measurement must not change the precision of a continued run
        may_grow=() if finished else ("training.steps",),
        results=RESULTS,
        write=state.is_main_process,
    )
    if finished:
        _clear_up(folder, state)  # left by a run that was killed at its end
        state.print(f"{folder} already holds a trained model; nothing to do.")
        return
    if settings["precision"] != precision:
        begun = "float32" if settings["precision"] == "no" else settings["precision"]
        state.print(f"the run continues in {begun}, with which it was started")
    accelerator = new_accelerator(replace(training, mixed_precision=settings["precision"]))
    if config.distillation is not None:
        wanted = [clip for clip in clips if clip.source in config.sources]
        clips = with_soft_labels(wanted, config.distillation, folder / "soft_labels", accelerator)
    model = train_encoder(config, clips, accelerator=accelerator, held_out=held_out)
    if config.model.get("transition_weight"):
        known = [clip.semantic_tokens for clip in clips if clip.source in config.sources and clip.has_tokens]
        model.transitions.count(known)
        model.config.num_transitions = len(model.transitions.pairs)
    if accelerator.is_main_process:
        record = {**record, "seed": training.seed, "steps": training.steps}
        if not isinstance(clips, StreamedCorpus):
            record["clips"] = dict(Counter(clip.source for clip in clips if clip.source in config.sources))
        if config.validation is not None:
            figures = read_json(folder / "validation.json")
            record["validation"] = {"held_out": [clip.id for clip in held_out], "figures": figures}
        save_encoder(model, folder, record)
    _clear_up(folder, accelerator)
    accelerator.end_training()


def _clear_up(folder: Path, state: Accelerator | PartialState) -> None:
    """Remove files that only an unfinished run needs; all processes call this."""
    if state.is_main_process:
        for name in ("soft_labels", "unfinished"):
            shutil.rmtree(folder / name, ignore_errors=True)
    remove_checkpoints(folder, state)


def train_encoder(
    config: EncoderTrainingConfig,
    clips: Sequence[Clip] | StreamedCorpus,
    *,
    accelerator: Accelerator,
    held_out: Sequence[Clip] = (),
) -> BarkSemanticEncoderModel:
    """Train the codec front end first, if the config has `codec_training`; then the head on features, or the model.

    Args:
        config ([`EncoderTrainingConfig`]): the config of the training.
        clips (`Sequence[Clip]` or [`StreamedCorpus`]), held_out (`Sequence[Clip]`): from [`training_clips`].
        accelerator (`Accelerator`): the accelerator of the whole training.

    Returns:
        [`BarkSemanticEncoderModel`]: the last model, with averaged weights if the config says so. With `validation`,
            the best model on the held-out clips; then the output folder contains both, in `best/` and `last/`.
    """
    training = config.training
    model = new_model(config.model, training.seed)
    processes = {"process": accelerator.process_index, "num_processes": accelerator.num_processes}
    batches = new_batches(config, model, clips, **processes)
    if batches.codec is not None and training.num_workers == 0:
        batches.codec.to(accelerator.device)
    start_head(model, config.model, batches, accelerator)
    if config.codec_training is not None:
        train_codec_front_end(model, config.codec_training, batches, training, accelerator)
    if training.steps == 0:
        return model
    model.to(accelerator.device)
    on_features = config.feature_copies is not None
    if on_features:
        trained, rows, training = _head_on_features(model, batches, config, accelerator)
    else:
        trained, rows = model, batches
        if model.backbone is not None and training.learning_rates.get("backbone") == 0:
            model.freeze_backbone()
    validation = None
    if config.validation is not None:
        validation = Validation(
            HeldOutFigures(model, held_out, batches, accelerator, front_is_frozen=on_features),
            lambda current, folder: save_with_head(model if on_features else current, current.head, folder),
            steps=training.steps,
            folder=Path(training.output_dir),
            accelerator=accelerator,
            every=config.validation.every,
            patience=config.validation.patience,
            best_by=config.validation.best_by,
        )
    trained = train(trained, rows, training, accelerator=accelerator, on_step=validation, keep_checkpoint=True)
    if on_features:
        model.head.load_state_dict(trained.head.state_dict())
    else:
        model = trained
    if validation is not None:
        folder = Path(training.output_dir)
        if accelerator.is_main_process:
            save_with_head(model, model.head, folder / "last")
        accelerator.wait_for_everyone()
        model = BarkSemanticEncoderModel.from_pretrained(folder / "best").to(accelerator.device)
    if hasattr(model.backbone, "augmentation"):
        model.backbone.augmentation = None
    return model


def _head_on_features(
    model: BarkSemanticEncoderModel, batches: CropBatches, config: EncoderTrainingConfig, accelerator: Accelerator
) -> tuple["HeadOnFeatures", FeatureBatches, TrainingArguments]:
    """The head, its batches and its arguments, without the learning rates of 0 for the frozen front end."""
    training = config.training
    frozen = {name for name, rate in training.learning_rates.items() if rate == 0 and not name.startswith("head")}
    rates = {name: rate for name, rate in training.learning_rates.items() if name not in frozen}
    set_seed(training.seed)
    code_copies = config.feature_copies.get(CODES_OF_PAIRS, 0)
    with accelerator.autocast():
        features = FeatureBatches(model, batches, copies=config.feature_copies, code_copies=code_copies)
    soft_weight = 0.0 if config.distillation is None else config.distillation.weight
    return HeadOnFeatures(model, soft_weight), features, replace(training, learning_rates=rates)


def save_encoder(model: BarkSemanticEncoderModel, folder: Path, record: Mapping[str, Any] | None = None):
    """Write model, processor and `training.json`; the weights are written last, and so mark a complete folder."""
    unfinished = folder / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    BarkSemanticEncoderProcessor().save_pretrained(unfinished)
    if record is not None:
        (unfinished / "training.json").write_text(json.dumps(record, indent=1))
    for file in sorted(unfinished.iterdir(), key=lambda file: file.name == "model.safetensors"):
        os.replace(file, folder / file.name)
    unfinished.rmdir()


def save_with_head(model: BarkSemanticEncoderModel, head: torch.nn.Module, folder: Path):
    """Write the model with another head, such as an averaged copy of its head."""
    own, model.head = model.head, head
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_encoder(model, folder)
    finally:
        model.head = own


class HeadOnFeatures(torch.nn.Module):
    """The head as a separate model that reads precomputed features.

    Args:
        model ([`BarkSemanticEncoderModel`]): whose head it is.
        soft_weight (`float`): weight of soft labels, if a batch has them; see [`soft_label_loss`].
    """

    def __init__(self, model: BarkSemanticEncoderModel, soft_weight: float = 0.0):
        super().__init__()
        self.head, self.label_smoothing, self.soft_weight = model.head, model.config.label_smoothing, soft_weight

    def forward(self, features, mask, labels, soft_tokens=None, soft_probabilities=None):
        if soft_tokens is None:
            return BarkSemanticEncoderOutput(*self.head.loss(features.float(), mask, labels, self.label_smoothing))
        logits = self.head(features.float(), mask)
        valid = [tensor[mask] for tensor in (logits, labels, soft_tokens.long(), soft_probabilities.float())]
        loss = soft_label_loss(*valid, weight=self.soft_weight, smoothing=self.label_smoothing)
        return BarkSemanticEncoderOutput(loss, logits)


class CodecRegression(torch.nn.Module):
    """The codec front end as a separate model, whose loss compares its spectrograms with those of the audio."""

    def __init__(self, model: BarkSemanticEncoderModel):
        super().__init__()
        self.model = model

    def forward(self, labels=None, **inputs):
        return BarkSemanticEncoderOutput(self.model.codec_regression_loss(**inputs))


def train_codec_front_end(
    model: BarkSemanticEncoderModel,
    settings: dict,
    batches: CropBatches,
    training: TrainingArguments,
    accelerator: Accelerator,
):
    """Train the codec front end on clips with audio and codes; the rest of the model is not changed."""
    folder = Path(training.output_dir) / "codec_front_end"
    rates = {name.split(".")[0]: 0.0 for name, _ in model.named_parameters()}
    values = {"log_every": training.log_every, **settings}
    plan = replace(batches.plan, crops=values.pop("crops"))
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=training.seed,
        learning_rates={f"model.{name}": rate for name, rate in rates.items() if name != "codec_front_end"},
        **values,
    )
    done = folder / "codec_front_end.safetensors"
    if not done.exists():
        pairs = [clip for clip in batches.clips if clip.waveform is not None and clip.audio_codes is not None]
        crops = CropBatches(
            pairs,
            plan,
            steps=arguments.steps,
            seed=training.seed,
            codebook_size=batches.codebook_size,
            process=batches.process,
            num_processes=batches.num_processes,
        )
        train(CodecRegression(model), crops, arguments, accelerator=accelerator)
        if accelerator.is_main_process:
            save_weights(model.codec_front_end.state_dict(), done)
        accelerator.wait_for_everyone()
    model.codec_front_end.load_state_dict(load_file(done))
    model.requires_grad_(True)


def new_model(settings: dict, seed: int) -> BarkSemanticEncoderModel:
    """The model of a `model` section: a pretrained backbone, if one is named, and an untrained head."""
    torch.manual_seed(seed)
    fields = {name: value for name, value in settings.items() if name not in ("backbone", "head_from", "iterations")}
    backbone = settings.get("backbone")
    if backbone is None:
        return BarkSemanticEncoderModel(BarkSemanticEncoderConfig(**fields))
    if backbone == BUILTIN:
        backbone = encoder_for(fields.get("vocab_size", SEMANTIC_VOCAB_SIZE))
    return BarkSemanticEncoderModel.from_backbone(backbone, **fields)


def new_batches(
    config: EncoderTrainingConfig,
    model: BarkSemanticEncoderModel,
    clips: Sequence[Clip] | StreamedCorpus,
    *,
    process: int = 0,
    num_processes: int = 1,
) -> CropBatches:
    """The batches of the `batches` section, with the inputs that the model reads.

    Raises:
        ValueError: a token is not in the model's vocabulary, or unknown without a distillation; a folder has no
            recordings, or a source has no clips.
    """
    plan, training = config.batches, config.training
    if plan.spectrogram_augmentation is not None:
        model.backbone.augmentation = SpectrogramAugmentation(**plan.spectrogram_augmentation)
    readable = {"audio": model.backbone, "codes": model.codec_front_end}
    options = {
        "steps": training.steps,
        "seed": training.seed,
        "codebook_size": model.config.codebook_size,
        "process": process,
        "num_processes": num_processes,
        "inputs": [name for name, front_end in readable.items() if front_end is not None],
        "codec": None if plan.codec is None else load_codec(plan.codec),
        "waveform_augmentation": _waveform_augmentation(plan.waveform_augmentation),
    }
    if isinstance(clips, StreamedCorpus):
        options |= {"block_size": config.streaming.block_size, "num_workers": training.num_workers}
        return StreamedBatches(clips, plan, **options)
    wanted = [clip for clip in clips if clip.source in plan.crops]
    unlabelled = next((clip for clip in wanted if not clip.has_tokens), None)
    if unlabelled is not None and config.distillation is None:
        raise ValueError(
            f"{unlabelled.id} has no tokens, so `batches.crops` can have {unlabelled.source!r} clips only with a "
            "`distillation`. `codec_training.crops` can have them in any case."
        )
    largest = max(wanted, key=_largest_token, default=None)
    if largest is not None and _largest_token(largest) >= model.config.vocab_size:
        raise ValueError(
            f"{largest.id} has token {_largest_token(largest)}, but `model.vocab_size` is {model.config.vocab_size}."
        )
    return CropBatches(clips, plan, **options)


def _largest_token(clip: Clip) -> int:
    return int(clip.semantic_tokens.max(initial=0))


def _waveform_augmentation(settings: dict | None) -> WaveformAugmentation | None:
    if settings is None:
        return None
    settings = dict(settings)
    for name in ("noises", "rooms"):
        if name in settings:
            files = sorted(Path(settings[name]).glob("*.wav"))
            if not files:
                raise ValueError(f"`{name}` is {settings[name]}, which contains no .wav file.")
            settings[name] = [load_audio(file) for file in files]
    return WaveformAugmentation(**settings)
