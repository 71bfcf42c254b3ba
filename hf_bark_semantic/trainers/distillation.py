"""Distillation: one encoder learns from the probabilities of several others, also on recordings without known tokens.

    DistillationArguments   the `distillation` section of a training's config
    unlabelled_clips        read recordings as clips without tokens
    check_encoders          check that the teachers were trained without the held-out fold
    with_soft_labels        add the teachers' probabilities to clips; they are computed once and stored
    soft_label_loss         the loss of the student

The teachers read the original clips, and the student reads augmented ones.
Source of the idea: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.numpy import load_file, save
from torch.nn import functional as F

from ..audio import list_audio_files, load_audio
from ..configuration_bark_semantic import (
    SEMANTIC_RATE_HZ,
    num_codec_frames,
    num_samples_of_codec_frames,
    num_semantic_tokens_of_samples,
)
from ..corpus.rows import NO_TOKEN, Clip, SoftLabels
from ..files import atomic_write, sha256_of_file
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from ..packaged import named_encoder
from .encoder_batches import collate
from .records import training_record

RECORDING = "recording"  # `source` of clips without tokens, in `crops` and `feature_copies`
PIECE_TOKENS = int(15 * SEMANTIC_RATE_HZ)  # longer recordings are cut into pieces of 15 s
MIN_TOKENS = 25  # half a second: a shorter remainder is left out


@dataclass(frozen=True)
class DistillationArguments:
    """The `distillation` section.

    Args:
        encoders (`dict[str, float]`): the teachers (folders, Hub ids or names such as "builtin" and "community:en")
            and their weights.
        recordings (`list[str]`): folders of recordings without tokens, which become clips of the source `recording`.
        weight (`float`): weight of the soft labels in the loss of clips with tokens; the tokens weigh 1 minus this.
        top_k (`int`): number of tokens per position and teacher, the likeliest ones.
        temperature (`float`): values above 1 make the soft labels flatter, below 1 sharper.
    """

    encoders: dict[str, float]
    recordings: list[str] = field(default_factory=list)
    weight: float = 0.6
    top_k: int = 20
    temperature: float = 1.0

    def __post_init__(self):
        if not self.encoders or min(self.encoders.values()) <= 0:
            raise ValueError(f"`distillation.encoders` is {self.encoders}; name one or more, with weights above 0.")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"`distillation.weight` is {self.weight}; it must be between 0 and 1.")
        if self.top_k < 1:
            raise ValueError(f"`distillation.top_k` is {self.top_k}; it must be 1 or more.")
        if self.temperature <= 0:
            raise ValueError(f"`distillation.temperature` is {self.temperature}; it must be above 0.")


def unlabelled_clips(folders: Sequence[str]) -> list[Clip]:
    """The recordings of folders as clips without tokens, at most 15 s each.

    Raises:
        AudioError: a folder does not exist or has no recordings, or a recording cannot be read.
    """
    clips = []
    for path in list_audio_files(folders) if folders else ():
        waveform = load_audio(path)
        whole = num_samples_of_codec_frames(num_codec_frames(PIECE_TOKENS))
        for number, start in enumerate(range(0, len(waveform), whole)):
            part = waveform[start : start + whole]
            num_tokens = num_semantic_tokens_of_samples(len(part))
            if num_tokens < MIN_TOKENS:
                continue
            num_samples = num_samples_of_codec_frames(num_codec_frames(num_tokens))
            part = np.pad(part, (0, max(0, num_samples - len(part))))[:num_samples]
            tokens = np.full(num_tokens, NO_TOKEN)
            name = f"{path.stem}-{number}"
            clips.append(Clip(name, RECORDING, RECORDING, path.stem, -1, True, tokens, None, part))
    return clips


def check_encoders(places: Iterable[str], fold: int | None) -> dict[str, str]:
    """Check that no teacher was trained on the held-out fold; otherwise, it would leak into the student.

    Returns:
        `dict[str, str]`: a digest of the weights of each teacher in a folder, to be compared when a run continues.

    Raises:
        ValueError: a teacher was trained on the fold, or may have been.
    """
    digests = {}
    for place in places:
        record = training_record(place) or {}
        if fold is not None and record.get("fold") != fold:
            known = "was trained on all folds" if record.get("fold", "") is None else "has no training.json"
            known = f"was trained without fold {record['fold']}" if isinstance(record.get("fold"), int) else known
            raise ValueError(
                f"Fold {fold} is held out, but the teacher {place} {known}. Train one with --fold {fold}, and write "
                "{fold} instead of the number in `distillation.encoders`."
            )
        weights = Path(named_encoder(place)) / "model.safetensors"
        digests[place] = sha256_of_file(weights) if weights.is_file() else place
    return digests


def with_soft_labels(
    clips: Sequence[Clip],
    settings: DistillationArguments,
    folder: Path,
    accelerator: Accelerator,
) -> list[Clip]:
    """Add the teachers' likeliest tokens to every clip, with probabilities that add up to 1.

    Args:
        clips (`Sequence[Clip]`): a teacher reads their audio or, without audio, their codes.
        settings ([`DistillationArguments`]): the teachers, and their weights.
        folder (`Path`): stores the predictions of each teacher, so that a killed run can continue.
        accelerator (`Accelerator`): processes share the clips.

    Raises:
        ValueError: no teacher can read a clip, or the teachers have different vocabularies.
    """
    answers, weights, sizes = [], list(settings.encoders.values()), {}
    for number, place in enumerate(settings.encoders):
        file = folder / f"{number}.safetensors"
        if not file.exists():
            model = BarkSemanticEncoderModel.from_pretrained(named_encoder(place)).eval().to(accelerator.device)
            stored = _ask(model, clips, settings.top_k, accelerator)
            if accelerator.is_main_process:
                folder.mkdir(parents=True, exist_ok=True)
                with atomic_write(file) as opened:
                    opened.write(save({**stored, "vocab_size": np.array(model.config.vocab_size)}))
            accelerator.wait_for_everyone()
        answers.append(load_file(file))
        sizes[place] = int(answers[-1].pop("vocab_size"))
    if len(set(sizes.values())) > 1:
        raise ValueError(f"Teachers must have the same vocabulary; these have different sizes: {sizes}.")
    return [replace(clip, soft_labels=_mixed(clip, i, answers, weights, settings)) for i, clip in enumerate(clips)]


def _mixed(clip: Clip, number: int, answers, weights: Sequence[float], settings: DistillationArguments) -> SoftLabels:
    """The predictions of all teachers side by side, with probability 0 for a teacher that cannot read the clip."""
    name = f"{number}.tokens"
    total = sum(weight for weight, answer in zip(weights, answers, strict=True) if name in answer)
    if not total:
        raise ValueError(f"{clip.id}: no teacher can read it. Add one that reads codes, too.")
    nothing = np.zeros((clip.num_tokens, settings.top_k), np.int32)
    tokens = [answer.get(name, nothing) for answer in answers]
    probabilities = [
        _flattened(answer[f"{number}.probabilities"], settings.temperature) * np.float32(weight / total)
        if name in answer
        else nothing.astype(np.float32)
        for weight, answer in zip(weights, answers, strict=True)
    ]
    return SoftLabels(np.concatenate(tokens, axis=1), np.concatenate(probabilities, axis=1))


@torch.no_grad()
def _ask(model, clips: Sequence[Clip], top_k: int, accelerator: Accelerator) -> dict[str, np.ndarray]:
    """The `top_k` likeliest tokens of each clip that the model can read, as `{number}.tokens` and `.probabilities`."""
    own = []
    for i in range(accelerator.process_index, len(clips), accelerator.num_processes):
        clip = clips[i]
        if model.backbone is not None and clip.waveform is not None:
            inputs = collate([replace(clip, audio_codes=None)], model.config.codebook_size)
        elif model.codec_front_end is not None and clip.audio_codes is not None:
            inputs = collate([replace(clip, waveform=None)], model.config.codebook_size)
        else:
            continue
        inputs.pop("labels")
        with accelerator.autocast():
            answer = model.encode(**{name: value.to(model.device) for name, value in inputs.items()}, top_k=top_k)
        tokens = answer.top_k_tokens[0].cpu().numpy().astype(np.int32)
        own.append((i, tokens, answer.top_k_confidence[0].float().cpu().numpy().astype(np.float16)))
    stored = {}
    for i, tokens, probabilities in own if accelerator.num_processes == 1 else gather_object(own):
        stored |= {f"{i}.tokens": tokens, f"{i}.probabilities": probabilities}
    return stored


def _flattened(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities `(num_tokens, top_k)` at a temperature, normalized to the sum 1."""
    powers = probabilities.astype(np.float32) ** (1 / temperature)
    return powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-9)


def soft_label_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    soft_tokens: torch.Tensor,
    soft_probabilities: torch.Tensor,
    *,
    weight: float,
    smoothing: float,
) -> torch.Tensor:
    """Mean over all positions of the cross-entropy with the soft labels and, where it is known, with the token.

    Args:
        logits (`torch.FloatTensor` of shape `(count, vocab_size)`): from the student.
        labels (`torch.LongTensor` of shape `(count,)`): tokens; -100 where unknown, so that only soft labels count.
        soft_tokens, soft_probabilities (`torch.Tensor` of shape `(count, top_k)`): from the teachers.
        weight (`float`): weight of the soft labels where the token is known.
        smoothing (`float`): label smoothing of the tokens.

    Returns:
        `torch.FloatTensor` of shape `()`: in nats.
    """
    logits = logits.float()
    hard = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")  # 0 where the token is unknown
    soft = logits.logsumexp(-1) - (logits.gather(-1, soft_tokens) * soft_probabilities).sum(-1)
    return torch.where(labels == NO_TOKEN, soft, (1 - weight) * hard + weight * soft).mean()


__all__ = [
    "RECORDING",
    "DistillationArguments",
    "check_encoders",
    "soft_label_loss",
    "unlabelled_clips",
    "with_soft_labels",
]
