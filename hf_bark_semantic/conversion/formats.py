"""Other people's checkpoints as Transformers models, read without ever running what a pickle asks for.

    convert                        any of them -> a folder of safetensors, config and processor
    detect_format                  which of them a file is
    convert_quantizer              community `.pth` on HuBERT's features (gitmylo)      -> BarkSemanticEncoderModel
    convert_autoregressive         `.pt` with its own HuBERT (huynhnhathao)             -> BarkSemanticEncoderModel
    convert_encodec                EnCodec 24 kHz `.th` (facebookresearch/encodec)      -> transformers' EncodecModel
    convert_whisper_ctranslate2    `model.bin` of faster-whisper                        -> transformers' WhisperModel

A checkpoint is foreign: what it declares is compared with what it must be and with the size of its file before memory
is taken for it. Whatever cannot be converted to the last weight is refused with a `CheckpointError`.
"""

import json
import logging
import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoConfig,
    EncodecConfig,
    EncodecFeatureExtractor,
    EncodecModel,
    HubertConfig,
    HubertModel,
    PretrainedConfig,
    PreTrainedModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from ..configuration_bark_semantic import SEMANTIC_VOCAB_SIZE, BarkSemanticEncoderConfig
from ..files import foreign_content
from ..heads_bark_semantic import AutoregressiveHead
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from ..processing_bark_semantic import BarkSemanticEncoderProcessor

logger = logging.getLogger(__name__)

CheckpointFormat = Literal["quantizer", "autoregressive", "encodec", "whisper-ctranslate2"]
FORMATS = {
    "quantizer": ("a community quantizer (.pth)", "convert_quantizer"),
    "autoregressive": ("an autoregressive encoder (.pt)", "convert_autoregressive"),
    "encodec": ("an EnCodec 24 kHz checkpoint (.th)", "convert_encodec"),
    "whisper-ctranslate2": ("a Whisper model in CTranslate2 format (model.bin)", "convert_whisper_ctranslate2"),
}
HUBERT_BASE = "facebook/hubert-base-ls960"  # what the community's quantizers were trained on
HUBERT_OF_FAIRSEQ = {  # published by the same authors, the same weights
    "hubert_base_ls960.pt": "facebook/hubert-base-ls960",
    "hubert_large_ll60k.pt": "facebook/hubert-large-ll60k",
    "hubert_xtralarge_ll60k.pt": "facebook/hubert-xlarge-ll60k",
}

QUANTIZER_VERSIONS = (0, 1)
QUANTIZER_SIZES = {"input_size": 768, "hidden_size": 1_024, "output_size": SEMANTIC_VOCAB_SIZE, "version": 0}
AUTOREGRESSIVE_LAYER = 11  # github.com/huynhnhathao: hidden_states[11] of HuBERT-base
AUTOREGRESSIVE_HEADS = 8
AUTOREGRESSIVE_SPECIAL_TOKENS = 3  # start, end and padding follow the vocabulary

LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.serialization.MAGIC_NUMBER, pickled
LEGACY_HEAD_BYTES = 4 * 2**20  # a legacy file starts with its pickle, which names the weights
MAX_PICKLE_BYTES = 16 * 2**20  # the names of ten thousand tensors take 2 MB
MAX_INFO_BYTES = 4_096
MAX_WIDTH = 2**16  # of any layer; the widest here has 10,003
MAX_LAYERS = 128
STATE_DICT_GLOBALS = {  # all that the pickle of a state dict asks for, next to torch's storage types
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
}
FLOAT_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

CTRANSLATE2_VERSION = 6  # OpenNMT/CTranslate2, python/ctranslate2/specs/model_spec.py: CURRENT_BINARY_VERSION
CTRANSLATE2_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2", 5: "<u2"}  # include/ctranslate2/types.h
CTRANSLATE2_BFLOAT16 = 5
CTRANSLATE2_MAX_RANK = 5
CTRANSLATE2_MAX_GROWTH = 8  # int8 to float32 is 4; equal biases are stored once


class CheckpointError(ValueError):
    """The checkpoint cannot be converted; the message says what it is, what it must be, and what to do."""


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


def detect_format(path: str | os.PathLike) -> CheckpointFormat:
    """Tell which format a checkpoint has, from the names in it; nothing is unpickled and no weight is read.

    Args:
        path (`str` or `os.PathLike`): the file, or a folder with a `model.bin`.

    Returns:
        `str`: `"quantizer"`, `"autoregressive"`, `"encodec"` or `"whisper-ctranslate2"`.

    Raises:
        CheckpointError: it is none of them, damaged or unsafe.
    """
    path, head = _check_file(path)
    if head[:4] == b"PK\x03\x04":
        return _format_of_names(path, TorchArchive.open(path).words)
    if _ctranslate2_spec(path, head) is not None:
        return "whisper-ctranslate2"
    known = ", ".join(description for description, _ in FORMATS.values())
    raise _error_about(path, f"starts with {head[:8]!r}, which no known format does. What can be converted: {known}.")


def convert_quantizer(
    path: str | os.PathLike, backbone: str | os.PathLike | PreTrainedModel, *, layer: int = 9
) -> BarkSemanticEncoderModel:
    """A community quantizer (github.com/gitmylo, version 0 or 1) and the HuBERT it reads, as one encoder.

    Version 1 has a second linear layer without an activation in between; it is folded into the last one. The original
    reads a whole clip frame by frame; ours reads the frame of each token, which is the same frame in the
    first 4.99 s and one frame in 500 less after that.

    Args:
        path (`str` or `os.PathLike`): the `.pth` file.
        backbone (`str`, `os.PathLike` or `PreTrainedModel`): Hub id, folder or loaded model of the HuBERT that it was
            trained on, mostly `"facebook/hubert-base-ls960"`.
        layer (`int`): index into HuBERT's `hidden_states`, which is fairseq's layer number; 9 in all public ones.

    Raises:
        CheckpointError: the file is no intact quantizer, or its input is not as wide as the backbone's output.
    """
    archive = _open_archive(path, "quantizer")
    sizes = _quantizer_sizes(archive)
    shapes = archive.shapes()
    num_layers = _count_layers(archive.path, shapes, r"lstm\.weight_ih_l(\d+)")
    intermediate_size = _size(archive.path, shapes, "intermediate.weight", 0) if sizes["version"] else 0
    _check_shapes(archive.path, shapes, _quantizer_shapes(sizes, num_layers, intermediate_size))
    weights = archive.weights()
    model = BarkSemanticEncoderModel.from_backbone(
        _load_hubert(backbone, sizes["input_size"]),
        backbone_layers=[layer],
        head_type="recurrent",
        hidden_size=sizes["hidden_size"],
        num_hidden_layers=num_layers,
        intermediate_size=0,
        vocab_size=sizes["output_size"],
    )
    if intermediate_size:
        weights = fold_intermediate(weights)
    model.head.load_state_dict({re.sub(r"^fc\.", "output.", name): weight for name, weight in weights.items()})
    return model.eval()


def fold_intermediate(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Two linear layers with nothing in between are one: 61 M parameters become 26 M, and the answers stay."""
    folded = {name: weight for name, weight in weights.items() if not name.startswith(("intermediate.", "fc."))}
    outer = weights["fc.weight"].double()
    folded["fc.weight"] = (outer @ weights["intermediate.weight"].double()).float()
    folded["fc.bias"] = (outer @ weights["intermediate.bias"].double() + weights["fc.bias"].double()).float()
    return folded


def convert_autoregressive(
    path: str | os.PathLike, backbone: str | os.PathLike | PreTrainedModel | PretrainedConfig | None = None
) -> BarkSemanticEncoderModel:
    """An encoder with a decoder that reads its own tokens (github.com/huynhnhathao), its HuBERT included.

    The original samples until it draws its end token; ours is greedy and makes as many tokens as the audio has.

    Args:
        path (`str` or `os.PathLike`): the `.pt` file.
        backbone (`str`, `os.PathLike`, `PreTrainedModel` or `PretrainedConfig`, *optional*): whose architecture the
            HuBERT in the file has. Its weights come from the file. None: HuBERT-base.

    Raises:
        CheckpointError: the file is no intact checkpoint of that kind.
    """
    archive = _open_archive(path, "autoregressive")
    shapes = archive.shapes(_autoregressive_name)
    hubert_config = _hubert_config(backbone)
    vocab_size = _size(archive.path, shapes, "head.fc.weight", 0) - AUTOREGRESSIVE_SPECIAL_TOKENS
    if not 1 <= vocab_size <= SEMANTIC_VOCAB_SIZE:
        raise _error_about(
            archive.path,
            f"predicts {vocab_size} tokens next to its start, end and padding; Bark has {SEMANTIC_VOCAB_SIZE:,}. It "
            "was trained for something else.",
        )
    head = {
        "head_type": "autoregressive",
        "hidden_size": _size(archive.path, shapes, "head.decoder_embedding.weight", 1),
        "num_hidden_layers": _count_layers(archive.path, shapes, r"head\.decoder\.layers\.(\d+)\.linear1\.weight"),
        "num_attention_heads": AUTOREGRESSIVE_HEADS,
        "intermediate_size": _size(archive.path, shapes, "head.decoder.layers.0.linear1.weight", 0),
        "vocab_size": vocab_size,
    }
    if head["hidden_size"] != hubert_config.hidden_size or head["hidden_size"] % AUTOREGRESSIVE_HEADS:
        raise _error_about(
            archive.path,
            f"has a decoder {head['hidden_size']} wide; it must be as wide as its HuBERT "
            f"({hubert_config.hidden_size}), and a multiple of {AUTOREGRESSIVE_HEADS}. If its HuBERT is another "
            "than the base model, name that with `backbone`.",
        )
    if hubert_config.num_hidden_layers < AUTOREGRESSIVE_LAYER:
        raise CheckpointError(
            f"The HuBERT that `backbone` describes has {hubert_config.num_hidden_layers} layers; this format reads "
            f"layer {AUTOREGRESSIVE_LAYER}. Leave `backbone` out for HuBERT-base."
        )
    config = BarkSemanticEncoderConfig(backbone_config=hubert_config, backbone_layers=[AUTOREGRESSIVE_LAYER], **head)
    with torch.device("meta"):
        whole = nn.ModuleDict({"hubert": HubertModel(hubert_config), "head": AutoregressiveHead(config)})
    _check_shapes(archive.path, shapes, _shapes_of(whole))
    weights = archive.weights(_autoregressive_name)
    hubert = HubertModel(hubert_config)
    hubert.load_state_dict(_below("hubert.", weights))
    model = BarkSemanticEncoderModel.from_backbone(hubert, backbone_layers=[AUTOREGRESSIVE_LAYER], **head)
    model.head.load_state_dict(_below("head.", weights))
    return model.eval()


def convert_encodec(path: str | os.PathLike, *, config: EncodecConfig | None = None) -> EncodecModel:
    """The original EnCodec checkpoint (facebookresearch/encodec, `encodec_24khz-*.th`) as an `EncodecModel`.

    Args:
        path (`str` or `os.PathLike`): the `.th` file, a state dict of the `encodec` package's 24 kHz model.
        config (`EncodecConfig`, *optional*): of a model that was trained with other sizes. None: the 24 kHz model.

    Raises:
        CheckpointError: the file is no intact checkpoint of that model.
    """
    archive = _open_archive(path, "encodec")
    config = EncodecConfig() if config is None else config
    with torch.device("meta"):
        expected = _shapes_of(EncodecModel(config))
    _check_shapes(archive.path, archive.shapes(_encodec_name), expected)
    weights = archive.weights(_encodec_name)
    model = EncodecModel(config)
    model.load_state_dict(weights)
    return model.eval()


def convert_whisper_ctranslate2(path: str | os.PathLike) -> WhisperModel:
    """The encoder of a Whisper model in CTranslate2 format, to be a backbone: `from_backbone(model)`.

    The decoder has no layers and one token, so that the model loads by `AutoModel.from_pretrained`; it cannot
    transcribe. Float weights are taken as they are; int8 weights are multiplied out by their scales.

    Args:
        path (`str` or `os.PathLike`): `model.bin`, or its folder.

    Raises:
        CheckpointError: the file is cut off, damaged, of another version or of another model.
    """
    path, head = _check_file(path)
    if _ctranslate2_spec(path, head) is None:
        raise _error_about(
            path,
            f"is no CTranslate2 model: it does not start with version {CTRANSLATE2_VERSION} and a model name. "
            "`detect_format` tells what it is.",
        )
    stored = _below("encoder/", _read_ctranslate2(path))
    sizes = {name: values.shape for name, values in stored.items() if name != "num_heads"}
    num_layers = _count_layers(path, sizes, r"layer_(\d+)/ffn/linear_0/weight")
    width = _size(path, sizes, "conv1/weight", 0)
    num_heads = _ctranslate2_heads(path, stored.pop("num_heads", None), width)
    config = WhisperConfig(
        d_model=width,
        encoder_layers=num_layers,
        encoder_attention_heads=num_heads,
        encoder_ffn_dim=_size(path, sizes, "layer_0/ffn/linear_0/weight", 0),
        num_mel_bins=_size(path, sizes, "conv1/weight", 1),
        max_source_positions=_size(path, sizes, "position_encodings/encodings", 0),
        **_empty_decoder(num_heads),
    )
    sizes = {name: shape for name, shape in sizes.items() if not name.endswith("/weight_scale")}
    _check_shapes(path, sizes, _ctranslate2_shapes(config))
    _check_growth(path, sizes)
    weights = _ctranslate2_floats(path, stored)
    with torch.device("meta"):
        decoder = _shapes_of(WhisperModel(config).decoder)
    state = {f"encoder.{name}": weight for name, weight in _whisper_names(weights, num_layers).items()}
    _check_finite(path, state)
    state |= {f"decoder.{name}": torch.zeros(shape) for name, shape in decoder.items()}
    model = WhisperModel(config)
    model.load_state_dict(state)
    return model.eval()


def _error_about(path: Path, text: str) -> CheckpointError:
    return CheckpointError(f"{str(path)!r} {text}")


def _check_output_dir(folder: Path, overwrite: bool):
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Cannot write to {str(folder)!r}: it is a file. Name a folder.")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"The folder {str(folder)!r} is not empty. Name another one, or pass `overwrite=True`.")


def _check_file(path: str | os.PathLike) -> tuple[Path, bytes]:
    """The file and its first 512 bytes, once it may be a checkpoint by them."""
    path = Path(path)
    if "\0" in str(path):
        raise _error_about(path, "has a zero byte, which no path can have. Check where it comes from.")
    if path.is_dir() and (path / "model.bin").is_file():
        path = path / "model.bin"
    if path.is_dir():
        raise _error_about(path, "is a folder without a `model.bin`. Name the checkpoint's file.")
    if not path.exists():
        raise CheckpointError(f"No such file: {str(path)!r}. Check the path, or download the checkpoint first.")
    if not path.is_file():
        raise _error_about(path, "is a device or a pipe, not a file. Copy the checkpoint to a file.")
    with open(path, "rb") as file:
        head = file.read(512)
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        raise CheckpointError(_why_no_pickle(path))
    problem = foreign_content(head)
    if problem is not None:
        raise _error_about(path, f"is no checkpoint: {problem}.")
    return path, head


def _why_no_pickle(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(LEGACY_HEAD_BYTES)
    if b"feature_extractor.conv_layers.0.0.weight" in head:
        return _why_no_fairseq(path)
    if head.startswith(LEGACY_TORCH_MAGIC):
        return (
            f"{str(path)!r} was written in PyTorch's format from before version 1.6, whose sizes cannot be checked "
            "before it is loaded. Save it anew: `torch.save(torch.load(old, weights_only=True), new)`."
        )
    return (
        f"{str(path)!r} is a Python pickle, which is never opened because it can run code. Ask its author for a "
        "state dict saved by `torch.save`."
    )


def _why_no_fairseq(path: Path) -> str:
    same = ", ".join(f"{file} -> {repo}" for file, repo in HUBERT_OF_FAIRSEQ.items())
    return (
        f"{str(path)!r} is a HuBERT checkpoint of fairseq, which needs no conversion: the same weights are on the "
        f"Hub. Give the `backbone` by its id: {same}."
    )


def _format_of_names(path: Path, words: frozenset[str]) -> CheckpointFormat:
    if {"lstm.weight_ih_l0", "fc.weight"} <= words:
        return "quantizer"
    if {"decoder_embedding.weight", "pos_embedding"} <= words:
        return "autoregressive"
    if {"encoder.model.0.conv.conv.weight_g", "quantizer.vq.layers.0._codebook.embed"} <= words:
        return "encodec"
    if "feature_extractor.conv_layers.0.0.weight" in words:
        raise CheckpointError(_why_no_fairseq(path))
    known = ", ".join(description for description, _ in FORMATS.values())
    names = sorted(word for word in words if "." in word)
    raise _error_about(
        path, f"is a PyTorch file, but of no known format; it names {_some(names)}. What can be converted: {known}."
    )


def _open_archive(path: str | os.PathLike, wanted: CheckpointFormat) -> "TorchArchive":
    found = detect_format(path)
    if found != wanted:
        description, converter = FORMATS[found]
        raise _error_about(
            path, f"is {description}, not {FORMATS[wanted][0]}. Use `{converter}`, or `convert`, which finds out."
        )
    return TorchArchive.open(Path(path))


@dataclass(frozen=True)
class TorchArchive:
    """A `torch.save` file that holds a state dict and nothing that could run.

    Args:
        path (`Path`): the file.
        words (`frozenset[str]`): every string in its pickle, the names of the weights among them.
        info (`bytes`, *optional*): the record that gitmylo's program appends.
    """

    path: Path
    words: frozenset[str]
    info: bytes | None

    @classmethod
    def open(cls, path: Path) -> "TorchArchive":
        """Check the zip archive and the pickle's imports, without unpickling."""
        try:
            with zipfile.ZipFile(path) as archive:
                records = archive.infolist()
                _check_records(path, records)
                pickled = archive.read(_only_record(path, records, "/data.pkl", MAX_PICKLE_BYTES))
                infos = [record for record in records if record.filename.endswith("/.info")]
                info = archive.read(_only_record(path, infos, "/.info", MAX_INFO_BYTES)) if infos else None
        except CheckpointError:
            raise
        except Exception as error:  # zipfile raises a dozen kinds where bytes are flipped
            raise _error_about(
                path, f"is a damaged zip archive ({error}). The download was cut off; repeat it."
            ) from error
        return cls(path, _check_pickle(path, pickled), info)

    def shapes(self, rename: Callable[[str], str] = str) -> dict[str, tuple[int, ...]]:
        """The shape of every weight by its new name, as the pickle declares it; no memory is taken for the values."""
        tensors = self._load("meta")
        for name, tensor in tensors.items():
            if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or tensor.dtype not in FLOAT_DTYPES:
                kind = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
                raise _error_about(
                    self.path,
                    f"has {_short(name)} of type {kind} among its weights, which must be floating-point tensors. "
                    "Save the model's `state_dict()` alone.",
                )
        declared, held = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values()), self.path.stat().st_size
        if declared > held:
            raise _error_about(
                self.path,
                f"declares weights of {declared:,} bytes, but the file has {held:,}. It is damaged, or made to "
                "exhaust memory; get it from its author.",
            )
        shapes = {rename(name): tuple(tensor.shape) for name, tensor in tensors.items()}
        if len(shapes) < len(tensors):
            raise _error_about(
                self.path, "has weights under their old and their new names at once. Get it from its author again."
            )
        return shapes

    def weights(self, rename: Callable[[str], str] = str) -> dict[str, torch.Tensor]:
        """The weights in float32, mapped from the file where they have that type already. Call `shapes` first."""
        tensors = {name: tensor.detach() for name, tensor in self._load("cpu").items()}
        others = sorted({str(tensor.dtype) for tensor in tensors.values()} - {"torch.float32"})
        if others:
            logger.warning("%s holds weights of type %s; they are converted to float32.", self.path, ", ".join(others))
        tensors = {rename(name): tensor.float() for name, tensor in tensors.items()}
        _check_finite(self.path, tensors)
        return tensors

    def _load(self, device: str) -> dict[str, torch.Tensor]:
        try:
            content = torch.load(os.fspath(self.path), map_location=device, weights_only=True, mmap=device != "meta")
        except Exception as error:  # whatever a damaged pickle makes of torch's unpickler
            reason = re.split(r"\n|\. ", str(error))[0][:200]  # torch explains at length
            raise _error_about(
                self.path,
                f"cannot be read as weights alone ({type(error).__name__}: {reason}). Get it from its author again.",
            ) from error
        if isinstance(content, dict) and isinstance(content.get("model_state_dict"), dict):
            content = content["model_state_dict"]
        if not isinstance(content, dict):
            raise _error_about(
                self.path, f"holds a {type(content).__name__}; it must be a dict of weights, `model.state_dict()`."
            )
        return content


def _check_records(path: Path, records: list[zipfile.ZipInfo]):
    names = [record.filename for record in records]
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        raise _error_about(path, "is a TorchScript program, not weights. Save the model's `state_dict()`.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _error_about(path, f"has two records {_short(twice)}; torch writes one. Get it again.")
    if any(record.flag_bits & 1 for record in records):
        raise _error_about(path, "is an encrypted zip archive. Save it without a password.")
    if any(
        record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size for record in records
    ):
        raise _error_about(
            path, "is a compressed zip archive, which torch never writes. If it wraps a checkpoint, unpack that."
        )
    declared, held = sum(record.file_size for record in records), path.stat().st_size
    if declared > held:
        raise _error_about(
            path, f"declares records of {declared:,} bytes, but the file has {held:,}. It is damaged; get it again."
        )


def _only_record(path: Path, records: list[zipfile.ZipInfo], ending: str, most: int) -> zipfile.ZipInfo:
    found = [record for record in records if record.filename.endswith(ending)]
    if len(found) != 1:
        raise _error_about(
            path,
            f"has {len(found)} records named `*{ending}`; a file of `torch.save` has one. If it wraps a checkpoint, "
            "unpack that.",
        )
    if found[0].file_size > most:
        raise _error_about(
            path,
            f"has {found[0].file_size:,} bytes in {_short(found[0].filename)}; at most {most:,} are sensible. Save "
            "the model's `state_dict()` alone.",
        )
    return found[0]


def _check_pickle(path: Path, pickled: bytes) -> frozenset[str]:
    """The strings of a pickle that imports nothing but what weights need; its operations are listed, not run."""
    strings, imports = [], []
    try:
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name in ("GLOBAL", "INST"):
                imports.append(argument.replace(" ", "."))
            elif operation.name == "STACK_GLOBAL":
                imports.append(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except Exception as error:  # pickletools raises whatever the bytes lead it to
        raise _error_about(path, f"has a damaged pickle ({error}). Get it from its author again.") from error
    unsafe = sorted({name for name in imports if not _is_safe(name)})
    if unsafe:
        raise _error_about(
            path,
            f"asks Python to import {_some(unsafe)}, which can run code, so it was not opened; weights need no such "
            "import. If it is the settings class of a training program that you trust, save the weights anew where "
            "that program is installed, and convert the new file: `with torch.serialization.safe_globals([TheClass]): "
            "content = torch.load(old, weights_only=True)`, then `torch.save(content['model_state_dict'], new)`. "
            "Never allow a function.",
        )
    return frozenset(strings)


def _is_safe(name: str) -> bool:
    return name in STATE_DICT_GLOBALS or re.fullmatch(r"torch(\.storage)?\.\w+Storage", name) is not None


def _quantizer_sizes(archive: TorchArchive) -> dict[str, int]:
    """Sizes and version of a quantizer from its `.info` record; a file without one is of version 0."""
    if archive.info is None:
        return dict(QUANTIZER_SIZES)
    try:
        info = json.loads(archive.info)
    except (ValueError, RecursionError) as error:
        raise _error_about(
            archive.path, f"has an `.info` record that is no JSON ({error}). Get the file from its author again."
        ) from error
    if not isinstance(info, dict):
        raise _error_about(
            archive.path,
            f"has a JSON {type(info).__name__} as its `.info`; it must be an object with "
            f"{', '.join(QUANTIZER_SIZES)}.",
        )
    for name in QUANTIZER_SIZES:
        least, most = (0, max(QUANTIZER_VERSIONS)) if name == "version" else (1, MAX_WIDTH)
        most = SEMANTIC_VOCAB_SIZE if name == "output_size" else most
        value = info.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _error_about(
                archive.path,
                f"says {name} = {_short(value)} in its `.info`; it must be a whole number from {least} to {most}. "
                "Other files than these are not known; get it from its author again.",
            )
    return {name: info[name] for name in QUANTIZER_SIZES}


def _quantizer_shapes(sizes: Mapping[str, int], num_layers: int, intermediate_size: int) -> dict[str, tuple[int, ...]]:
    width = sizes["hidden_size"]
    shapes = {}
    for layer in range(num_layers):
        shapes[f"lstm.weight_ih_l{layer}"] = (4 * width, width if layer else sizes["input_size"])
        shapes[f"lstm.weight_hh_l{layer}"] = (4 * width, width)
        shapes[f"lstm.bias_ih_l{layer}"] = shapes[f"lstm.bias_hh_l{layer}"] = (4 * width,)
    if intermediate_size:
        shapes["intermediate.weight"], shapes["intermediate.bias"] = (intermediate_size, width), (intermediate_size,)
    shapes["fc.weight"] = (sizes["output_size"], intermediate_size or width)
    shapes["fc.bias"] = (sizes["output_size"],)
    return shapes


def _load_hubert(backbone: str | os.PathLike | PreTrainedModel, width: int) -> PreTrainedModel:
    """HuBERT with all its layers, from a Hub id, a folder or as it is."""
    config = _hubert_config(backbone)
    if config.hidden_size != width:
        raise CheckpointError(
            f"The quantizer reads features {width} wide, but the `backbone` makes {config.hidden_size}. Name the "
            f"HuBERT that it was trained on, mostly {HUBERT_BASE!r}."
            f"HuBERT that it was trained on, mostly {HUBERT_BASE!r}."
        )
    return backbone if isinstance(backbone, PreTrainedModel) else HubertModel.from_pretrained(os.fspath(backbone))


def _hubert_config(backbone: str | os.PathLike | PreTrainedModel | PretrainedConfig | None) -> HubertConfig:
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
            f"it was trained on, mostly {HUBERT_BASE!r}."
            f"it was trained on, mostly {HUBERT_BASE!r}."
        )
    return config


def _autoregressive_name(name: str) -> str:
    """`hubert.model.*` -> `hubert.*` as transformers names it today, all others -> `head.*`."""
    if not name.startswith("hubert.model."):
        return f"head.{name}"
    name = name.replace("hubert.model.", "hubert.", 1)
    if ".pos_conv_embed." in name:  # torch renamed its weight norm
        name = re.sub(r"\.weight_g$", ".parametrizations.weight.original0", name)
        name = re.sub(r"\.weight_v$", ".parametrizations.weight.original1", name)
    return name


def _encodec_name(name: str) -> str:
    """The `encodec` package's names of convolutions, weight norms and codebooks -> transformers'."""
    name = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
    name = re.sub(r"\.(conv|convtr)\.\1\.", ".conv.", name)
    name = re.sub(r"\.weight_g$", ".parametrizations.weight.original0", name)
    name = re.sub(r"\.weight_v$", ".parametrizations.weight.original1", name)
    return re.sub(r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook.", name)


def _ctranslate2_spec(path: Path, head: bytes) -> str | None:
    """The model's name in a CTranslate2 file that is a Whisper of the known version; None for another kind of file."""
    if len(head) < 8:
        return None
    version, length = struct.unpack_from("<IH", head)
    name = head[6 : 6 + length]
    if not 1 <= version <= 255 or not re.fullmatch(rb"\w+Spec\0", name):
        return None
    name = name[:-1].decode()
    if name != "WhisperSpec":
        raise _error_about(
            path,
            f"is the CTranslate2 file of a {name}; only a WhisperSpec has a speech encoder. Name a Whisper model's "
            "folder.",
        )
    if version != CTRANSLATE2_VERSION:
        raise _error_about(
            path,
            f"is a CTranslate2 file of version {version}; version {CTRANSLATE2_VERSION} is known. Convert Whisper "
            "again with `ct2-transformers-converter` of CTranslate2 3 or 4.",
        )
    return name


@dataclass
class _ByteReader:
    """Reads from the front of a mapped file, never behind its end."""

    path: Path
    content: np.ndarray = field(repr=False)
    offset: int = 0

    def take(self, num_bytes: int, what: str) -> np.ndarray:
        left = len(self.content) - self.offset
        if num_bytes > left:
            raise _error_about(
                self.path, f"is cut off: {what} takes {num_bytes:,} bytes, but {left:,} are left. Download it again."
            )
        self.offset += num_bytes
        return self.content[self.offset - num_bytes : self.offset]

    def number(self, kind: str, what: str) -> int:
        return struct.unpack("<" + kind, self.take(struct.calcsize(kind), what).tobytes())[0]

    def count(self, what: str, least_bytes: int) -> int:
        """The number of things that follow, each of `least_bytes` or more."""
        count = self.number("I", f"the number of {what}")
        if count > (len(self.content) - self.offset) // least_bytes:
            raise _error_about(
                self.path,
                f"is cut off or damaged: it declares {count:,} {what}, more than fit into the file. Download it "
                "again.",
            )
        return count

    def name(self) -> str:
        content = self.take(self.number("H", "the length of a name"), "a name").tobytes()
        try:
            return content.removesuffix(b"\0").decode("ascii")
        except UnicodeDecodeError as error:
            raise _error_about(self.path, f"is damaged: a name is {content[:20]!r}. Download it again.") from error


def _read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """Every variable of a CTranslate2 model by its name, still in the file."""
    reader = _ByteReader(path, np.memmap(path, np.uint8, mode="r"))
    reader.number("I", "the version")
    reader.name()
    reader.number("I", "the revision")
    variables = {}
    for _ in range(reader.count("variables", least_bytes=8)):
        name = reader.name()
        if name in variables:
            raise _error_about(path, f"is damaged: it has {_short(name)} twice. Download it again.")
        variables[name] = _read_variable(reader, name)
    for _ in range(reader.count("aliases", least_bytes=4)):  # equal variables are stored once
        alias, name = reader.name(), reader.name()
        if name not in variables or alias in variables:
            raise _error_about(
                path, f"is damaged: {_short(alias)} is to be the same as {_short(name)}. Download it again."
            )
        variables[alias] = variables[name]
    return variables


def _read_variable(reader: _ByteReader, name: str) -> np.ndarray:
    rank = reader.number("B", "a rank")
    if rank > CTRANSLATE2_MAX_RANK:
        raise _error_about(reader.path, f"is damaged: {_short(name)} has {rank} dimensions. Download it again.")
    shape = tuple(reader.number("I", "a dimension") for _ in range(rank))
    kind, num_bytes = reader.number("B", "a type"), reader.number("I", "a size")
    if kind not in CTRANSLATE2_DTYPES:
        raise _error_about(
            reader.path,
            f"has {_short(name)} of type {kind}; 0 to {max(CTRANSLATE2_DTYPES)} are known. Convert Whisper again "
            "with `--quantization float16`.",
        )
    dtype = np.dtype(CTRANSLATE2_DTYPES[kind])
    if prod(shape) * dtype.itemsize != num_bytes:
        raise _error_about(
            reader.path,
            f"is damaged: {_short(name)} of shape {shape} takes {prod(shape) * dtype.itemsize:,} bytes, not "
            f"{num_bytes:,}. Download it again.",
        )
    values = reader.take(num_bytes, name).view(dtype).reshape(shape)
    return (values.astype("<u4") << 16).view("<f4") if kind == CTRANSLATE2_BFLOAT16 else values


def _ctranslate2_heads(path: Path, stored: np.ndarray | None, width: int) -> int:
    """The attention heads that are stored, or those of 64 dimensions that all Whispers have."""
    if stored is not None and (stored.shape or stored.dtype.kind != "i"):
        raise _error_about(path, f"has `num_heads` of type {stored.dtype}, shape {stored.shape}. Download it again.")
    num_heads = width // 64 if stored is None else int(stored)
    if num_heads < 1 or width % num_heads:
        raise _error_about(
            path, f"has {num_heads} attention heads; they must divide the width of {width}. Download it again."
        )
    return num_heads


def _check_growth(path: Path, shapes: Mapping[str, tuple[int, ...]]):
    """Aliases store a weight once for many names, which a hostile file may turn into any size."""
    floats, held = 4 * sum(prod(shape) for shape in shapes.values()), path.stat().st_size
    if floats > CTRANSLATE2_MAX_GROWTH * held:
        raise _error_about(
            path,
            f"of {held:,} bytes declares weights of {floats:,} bytes; at most {CTRANSLATE2_MAX_GROWTH} times its "
            "size is sensible. It is made to exhaust memory; get it from its author.",
        )


def _ctranslate2_floats(path: Path, stored: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The weights in float32. CTranslate2 stores int8 weights times 127 over the largest of their row."""
    weights = {}
    for name, values in stored.items():
        if name.endswith("weight_scale"):
            continue
        scale = stored.get(f"{name}_scale")
        if values.dtype == np.int8 and scale is not None and values.ndim and scale.shape == values.shape[:1]:
            values = values.astype(np.float32) / scale.astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
        elif values.dtype.kind != "f" or scale is not None:
            raise _error_about(
                path,
                f"has {_short(name)} of type {values.dtype}, which is no float and has no scale for each row. "
                "Convert Whisper again with `--quantization float16`.",
            )
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def _ctranslate2_shapes(config: WhisperConfig) -> dict[str, tuple[int, ...]]:
    width, wide = config.d_model, config.encoder_ffn_dim
    shapes = {
        "conv1/weight": (width, config.num_mel_bins, 3),
        "conv1/bias": (width,),
        "conv2/weight": (width, width, 3),
        "conv2/bias": (width,),
        "position_encodings/encodings": (config.max_source_positions, width),
        "layer_norm/gamma": (width,),
        "layer_norm/beta": (width,),
    }
    for layer in range(config.encoder_layers):
        for part in ("self_attention", "ffn"):
            shapes[f"layer_{layer}/{part}/layer_norm/gamma"] = (width,)
            shapes[f"layer_{layer}/{part}/layer_norm/beta"] = (width,)
        linears = {"self_attention/linear_0": (3 * width, width), "self_attention/linear_1": (width, width)}
        linears |= {"ffn/linear_0": (wide, width), "ffn/linear_1": (width, wide)}
        for name, shape in linears.items():
            shapes[f"layer_{layer}/{name}/weight"], shapes[f"layer_{layer}/{name}/bias"] = shape, shape[:1]
    return shapes


def _whisper_names(weights: Mapping[str, torch.Tensor], num_layers: int) -> dict[str, torch.Tensor]:
    """CTranslate2's names and stacked projections -> those of transformers' `WhisperEncoder`."""
    state = {"embed_positions.weight": weights["position_encodings/encodings"]}
    pairs = [(name, name, "weight") for name in ("conv1", "conv2")] + [("layer_norm", "layer_norm", "gamma")]
    for layer in range(num_layers):
        theirs, ours = f"layer_{layer}", f"layers.{layer}"
        pairs += [
            (f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm", "gamma"),
            (f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj", "weight"),
            (f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm", "gamma"),
            (f"{theirs}/ffn/linear_0", f"{ours}.fc1", "weight"),
            (f"{theirs}/ffn/linear_1", f"{ours}.fc2", "weight"),
        ]
        names = [f"{ours}.self_attn.{part}_proj" for part in "qkv"]
        parts = weights[f"{theirs}/self_attention/linear_0/weight"].chunk(3)
        state |= {f"{name}.weight": part for name, part in zip(names, parts, strict=True)}
        biases = weights[f"{theirs}/self_attention/linear_0/bias"].chunk(3)
        # The keys have none: it would add the same to every score of a query, which the softmax takes away again.
        state |= {f"{names[0]}.bias": biases[0], f"{names[2]}.bias": biases[2]}
    for theirs, ours, weight in pairs:
        state[f"{ours}.weight"] = weights[f"{theirs}/{weight}"]
        state[f"{ours}.bias"] = weights[f"{theirs}/{'beta' if weight == 'gamma' else 'bias'}"]
    return state


def _empty_decoder(num_heads: int) -> dict[str, Any]:
    """Fields of a `WhisperConfig` whose decoder is next to nothing."""
    tokens = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    sizes = {"decoder_layers": 0, "decoder_attention_heads": num_heads, "vocab_size": 1, "max_target_positions": 1}
    return sizes | dict.fromkeys(tokens, 0)


def _count_layers(path: Path, names: Iterable[str], pattern: str) -> int:
    """How many layers the names count, which must be 0, 1, 2 and so on."""
    found = {int(match[1]) for match in (re.fullmatch(pattern, name) for name in names) if match and len(match[1]) < 6}
    if not found or len(found) > MAX_LAYERS or found != set(range(len(found))):
        raise _error_about(
            path,
            f"has the layers {_some(sorted(found))} of `{pattern}`; they must count 0, 1, 2, … up to at most "
            f"{MAX_LAYERS - 1}. Get it from its author again.",
        )
    return len(found)


def _size(path: Path, shapes: Mapping[str, tuple[int, ...]], name: str, axis: int) -> int:
    """One dimension of a weight, once it is there and of a sensible size."""
    shape = shapes.get(name)
    if shape is None:
        raise _error_about(path, f"lacks {name}. It is not complete; get it from its author again.")
    if len(shape) <= axis or not 1 <= shape[axis] <= MAX_WIDTH:
        raise _error_about(
            path, f"has {name} of shape {_short(tuple(shape))}; dimension {axis} must be from 1 to {MAX_WIDTH:,}."
        )
    return shape[axis]


def _check_shapes(path: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]):
    """Refuse weights that are missing, left over or of another shape."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    wrong = [
        f"{name} is {tuple(found[name])}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    problems = [("lacks", missing), ("has unexpected", unexpected), ("has other shapes:", wrong)]
    if any(names for _, names in problems):
        text = "; ".join(f"{verb} {_some(names)}" for verb, names in problems if names)
        raise _error_about(
            path,
            f"{text}. All weights of the model that it declares must be there, and no others; get the file from its "
            "author again, or check that it is of the size and version you think.",
        )


def _check_finite(path: Path, weights: Mapping[str, torch.Tensor]):
    broken = [name for name, weight in weights.items() if not torch.isfinite(weight).all()]
    if broken:
        raise _error_about(
            path,
            f"holds NaN or infinity in {_some(broken)}: its training diverged, or its numbers do not fit into "
            "float32. Use an earlier checkpoint.",
        )


def _below(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in module.state_dict().items()}


def _some(names: list) -> str:
    """The first three of a list of names, and how many more there are."""
    shown = ", ".join(_short(name, quote=False) for name in names[:3]) or "nothing"
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _short(value: Any, quote: bool = True) -> str:
    text = repr(value) if quote or not isinstance(value, str) else value
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


__all__ = [
    "CheckpointError",
    "convert",
    "convert_autoregressive",
    "convert_encodec",
    "convert_quantizer",
    "convert_whisper_ctranslate2",
    "detect_format",
]
