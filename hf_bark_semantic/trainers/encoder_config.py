"""The config of an encoder's training: a dataclass for each section, checked before anything is computed.

config = read_encoder_config("builtin", ["training.steps=10"])
config.training.steps, config.batches.crops, config.model["head_type"]
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..configuration_bark_semantic import BarkSemanticEncoderConfig
from .augmentation import SpectrogramAugmentation, WaveformAugmentation
from .distillation import RECORDING, DistillationArguments
from .encoder_batches import BatchPlan
from .loop import TrainingArguments
from .settings import arguments_of, checked_values, parameters_of, read_config, set_value

MODEL_KEYS = {
    **parameters_of(BarkSemanticEncoderConfig),
    "backbone": str | None,  # of a speech model or an encoder: Hub id, folder, or "builtin" for the packaged encoder
    "head_from": str | None,  # "centroids", an encoder, or a community quantizer; see `take_over_head`
    "iterations": int,  # of k-means after the centroids
}
_OF_THE_RUN = ("output_dir", "seed", "learning_rates", "layer_decay", "mixed_precision", "trackers")
_OF_THE_RUN += ("gradient_checkpointing",)
CODEC_TRAINING_KEYS = {
    "crops": dict[str, int],
    **{name: hint for name, hint in parameters_of(TrainingArguments).items() if name not in _OF_THE_RUN},
}
WAVEFORM_AUGMENTATION_KEYS = {**parameters_of(WaveformAugmentation), "noises": str, "rooms": str}  # folders of .wav
CODES_OF_PAIRS = "codes_of_pairs"


@dataclass(frozen=True)
class BatchArguments(BatchPlan):
    """The `batches` section: a [`BatchPlan`], and what happens to its crops.

    Args:
        codec (`str`, *optional*): Hub id or folder of an EnCodec that turns codes without audio into audio.
        waveform_augmentation (`dict`, *optional*): of [`WaveformAugmentation`]; `noises` and `rooms` are folders.
        spectrogram_augmentation (`dict`, *optional*): of [`SpectrogramAugmentation`].
    """

    codec: str | None = None
    waveform_augmentation: dict[str, Any] | None = None
    spectrogram_augmentation: dict[str, Any] | None = None

    def __post_init__(self):
        super().__post_init__()
        for name, hints in (
            ("waveform_augmentation", WAVEFORM_AUGMENTATION_KEYS),
            ("spectrogram_augmentation", parameters_of(SpectrogramAugmentation)),
        ):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, checked_values(hints, values, f"batches.{name}"))


@dataclass(frozen=True)
class ValidationArguments:
    """The `validation` section.

    Args:
        fold (`int`, *optional*): hold this fold of the corpus out, or
        share (`float`, *optional*): choose voices and texts of about that share of the clips; clips that have only one
            of both are left out. See `choose_held_out`.
        every (`int`), patience (`int`), best_by (`str`): see `Validation`; `best_by` is "accuracy" or "loss".
        max_clips (`int`): measure no more held-out clips than these.
    """

    fold: int | None = None
    share: float | None = None
    every: int = 100
    patience: int = 5
    best_by: Literal["accuracy", "loss"] = "accuracy"
    max_clips: int = 200

    def __post_init__(self):
        if (self.fold is None) == (self.share is None):
            raise ValueError("`validation` takes a `fold` of the corpus, or a `share` of its clips: one of them.")


@dataclass(frozen=True)
class StreamArguments:
    """The `streaming` section.

    Args:
        block_size (`int`): clips that are shuffled at once; see [`ClipStream`].
    """

    block_size: int = 1_000


@dataclass
class EncoderTrainingConfig:
    """The config file of an encoder's training.

    Args:
        corpus (`str`): folder or Hub id of a `datasets` corpus.
        model (`dict`): fields of [`BarkSemanticEncoderConfig`], and `backbone`, `head_from`, `iterations`.
        batches ([`BatchArguments`]), training ([`TrainingArguments`]): crops, and how they are learned from.
        validation ([`ValidationArguments`], *optional*): keep the best model on held-out clips.
        codec_training (`dict`, *optional*): train the codec front end first: `crops`, and fields of
            [`TrainingArguments`].
        feature_copies (`dict[str, int]`, *optional*): train the head on features that are computed once, in so many
            copies of each source of clips; `codes_of_pairs` more copies of the pairs are read from their codes.
        distillation ([`DistillationArguments`], *optional*): learn from other encoders, too; needs `feature_copies`.
        streaming ([`StreamArguments`] or `bool`, *optional*): read the corpus row by row.

    Raises:
        ValueError: sections that don't go together, or keys that a section doesn't know.
    """

    corpus: str
    model: dict[str, Any]
    batches: BatchArguments
    training: TrainingArguments
    validation: ValidationArguments | None = None
    codec_training: dict[str, Any] | None = None
    feature_copies: dict[str, int] | None = None
    distillation: DistillationArguments | None = None
    streaming: StreamArguments | bool | None = None

    def __post_init__(self):
        self.model = checked_values(MODEL_KEYS, self.model, "model")
        if self.codec_training is not None:
            self.codec_training = checked_values(
                CODEC_TRAINING_KEYS, self.codec_training, "codec_training", required=["crops"]
            )
        if self.feature_copies is not None:
            known = dict.fromkeys([*self.batches.crops, CODES_OF_PAIRS], int)
            self.feature_copies = checked_values(known, self.feature_copies, "feature_copies")
        if self.streaming is True:
            self.streaming = StreamArguments()
        if self.streaming:
            impossible = [name for name in ("feature_copies", "codec_training") if getattr(self, name) is not None]
            impossible += ["head_from: centroids"] if self.model.get("head_from") == "centroids" else []
            impossible += ["transition_weight"] if self.model.get("transition_weight") else []
            if impossible:
                raise ValueError(
                    f"`{', '.join(impossible)}` goes through all clips first; with `streaming`, leave it out."
                )
        if self.codec_training is not None and self.model.get("codec_output") != "spectrogram":
            raise ValueError("`codec_training` learns spectrograms; give `model` a `codec_output: spectrogram`.")

        self._check_distillation()

    def _check_distillation(self):
        if self.distillation is None:
            return
        if self.feature_copies is None:
            raise ValueError("`distillation` trains a head on features: give `feature_copies` for each source.")
        if self.model.get("head_type") in ("embedding", "autoregressive"):
            raise ValueError(f"A {self.model['head_type']!r} head cannot learn from soft labels; take another one.")
        if bool(self.distillation.recordings) != (RECORDING in self.sources):
            raise ValueError(
                f"`distillation.recordings` names folders and `batches.crops.{RECORDING}` how many crops of them make "
                "a batch: give both or neither."
            )

    @property
    def sources(self) -> set[str]:
        """Sources of clips that are trained on."""
        return {source for source, count in self.batches.crops.items() if count}


def read_encoder_config(
    place: str | os.PathLike,
    assignments: Iterable[str] = (),
    *,
    corpus: str | None = None,
    training: Mapping[str, Any] | None = None,
    fold: int | None = None,
) -> EncoderTrainingConfig:
    """Read a config; the arguments win over what it says.

    Args:
        place (`str` or `os.PathLike`): YAML with the sections of [`EncoderTrainingConfig`], or the name of a packaged
            recipe, such as `"builtin"`.
        assignments (`Iterable[str]`): such as `"batches.crops.pair=4"`; the section must exist.
        corpus (`str`, *optional*): instead of the file's.
        training (`Mapping`, *optional*): values for the `training` section; those that are `None` are left out.
        fold (`int`, *optional*): what `{fold}` stands for in names and values; without it, for `all`.

    Raises:
        ValueError: an unknown key, with the nearest one that is known; a missing section; a value of the wrong type.
    """
    config = read_config(place)
    for assignment in assignments:
        set_value(config, assignment)
    if corpus is not None:
        config["corpus"] = corpus
    if isinstance(config.get("training"), dict):
        config["training"].update({name: value for name, value in (training or {}).items() if value is not None})
    return arguments_of(EncoderTrainingConfig, _of_fold(config, "all" if fold is None else str(fold)), "")


def _of_fold(value: Any, fold: str) -> Any:
    """The value with `{fold}` replaced in every text, also in keys."""
    if isinstance(value, dict):
        return {_of_fold(key, fold): _of_fold(part, fold) for key, part in value.items()}
    if isinstance(value, list):
        return [_of_fold(part, fold) for part in value]
    return value.replace("{fold}", fold) if isinstance(value, str) else value
