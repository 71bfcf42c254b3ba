"""Initial weights of a head: centroids of tokens, another encoder's head, or a community quantizer.

start_head             initialize the head as `model.head_from` of a config says
centroids_of_tokens    the mean feature of every token's frames, refined by k-means
take_over_head         copy the head of another encoder, or of a community quantizer

Bark's tokens are the cluster ids of a k-means that Suno has not published. K-means that starts from the means of
labelled frames keeps these ids: each cluster keeps the token that it started with.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from transformers import HubertConfig, HubertModel

from ..conversion.quantizer import convert_quantizer
from ..corpus.rows import Clip
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from ..packaged import named_encoder
from .encoder_batches import CropBatches, Piece, collate

CHECKPOINTS = (".pth", ".pt")
OF_THE_HEAD = (
    "feature_size",
    "head_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "conv_kernel_size",
    "embedding_size",
    "vocab_size",
)


def start_head(model: BarkSemanticEncoderModel, settings: dict, batches: CropBatches, accelerator: Accelerator):
    """Initialize the head as `head_from` of a `model` section says; without it, its weights stay random."""
    head_from = settings.get("head_from")
    if head_from == "centroids":
        labelled = (
            batches.without_augmentation().crops_of([Piece(clip, 0, clip.num_tokens, 0)], [0])[0]
            for pool, _ in batches.pools.values()
            for clip in pool
        )
        model.head.from_centroids(*centroids_of_tokens(model, labelled, iterations=settings.get("iterations", 0)))
    elif head_from is not None:
        accelerator.print(f"copied from {head_from}: {' and '.join(take_over_head(model, head_from))}")


@torch.no_grad()
def centroids_of_tokens(
    model: BarkSemanticEncoderModel, clips: Iterable[Clip], *, iterations: int = 0, label_weight: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centroids for `LinearHead.from_centroids`, in the space of the features that the head reads.

    Args:
        model ([`BarkSemanticEncoderModel`]): its features are used, not its head.
        clips (`Iterable[Clip]`): labelled audio, or codes where there is no audio.
        iterations (`int`): k-means iterations after the means. They need all features in memory; the means don't.
        label_weight (`float`): weight of the labelled means in each iteration, so that clusters don't drift away from
            their token; 0 is plain k-means.

    Returns:
        `(centroids, seen)`: `torch.FloatTensor` of shape `(vocab_size, feature_size)` and `torch.BoolTensor` of shape
        `(vocab_size,)`, False where no frame has the token. Such centroids are 0 and must not be used.
    """
    vocab_size = model.config.vocab_size
    if iterations == 0:
        sums, counts = torch.zeros(vocab_size, model.config.feature_size), torch.zeros(vocab_size, dtype=torch.long)
        for features, labels in features_by_clip(model, clips):
            sums.index_add_(0, labels, features)
            counts += torch.bincount(labels, minlength=vocab_size)
        return sums / counts.clamp(min=1)[:, None], counts > 0
    features, labels = token_features(model, clips)
    means, seen = token_means(features, labels, vocab_size)
    centroids = means
    for _ in range(iterations):
        nearest = nearest_centroid(features, centroids, seen)
        moved, hit = token_means(features, nearest, vocab_size)
        centroids = torch.where((seen & hit)[:, None], torch.lerp(moved, means, label_weight), centroids)
    return centroids, seen


def token_features(model, clips: Iterable[Clip]) -> tuple[torch.Tensor, torch.Tensor]:
    """The features of all tokens of all clips, `(tokens, feature_size)`, and their labels, `(tokens,)`."""
    features, labels = zip(*features_by_clip(model, clips), strict=True)
    return torch.cat(features), torch.cat(labels)


@torch.no_grad()
def features_by_clip(model, clips: Iterable[Clip]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the features of each clip, `(num_tokens, feature_size)` in float32 on the CPU, and its labels."""
    was_training = model.training
    model.eval()
    for clip in clips:
        inputs = collate([clip], model.config.codebook_size)
        labels = inputs.pop("labels")[0]
        if model.backbone is None or "input_values" not in inputs:
            wanted = ("audio_codes", "audio_codes_mask")
        else:
            wanted = ("input_values", "attention_mask")
        inputs = {name: inputs[name].to(model.device) for name in wanted}
        yield model.features(**inputs)[0].float().cpu(), labels
    model.train(was_training)


def token_means(features: torch.Tensor, labels: torch.Tensor, vocab_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of the features `(tokens, feature_size)` for each label, and a mask of the labels that occur."""
    counts = torch.bincount(labels, minlength=vocab_size)
    sums = torch.zeros(vocab_size, features.shape[1]).index_add_(0, labels, features)
    return sums / counts.clamp(min=1)[:, None], counts > 0


def nearest_centroid(features: torch.Tensor, centroids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The id of the nearest centroid, of those in the mask `seen`, for each row of `features`."""
    ids = seen.nonzero()[:, 0]
    return ids[torch.cat([torch.cdist(part, centroids[ids]).argmin(-1) for part in features.split(4_096)])]


def take_over_head(model: BarkSemanticEncoderModel, place: str | os.PathLike) -> list[str]:
    """Copy the head of another encoder to `model`, and the codec front end if both have the same type.

    Args:
        model ([`BarkSemanticEncoderModel`]): its weights are replaced.
        place (`str` or `os.PathLike`): folder or Hub id of an encoder, or a community quantizer (.pth), which is read
            without running code from it.

    Returns:
        `list[str]`: the parts that were copied: `head`, and possibly `codec_front_end`.

    Raises:
        ValueError: there is no such encoder, or its head has another shape; the message says what differs.
    """
    place = os.fspath(place)
    if place.endswith(CHECKPOINTS):
        other = convert_quantizer(place, _stub(model.config.feature_size), layer=1)
    else:
        try:
            other = BarkSemanticEncoderModel.from_pretrained(named_encoder(place))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"`head_from` is {place!r}; it must be 'centroids', a community quantizer ({', '.join(CHECKPOINTS)}), "
                f"or the folder, Hub id or name of an encoder. It could not be loaded: {error}"
            ) from error
    if _shapes(other.head) != _shapes(model.head) or other.config.head_type != model.config.head_type:
        differing = [
            f"{name}: {getattr(other.config, name)} there, {getattr(model.config, name)} here"
            for name in OF_THE_HEAD
            if getattr(other.config, name) != getattr(model.config, name)
        ]
        raise ValueError(
            f"The head of {Path(place).name!r} doesn't fit this model ({'; '.join(differing)}). Set `model` to "
            "the same values, with a backbone of the same width."
        )
    model.head.load_state_dict(other.head.state_dict())
    taken = ["head"]
    front_ends = model.codec_front_end, other.codec_front_end
    same_output = model.config.codec_output == other.config.codec_output
    if None not in front_ends and same_output and _shapes(front_ends[0]) == _shapes(front_ends[1]):
        model.codec_front_end.load_state_dict(other.codec_front_end.state_dict())
        taken.append("codec_front_end")
    return taken


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _stub(width: int) -> HubertModel:
    """A minimal HubertModel with the width of the features, because only the head is needed."""
    return HubertModel(
        HubertConfig(
            hidden_size=width,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=1,
            conv_dim=(1,) * 7,
            num_conv_pos_embeddings=2,
            num_conv_pos_embedding_groups=1,
        )
    )
