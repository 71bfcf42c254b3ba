"""Tokens as clusters: the mean feature of every token's frames, refined by k-means.

Bark's tokens are the ids of a k-means that nobody outside has seen. Starting from the means of labelled frames and
going on without labels keeps the ids: each cluster stays the token that it started as.
"""

from collections.abc import Iterable

import torch

from .data import Clip, collate


@torch.no_grad()
def centroids_of_tokens(
    model, clips: Iterable[Clip], iterations: int = 0, label_weight: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centroids for `LinearHead.from_centroids`, in the space of the features that the head reads.

    Args:
        model ([`BarkSemanticEncoderModel`]): its features are used, not its head.
        clips (`Iterable[Clip]`): labelled audio (or codes, for an encoder without a backbone).
        iterations (`int`): k-means iterations after the means.
        label_weight (`float`): how much of the means of the labels stays in each iteration, so that clusters don't
            drift off their token; 0 is plain k-means.

    Returns:
        `(centroids, seen)`: `torch.FloatTensor` of shape `(vocab_size, feature_size)` and `torch.BoolTensor` of shape
        `(vocab_size,)`, False where no frame has the token. Their centroids are 0 and must not be used.
    """
    features, labels = token_features(model, clips)
    means, seen = token_means(features, labels, model.config.vocab_size)
    centroids = means
    for _ in range(iterations):
        nearest = nearest_centroid(features, centroids, seen)
        moved, hit = token_means(features, nearest, model.config.vocab_size)
        centroids = torch.where((seen & hit)[:, None], torch.lerp(moved, means, label_weight), centroids)
    return centroids, seen


@torch.no_grad()
def token_features(model, clips: Iterable[Clip]) -> tuple[torch.Tensor, torch.Tensor]:
    """The features of all tokens of all clips, `(tokens, feature_size)`, and their labels, `(tokens,)`."""
    was_training = model.training
    model.eval()
    features, labels = [], []
    for clip in clips:
        inputs = collate([clip], model.config.codebook_size)
        labels.append(inputs.pop("labels")[0])
        if model.backbone is not None:
            inputs = {name: inputs[name] for name in ("input_values", "attention_mask")}
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        features.append(model.features(**inputs)[0].float().cpu())
    model.train(was_training)
    return torch.cat(features), torch.cat(labels)


def token_means(features: torch.Tensor, labels: torch.Tensor, vocab_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the features `(tokens, feature_size)` of each label, `(vocab_size, feature_size)`, and which occur."""
    counts = torch.bincount(labels, minlength=vocab_size)
    sums = torch.zeros(vocab_size, features.shape[1]).index_add_(0, labels, features)
    return sums / counts.clamp(min=1)[:, None], counts > 0


def nearest_centroid(features: torch.Tensor, centroids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Id of the nearest centroid that was seen, for each row of `features`."""
    ids = seen.nonzero()[:, 0]
    return ids[torch.cat([torch.cdist(part, centroids[ids]).argmin(-1) for part in features.split(4_096)])]
