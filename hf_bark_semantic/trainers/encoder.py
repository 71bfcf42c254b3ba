"""Training of the encoder on a labelled corpus.

train_or_resume    into a folder, which may hold an unfinished or a finished run
train_encoder      codec front end, head or whole model, in this order
new_model, new_batches, save_encoder    its parts
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
from .distillation import RECORDING, soft_label_loss, with_soft_labels
from .encoder_batches import CropBatches, FeatureBatches, StreamedBatches
from .encoder_config import CODES_OF_PAIRS, EncoderTrainingConfig
from .held_out_figures import HeldOutFigures
from .initial_heads import start_head
from .loop import WITHOUT_EFFECT, TrainingArguments, chosen_precision, new_accelerator, process_state, train
from .settings import remember_settings
from .trained_weights import save_weights
from .validation import Validation

RESULTS = ("checkpoint*", "soft_labels", "codec_front_end", "best", "validation.json", "model.safetensors")
MAY_CHANGE = ("corpus", "num_processes")  # the corpus may have moved: its fingerprint decides
MAY_CHANGE += tuple(f"{section}.{name}" for section in ("training", "codec_training") for name in WITHOUT_EFFECT)
READERS = ("num_processes", "training.num_workers")  # how many there are decides what each reads of a stream


def train_or_resume(
    config: EncoderTrainingConfig,
    clips: Sequence[Clip] | StreamedCorpus,
    held_out: Sequence[Clip],
    *,
    origin: Mapping[str, Any],
    record: Mapping[str, Any],
) -> None:
    """Train an encoder into its `output_dir`, go on with what was begun there, or do nothing where it is finished.

    Args:
        clips (`Sequence[Clip]` or [`StreamedCorpus`]), held_out (`Sequence[Clip]`): of [`training_clips`].
        origin (`Mapping`): what decides on the clips, such as the fold and [`corpus_fingerprint`]; it is remembered
            with the config.
        record (`Mapping`): further values for `training.json`.

    Raises:
        ValueError: other settings have begun, or finished, what the folder holds; the message names them.
    """
    training, state = config.training, process_state()
    folder = Path(training.output_dir)
    finished = (folder / "model.safetensors").exists()
    precision = chosen_precision(training)
    settings = remember_settings(
        folder,
        {**asdict(config), **origin, "precision": precision, "num_processes": state.num_processes},
        may_change=[name for name in MAY_CHANGE if not config.streaming or name not in READERS],
        keep=["precision"],  # a measurement must not change what a run goes on with
        may_grow=() if finished else ("training.steps",),
        results=RESULTS,
        write=state.is_main_process,
    )
    if finished:
        _clear_up(folder, state)  # after a run that was killed before it did
        state.print(f"{folder} holds a trained model already; nothing to do.")
        return
    if settings["precision"] != precision:
        begun = "float32" if settings["precision"] == "no" else settings["precision"]
        state.print(f"the run continues in {begun}, as it was begun")
    accelerator = new_accelerator(replace(training, mixed_precision=settings["precision"]))
    if config.distillation is not None:
        wanted = [clip for clip in clips if clip.source in config.sources]
        clips = with_soft_labels(wanted, config.distillation, folder / "soft_labels", accelerator)
    model = train_encoder(config, clips, accelerator=accelerator, held_out=held_out)
    if config.model.get("transition_weight"):
        known = [clip.semantic_tokens for clip in clips if clip.source in config.sources and clip.source != RECORDING]
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
    """Remove what only an unfinished run needs; all processes call it."""
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
    """Train the codec front end first, if the config wants it; then the head on features, or the model end to end.

    Args:
        config ([`EncoderTrainingConfig`]): of the training.
        clips (`Sequence[Clip]` or [`StreamedCorpus`]), held_out (`Sequence[Clip]`): of [`training_clips`].
        accelerator (`Accelerator`): of the whole training.

    Returns:
        [`BarkSemanticEncoderModel`]: the last one, its weights averaged if the config wants that. With `validation`,
            the best one on the held-out clips; then `best/` and `last/` lie in the output folder, too.
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
    """What is trained, on what, and how: learning rates of 0 for the frozen front end are left out."""
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
    """Write model, processor and `training.json`; the weights come last, so where they are, everything is."""
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
    """Write the model with another head, such as an averaged copy of its own."""
    own, model.head = model.head, head
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_encoder(model, folder)
    finally:
        model.head = own


class HeadOnFeatures(torch.nn.Module):
    """The head as a model of its own, which reads features that were computed before.

    Args:
        model ([`BarkSemanticEncoderModel`]): whose head it is.
        soft_weight (`float`): of soft labels, where a batch has them; see [`soft_label_loss`].
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
    """The codec front end as a model of its own: its loss compares its spectrograms with those of the audio."""

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
    """Train the codec front end on clips with audio and codes; everything else of the model stays as it is."""
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
    """The model of a `model` section: a pretrained backbone, if it names one, and an untrained head."""
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
        ValueError: a clip has a token that the model lacks, a folder has no recordings, or a source has no clips.
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
    largest = max((clip for clip in clips if clip.source in plan.crops), key=_largest_token, default=None)
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
                raise ValueError(f"`{name}` is {settings[name]}, where no .wav file lies.")
            settings[name] = [load_audio(file) for file in files]
    return WaveformAugmentation(**settings)
