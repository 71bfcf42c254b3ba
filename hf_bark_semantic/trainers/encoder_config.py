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
    "backbone": str | None,  # a speech model or an encoder: Hub id, folder, or "builtin" for the packaged encoder
    "head_from": str | None,  # "centroids", an encoder, or a community quantizer; see `take_over_head`
    "iterations": int,  # k-means iterations after the centroids
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
    """The `batches` section: a [`BatchPlan`], and the processing of its crops.

    Args:
        codec (`str`, *optional*): Hub id or folder of an EnCodec that decodes the codes of clips without audio.
        waveform_augmentation (`dict`, *optional*): arguments of [`WaveformAugmentation`]; `noises` and `rooms` are
            folders.
        spectrogram_augmentation (`dict`, *optional*): arguments of [`SpectrogramAugmentation`].
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
        fold (`int`, *optional*): the held-out fold of the corpus; or instead
        share (`float`, *optional*): the share of held-out clips. They share neither voice nor text with other clips;
            clips that share only one of them are left out. See `choose_held_out`.
        every (`int`), patience (`int`), best_by (`str`): see `Validation`; `best_by` is "accuracy" or "loss".
        max_clips (`int`): largest number of held-out clips.
    """

    fold: int | None = None
    share: float | None = None
    every: int = 100
    patience: int = 5
    best_by: Literal["accuracy", "loss"] = "accuracy"
    max_clips: int = 200

    def __post_init__(self):
        if (self.fold is None) == (self.share is None):
            raise ValueError("`validation` takes either a `fold` of the corpus or a `share` of its clips.")


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
        batches ([`BatchArguments`]): the training batches.
        training ([`TrainingArguments`]): the settings of the training loop.
        validation ([`ValidationArguments`], *optional*): keep the model that is best on held-out clips.
        codec_training (`dict`, *optional*): train the codec front end first: `crops`, and fields of
            [`TrainingArguments`].
        feature_copies (`dict[str, int]`, *optional*): train the head on features that are computed once, in this
            number of copies by source; `codes_of_pairs` adds copies of pairs, with features from their codes.
        distillation ([`DistillationArguments`], *optional*): learn from other encoders, too; needs `feature_copies`.
        streaming ([`StreamArguments`] or `bool`, *optional*): read the corpus row by row.

    Raises:
        ValueError: sections that exclude each other, or an unknown key in a section.
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
        elif self.batches.segment_tokens:
            raise ValueError(
                "`batches.segment_tokens` cuts features; add `feature_copies` for each source, or remove it."
            )
        if self.streaming is True:
            self.streaming = StreamArguments()
        if self.streaming:
            impossible = [name for name in ("feature_copies", "codec_training") if getattr(self, name) is not None]
            impossible += ["head_from: centroids"] if self.model.get("head_from") == "centroids" else []
            impossible += ["transition_weight"] if self.model.get("transition_weight") else []
            if impossible:
                raise ValueError(f"`{', '.join(impossible)}` needs all clips at once; leave it out with `streaming`.")
        if self.codec_training is not None and self.model.get("codec_output") != "spectrogram":
            raise ValueError("`codec_training` learns spectrograms; add `codec_output: spectrogram` to `model`.")

        self._check_distillation()

    def _check_distillation(self):
        if self.distillation is None:
            return
        if self.feature_copies is None:
            raise ValueError("`distillation` trains a head on features; add `feature_copies` for each source.")
        if self.model.get("head_type") in ("embedding", "autoregressive"):
            raise ValueError(f"A {self.model['head_type']!r} head cannot learn from soft labels; choose another one.")
        if bool(self.distillation.recordings) != (RECORDING in self.sources):
            raise ValueError(
                f"`distillation.recordings` names folders, and `batches.crops.{RECORDING}` is the number of their "
                "crops in a batch; set both or neither."
            )

    @property
    def sources(self) -> set[str]:
        """The sources of training clips."""
        return {source for source, count in self.batches.crops.items() if count}


def read_encoder_config(
    place: str | os.PathLike,
    assignments: Iterable[str] = (),
    *,
    corpus: str | None = None,
    training: Mapping[str, Any] | None = None,
    fold: int | None = None,
) -> EncoderTrainingConfig:
    """Read a config; the arguments override its values.

    Args:
        place (`str` or `os.PathLike`): YAML with the sections of [`EncoderTrainingConfig`], or the name of a packaged
            recipe, such as `"builtin"`.
        assignments (`Iterable[str]`): such as `"batches.crops.pair=4"`; the section must exist.
        corpus (`str`, *optional*): replaces the file's.
        training (`Mapping`, *optional*): values for the `training` section, except those that are `None`.
        fold (`int`, *optional*): replaces `{fold}` in names and values; without it, `all` does.

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
    """The value with `{fold}` replaced in all strings, keys included."""
    if isinstance(value, dict):
        return {_of_fold(key, fold): _of_fold(part, fold) for key, part in value.items()}
    if isinstance(value, list):
        return [_of_fold(part, fold) for part in value]
    return value.replace("{fold}", fold) if isinstance(value, str) else value
