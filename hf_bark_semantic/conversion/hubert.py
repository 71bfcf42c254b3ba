"""Load the HuBERT of a community encoder."""

import os

from transformers import (
    AutoConfig,
    HubertConfig,
    HubertModel,
    PretrainedConfig,
    PreTrainedModel,
)

from .checkpoint import CheckpointError, some
from .formats import detect_format

HUBERT_BASE = "facebook/hubert-base-ls960"  # on which the community's quantizers were trained
MASK = "masked_spec_embed"  # used only in training, so some checkpoints lack it


def load_hubert(backbone: str | os.PathLike | PreTrainedModel, width: int) -> PreTrainedModel:
    """Load a HuBERT with all its layers from a Hub id or a folder; a loaded model is returned as it is."""
    config = read_hubert_config(backbone)
    if config.hidden_size != width:
        raise CheckpointError(
            f"The quantizer reads features of size {width}, but the `backbone` makes {config.hidden_size}. Name the "
            f"HuBERT that it was trained on, mostly {HUBERT_BASE!r}."
        )
    return backbone if isinstance(backbone, PreTrainedModel) else whole_hubert(backbone)


def whole_hubert(place: str | os.PathLike, revision: str | None = None) -> HubertModel:
    """Load a HuBERT from a Hub id or a folder, and check that no weights are missing.

    Raises:
        CheckpointError: weights are missing.
        OSError: it cannot be loaded.
    """
    hubert, loading = HubertModel.from_pretrained(os.fspath(place), revision=revision, output_loading_info=True)
    missing = sorted(set(loading["missing_keys"]) - {MASK})
    if missing:
        raise CheckpointError(
            f"The `backbone` {str(place)!r} lacks {some(missing)}. Name a complete checkpoint of HuBERT, such as "
            f"{HUBERT_BASE!r}."
        )
    return hubert


def read_hubert_config(backbone: str | os.PathLike | PreTrainedModel | PretrainedConfig | None) -> HubertConfig:
    if backbone is None:
        return HubertConfig()  # HuBERT-base
    if isinstance(backbone, (str, os.PathLike)):
        if os.path.isfile(backbone):
            detect_format(backbone)  # for a fairseq checkpoint, raises an error with its Hub id
            raise CheckpointError(f"The `backbone` {str(backbone)!r} is a file; it must be a Hub id or a folder.")
        backbone = AutoConfig.from_pretrained(os.fspath(backbone))
    config = backbone.config if isinstance(backbone, PreTrainedModel) else backbone
    if not isinstance(config, HubertConfig):
        kind = getattr(config, "model_type", type(config).__name__)
        raise CheckpointError(
            f"The `backbone` is a {kind} model, but these checkpoints read HuBERT's features. Name the HuBERT that "
            f"they were trained on, mostly {HUBERT_BASE!r}."
        )
    return config


__all__ = ["HUBERT_BASE", "load_hubert", "read_hubert_config", "whole_hubert"]
