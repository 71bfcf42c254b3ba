"""A head to start from: that of another encoder, or of a community quantizer."""

import os
from pathlib import Path

from torch import nn
from transformers import HubertConfig, HubertModel

from ..conversion.formats import convert_quantizer
from ..modeling_bark_semantic import BarkSemanticEncoderModel

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


def take_over_head(model: BarkSemanticEncoderModel, place: str | os.PathLike) -> list[str]:
    """Give `model` the head of another encoder, and its codec front end where both have the same one.

    Args:
        model ([`BarkSemanticEncoderModel`]): its weights are replaced.
        place (`str` or `os.PathLike`): folder or Hub id of an encoder, or a community quantizer (.pth), which is read
            without running anything in it.

    Returns:
        `list[str]`: what was taken over: `head`, and maybe `codec_front_end`.

    Raises:
        ValueError: there is no such encoder, or its head has another shape; the message says what differs.
    """
    place = os.fspath(place)
    if place.endswith(CHECKPOINTS):
        other = convert_quantizer(place, _stub(model.config.feature_size), layer=1)
    else:
        try:
            other = BarkSemanticEncoderModel.from_pretrained(place)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"`head_from` is {place!r}; it must be 'centroids', a community quantizer ({', '.join(CHECKPOINTS)}), "
                f"or the folder or Hub id of an encoder. It could not be loaded: {error}"
            ) from error
    if _shapes(other.head) != _shapes(model.head) or other.config.head_type != model.config.head_type:
        differing = [
            f"{name}: {getattr(other.config, name)} there, {getattr(model.config, name)} here"
            for name in OF_THE_HEAD
            if getattr(other.config, name) != getattr(model.config, name)
        ]
        raise ValueError(
            f"The head of {Path(place).name!r} doesn't fit this model ({'; '.join(differing)}). Give `model` the "
            "values of the other one, and a backbone as wide."
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
    """A HubertModel that is as wide as the features, and nothing else: the head is what is wanted."""
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
