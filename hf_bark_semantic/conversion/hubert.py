"""The HuBERT that a community encoder reads."""

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

HUBERT_BASE = "facebook/hubert-base-ls960"  # what the community's quantizers were trained on
MASK = "masked_spec_embed"  # read in training alone, so some checkpoints lack it


def load_hubert(backbone: str | os.PathLike | PreTrainedModel, width: int) -> PreTrainedModel:
    """Load a HuBERT with all its layers from a Hub id or a folder; a loaded model is returned as it is."""
    config = read_hubert_config(backbone)
    if config.hidden_size != width:
        raise CheckpointError(
            f"The quantizer reads features {width} wide, but the `backbone` makes {config.hidden_size}. Name the "
            f"HuBERT that it was trained on, mostly {HUBERT_BASE!r}."
        )
    return backbone if isinstance(backbone, PreTrainedModel) else whole_hubert(backbone)


def whole_hubert(place: str | os.PathLike, revision: str | None = None) -> HubertModel:
    """A HuBERT from a Hub id or a folder.

    Raises:
        CheckpointError: some of its weights are missing there.
        OSError: it cannot be loaded.
    """
    hubert, loading = HubertModel.from_pretrained(os.fspath(place), revision=revision, output_loading_info=True)
    missing = sorted(set(loading["missing_keys"]) - {MASK})
    if missing:
        raise CheckpointError(
            f"The `backbone` {str(place)!r} lacks {some(missing)}. Name the checkpoint of a whole HuBERT, such as "
            f"{HUBERT_BASE!r}."
        )
    return hubert


def read_hubert_config(backbone: str | os.PathLike | PreTrainedModel | PretrainedConfig | None) -> HubertConfig:
    if backbone is None:
        return HubertConfig()  # whose defaults are those of the base model
    if isinstance(backbone, (str, os.PathLike)):
        if os.path.isfile(backbone):
            detect_format(backbone)  # names the Hub id of a fairseq checkpoint
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
