"""Detection of a checkpoint's format.

detect_format    the format, from the names in the file
open_archive     open a `torch.save` file of one format
"""

import os
import re
import struct
from pathlib import Path
from typing import Literal

from .archive import TorchArchive
from .checkpoint import CheckpointError, check_file, error_about, some, why_no_fairseq

CheckpointFormat = Literal["quantizer", "autoregressive", "encodec", "whisper-ctranslate2"]
FORMATS = {
    "quantizer": ("a community quantizer (.pth)", "convert_quantizer"),
    "autoregressive": ("an autoregressive encoder (.pt)", "convert_autoregressive"),
    "encodec": ("an EnCodec 24 kHz checkpoint (.th)", "convert_encodec"),
    "whisper-ctranslate2": ("a Whisper model in CTranslate2 format (model.bin)", "convert_whisper_ctranslate2"),
}
CTRANSLATE2_VERSION = 6  # OpenNMT/CTranslate2, python/ctranslate2/specs/model_spec.py: CURRENT_BINARY_VERSION


def detect_format(path: str | os.PathLike) -> CheckpointFormat:
    """Detect the format of a checkpoint from the names in it, without unpickling and without reading weights.

    Args:
        path (`str` or `os.PathLike`): the file, or a folder with a `model.bin`.

    Returns:
        `str`: `"quantizer"`, `"autoregressive"`, `"encodec"` or `"whisper-ctranslate2"`.

    Raises:
        CheckpointError: the format is unknown, or the file is damaged or unsafe.
    """
    path, head = check_file(path)
    if head[:4] == b"PK\x03\x04":
        return _format_of_names(path, TorchArchive.open(path).words)
    if ctranslate2_spec(path, head) is not None:
        return "whisper-ctranslate2"
    known = ", ".join(description for description, _ in FORMATS.values())
    raise error_about(path, f"starts with {head[:8]!r}, so its format is unknown. Known formats: {known}.")


def open_archive(path: str | os.PathLike, wanted: CheckpointFormat) -> TorchArchive:
    """Open a `torch.save` file that must be of one format."""
    found = detect_format(path)
    if found != wanted:
        description, converter = FORMATS[found]
        raise error_about(
            path,
            f"is {description}, not {FORMATS[wanted][0]}. Use `{converter}`, or `convert`, which detects the format.",
        )
    return TorchArchive.open(Path(path))


def _format_of_names(path: Path, words: frozenset[str]) -> CheckpointFormat:
    if {"lstm.weight_ih_l0", "fc.weight"} <= words:
        return "quantizer"
    if {"decoder_embedding.weight", "pos_embedding"} <= words:
        return "autoregressive"
    if {"encoder.model.0.conv.conv.weight_g", "quantizer.vq.layers.0._codebook.embed"} <= words:
        return "encodec"
    if "feature_extractor.conv_layers.0.0.weight" in words:
        raise CheckpointError(why_no_fairseq(path))
    known = ", ".join(description for description, _ in FORMATS.values())
    names = sorted(word for word in words if "." in word)
    raise error_about(path, f"is a PyTorch file of an unknown format; it names {some(names)}. Known formats: {known}.")


def ctranslate2_spec(path: Path, head: bytes) -> str | None:
    """The model's name in a CTranslate2 file; `None` for another kind of file.

    Raises:
        CheckpointError: it is not a Whisper model, or has another version.
    """
    if len(head) < 8:
        return None
    version, length = struct.unpack_from("<IH", head)
    name = head[6 : 6 + length]
    if not 1 <= version <= 255 or not re.fullmatch(rb"\w+Spec\0", name):
        return None
    name = name[:-1].decode()
    if name != "WhisperSpec":
        raise error_about(
            path,
            f"is the CTranslate2 file of a {name}; only a WhisperSpec has a speech encoder. Name a Whisper model's "
            "folder.",
        )
    if version != CTRANSLATE2_VERSION:
        raise error_about(
            path,
            f"is a CTranslate2 file of version {version}; version {CTRANSLATE2_VERSION} is known. Convert Whisper "
            "again with `ct2-transformers-converter` of CTranslate2 3 or 4.",
        )
    return name


__all__ = ["CheckpointFormat", "ctranslate2_spec", "detect_format", "open_archive"]
