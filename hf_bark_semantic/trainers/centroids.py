"""Tokens as clusters: the mean feature of every token's frames, refined by k-means.

Bark's tokens are the ids of a k-means that nobody outside has seen. Starting from the means of labelled frames and
going on without labels keeps the ids: each cluster stays the token that it started as.
"""

from collections.abc import Iterable, Iterator

import torch

from ..corpus.rows import Clip
from ..trainers.encoder_batches import collate


@torch.no_grad()
def centroids_of_tokens(
    model, clips: Iterable[Clip], iterations: int = 0, label_weight: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centroids for `LinearHead.from_centroids`, in the space of the features that the head reads.

    Args:
        model ([`BarkSemanticEncoderModel`]): its features are used, not its head.
        clips (`Iterable[Clip]`): labelled audio, or codes where there is no audio.
        iterations (`int`): k-means iterations after the means. They need all features in memory; the means don't.
        label_weight (`float`): how much of the means of the labels stays in each iteration, so that clusters don't
            drift off their token; 0 is plain k-means.

    Returns:
        `(centroids, seen)`: `torch.FloatTensor` of shape `(vocab_size, feature_size)` and `torch.BoolTensor` of shape
        `(vocab_size,)`, False where no frame has the token. Their centroids are 0 and must not be used.
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
    """Mean of the features `(tokens, feature_size)` of each label, `(vocab_size, feature_size)`, and which occur."""
    counts = torch.bincount(labels, minlength=vocab_size)
    sums = torch.zeros(vocab_size, features.shape[1]).index_add_(0, labels, features)
    return sums / counts.clamp(min=1)[:, None], counts > 0


def nearest_centroid(features: torch.Tensor, centroids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Id of the nearest centroid that was seen, for each row of `features`."""
    ids = seen.nonzero()[:, 0]
    return ids[torch.cat([torch.cdist(part, centroids[ids]).argmin(-1) for part in features.split(4_096)])]
