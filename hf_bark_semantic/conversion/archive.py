"""Files of `torch.save`, read without running code from their pickle.

Checkpoints are untrusted: declared shapes are checked, and compared with the file's size, before memory is allocated.
"""

import logging
import os
import pickletools
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from .checkpoint import CheckpointError, check_finite, error_about, short, some

logger = logging.getLogger(__name__)

MAX_PICKLE_BYTES = 16 * 2**20  # the names of ten thousand tensors take 2 MB
MAX_INFO_BYTES = 4_096
STATE_DICT_GLOBALS = {  # everything that the pickle of a state dict imports, besides torch's storage types
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
}
FLOAT_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class TorchArchive:
    """A `torch.save` file that contains a state dict and no code.

    Args:
        path (`Path`): the file.
        words (`frozenset[str]`): every string in its pickle, including the names of the weights.
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
        except Exception as error:  # zipfile raises many kinds of errors for damaged files
            raise error_about(
                path, f"is a damaged zip archive ({error}). The download is incomplete; repeat it."
            ) from error
        return cls(path, _check_pickle(path, pickled), info)

    def shapes(self, rename: Callable[[str], str] = str) -> dict[str, tuple[int, ...]]:
        """The declared shape of every weight, by its new name; no memory is allocated for the values."""
        tensors = self._load("meta")
        for name, tensor in tensors.items():
            if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or tensor.dtype not in FLOAT_DTYPES:
                kind = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
                raise error_about(
                    self.path,
                    f"has {short(name)} of type {kind} among its weights, which must be floating-point tensors. "
                    "Save the model's `state_dict()` alone.",
                )
        declared, held = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values()), self.path.stat().st_size
        if declared > held:
            raise error_about(
                self.path,
                f"declares weights of {declared:,} bytes, but the file has {held:,}. It is damaged, or made to "
                "exhaust memory; get it from its author.",
            )
        shapes = {rename(name): tuple(tensor.shape) for name, tensor in tensors.items()}
        if len(shapes) < len(tensors):
            raise error_about(
                self.path, "has weights under their old and their new names at once. Get it from its author again."
            )
        return shapes

    def weights(self, rename: Callable[[str], str] = str) -> dict[str, torch.Tensor]:
        """The weights in float32; those of that type are memory-mapped. Call `shapes` first."""
        tensors = {name: tensor.detach() for name, tensor in self._load("cpu").items()}
        others = sorted({str(tensor.dtype) for tensor in tensors.values()} - {"torch.float32"})
        if others:
            logger.warning("%s holds weights of type %s; they are converted to float32.", self.path, ", ".join(others))
        tensors = {rename(name): tensor.float() for name, tensor in tensors.items()}
        check_finite(self.path, tensors)
        return tensors

    def _load(self, device: str) -> dict[str, torch.Tensor]:
        try:
            content = torch.load(os.fspath(self.path), map_location=device, weights_only=True, mmap=device != "meta")
        except Exception as error:  # torch's unpickler raises many kinds of errors for damaged files
            reason = re.split(r"\n|\. ", str(error))[0][:200]  # torch's messages are long
            raise error_about(
                self.path,
                f"cannot be read as weights alone ({type(error).__name__}: {reason}). Get it from its author again.",
            ) from error
        if isinstance(content, dict) and isinstance(content.get("model_state_dict"), dict):
            content = content["model_state_dict"]
        if not isinstance(content, dict):
            raise error_about(
                self.path, f"holds a {type(content).__name__}; it must be a dict of weights, `model.state_dict()`."
            )
        return content


def _check_records(path: Path, records: list[zipfile.ZipInfo]):
    names = [record.filename for record in records]
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        raise error_about(path, "is a TorchScript program, not weights. Save the model's `state_dict()`.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise error_about(path, f"has two records {short(twice)}; torch writes one. Get it again.")
    if any(record.flag_bits & 1 for record in records):
        raise error_about(path, "is an encrypted zip archive. Save it without a password.")
    if any(
        record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size for record in records
    ):
        raise error_about(
            path, "is a compressed zip archive, which torch never writes. If it wraps a checkpoint, unpack that."
        )
    declared, held = sum(record.file_size for record in records), path.stat().st_size
    if declared > held:
        raise error_about(
            path, f"declares records of {declared:,} bytes, but the file has {held:,}. It is damaged; get it again."
        )


def _only_record(path: Path, records: list[zipfile.ZipInfo], ending: str, most: int) -> zipfile.ZipInfo:
    found = [record for record in records if record.filename.endswith(ending)]
    if len(found) != 1:
        raise error_about(
            path,
            f"has {len(found)} records named `*{ending}`; a file of `torch.save` has one. If it wraps a checkpoint, "
            "unpack that.",
        )
    if found[0].file_size > most:
        raise error_about(
            path,
            f"has {found[0].file_size:,} bytes in {short(found[0].filename)}; at most {most:,} are sensible. Save "
            "the model's `state_dict()` alone.",
        )
    return found[0]


def _check_pickle(path: Path, pickled: bytes) -> frozenset[str]:
    """Check that a pickle imports only what weights need, and return its strings, without unpickling."""
    strings, imports = [], []
    try:
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name in ("GLOBAL", "INST"):
                imports.append(argument.replace(" ", "."))
            elif operation.name == "STACK_GLOBAL":
                imports.append(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except Exception as error:  # pickletools raises many kinds of errors for damaged files
        raise error_about(path, f"has a damaged pickle ({error}). Get it from its author again.") from error
    unsafe = sorted({name for name in imports if not _is_safe(name)})
    if unsafe:
        raise error_about(
            path,
            f"asks Python to import {some(unsafe)}, which can run code, so it was not opened; weights need no such "
            "import. If it is the settings class of a training program that you trust, save the weights again where "
            "that program is installed, and convert the new file: `with torch.serialization.safe_globals([TheClass]): "
            "content = torch.load(old, weights_only=True)`, then `torch.save(content['model_state_dict'], new)`. "
            "Never allow a function.",
        )
    return frozenset(strings)


def _is_safe(name: str) -> bool:
    return name in STATE_DICT_GLOBALS or re.fullmatch(r"torch(\.storage)?\.\w+Storage", name) is not None


__all__ = ["TorchArchive"]
