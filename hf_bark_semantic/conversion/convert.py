"""Checkpoints of other programs as Transformers models.

    checkpoint       checks and errors that all formats share
    archive          files of `torch.save`, read without running what their pickle asks for
    formats          which format a file has
    quantizer        community `.pth` on HuBERT's features (gitmylo)      -> BarkSemanticEncoderModel
    community        those of them that have a name, from the Hub         -> a folder in the cache
    hub              files of the Hub, and why one is not there
    autoregressive   `.pt` with its own HuBERT (huynhnhathao)             -> BarkSemanticEncoderModel
    encodec          EnCodec 24 kHz `.th` (facebookresearch/encodec)      -> transformers' EncodecModel
    ctranslate2      `model.bin` of faster-whisper                        -> transformers' WhisperModel

[`convert`] turns any of them into a folder of safetensors, config and processor. Whatever cannot be converted to the
last weight is refused with a `CheckpointError`.
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
    """Convert a checkpoint of any known format into a folder for `from_pretrained`.

    Encoders get a [`BarkSemanticEncoderProcessor`] that does not normalize, because they were trained on raw audio;
    the others get their feature extractor of transformers. A Whisper folder is a backbone for
    [`BarkSemanticEncoderModel.from_backbone`].

    Args:
        path (`str` or `os.PathLike`): the checkpoint, or the folder of a CTranslate2 model.
        output_dir (`str` or `os.PathLike`): the folder to write, and the only place that is written to.
        backbone (`str` or `PreTrainedModel`, *optional*): of a quantizer: its HuBERT, `HUBERT_BASE` by default. Of an
            autoregressive encoder: see [`convert_autoregressive`].
        layer (`int`): of a quantizer: the layer of HuBERT that it reads, fairseq's and transformers' count.
        overwrite (`bool`): write into a folder that is not empty. Files of other names stay in it.

    Returns:
        `Path`: `output_dir`.

    Raises:
        CheckpointError: the checkpoint is damaged, unsafe or of no known format.
        ValueError: the folder is not empty, or `backbone` was given for a format that has no use for it.
    """
    output_dir = Path(output_dir)
    _check_output_dir(output_dir, overwrite)
    name = detect_format(path)
    if backbone is not None and name in ("encodec", "whisper-ctranslate2"):
        raise ValueError(f"{str(path)!r} is {FORMATS[name][0]}, which reads no backbone. Leave `backbone` out.")
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
