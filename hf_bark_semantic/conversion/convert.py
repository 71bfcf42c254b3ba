"""Checkpoints of other programs as Transformers models.

    checkpoint       checks and errors of all formats
    archive          files of `torch.save`, read without running code
    formats          detection of the format
    quantizer        community `.pth` on HuBERT's features (gitmylo)      -> BarkSemanticEncoderModel
    community        community quantizers on the Hub, by name             -> a folder in the cache
    hub              downloads from the Hub, and their errors
    autoregressive   `.pt` with its own HuBERT (huynhnhathao)             -> BarkSemanticEncoderModel
    encodec          EnCodec 24 kHz `.th` (facebookresearch/encodec)      -> transformers' EncodecModel
    ctranslate2      `model.bin` of faster-whisper                        -> transformers' WhisperModel

[`convert`] converts each of them to a folder with safetensors, config and processor. If any weight cannot be
converted, it raises a `CheckpointError`.
"""

import os
from pathlib import Path

from transformers import (
    EncodecFeatureExtractor,
    PreTrainedModel,
    WhisperFeatureExtractor,
)

from ..processing_bark_semantic import BarkSemanticEncoderProcessor
from .autoregressive import convert_autoregressive
from .ctranslate2 import convert_whisper_ctranslate2
from .encodec import convert_encodec
from .formats import FORMATS, detect_format
from .hubert import HUBERT_BASE
from .quantizer import convert_quantizer


def convert(
    path: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    backbone: str | PreTrainedModel | None = None,
    layer: int = 9,
    overwrite: bool = False,
) -> Path:
    """Convert a checkpoint of any known format to a folder for `from_pretrained`.

    Encoders get a [`BarkSemanticEncoderProcessor`] without normalization, because they were trained on raw audio;
    other models get their feature extractor from transformers. A Whisper folder is a backbone for
    [`BarkSemanticEncoderModel.from_backbone`].

    Args:
        path (`str` or `os.PathLike`): the checkpoint, or the folder of a CTranslate2 model.
        output_dir (`str` or `os.PathLike`): the folder to write; nothing is written elsewhere.
        backbone (`str` or `PreTrainedModel`, *optional*): for a quantizer, its HuBERT, by default `HUBERT_BASE`; for
            an autoregressive encoder, see [`convert_autoregressive`].
        layer (`int`): for a quantizer, the layer of HuBERT that it reads; fairseq and transformers count alike.
        overwrite (`bool`): write into a folder that is not empty. Other files in it are kept.

    Returns:
        `Path`: `output_dir`.

    Raises:
        CheckpointError: the checkpoint is damaged, unsafe or of an unknown format.
        ValueError: the folder is not empty, or `backbone` was passed for a format without a backbone.
    """
    output_dir = Path(output_dir)
    _check_output_dir(output_dir, overwrite)
    name = detect_format(path)
    if backbone is not None and name in ("encodec", "whisper-ctranslate2"):
        raise ValueError(f"{str(path)!r} is {FORMATS[name][0]}, which needs no backbone. Omit `backbone`.")
    if name == "quantizer":
        model = convert_quantizer(path, HUBERT_BASE if backbone is None else backbone, layer=layer)
        processor = BarkSemanticEncoderProcessor()
    elif name == "autoregressive":
        model = convert_autoregressive(path, backbone)
        processor = BarkSemanticEncoderProcessor()
    elif name == "encodec":
        model = convert_encodec(path)
        processor = EncodecFeatureExtractor(sampling_rate=model.config.sampling_rate)
    else:
        model = convert_whisper_ctranslate2(path)
        processor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    output_dir.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    return output_dir


def _check_output_dir(folder: Path, overwrite: bool):
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Cannot write to {str(folder)!r}: it is a file. Name a folder.")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"The folder {str(folder)!r} is not empty. Name another one, or pass `overwrite=True`.")


__all__ = ["convert"]
