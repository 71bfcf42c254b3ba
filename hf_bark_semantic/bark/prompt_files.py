"""Read the entries of voice prompts (.npz or dict) of all Bark programs, without trusting the file.

A prompt's tokens are only valid for one kind of Bark. The .npz format does not name it, so this package writes the two
vocabulary sizes to the comment of the zip archive, which other programs ignore.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from io import BytesIO
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from ..files import foreign_content

MAX_FILE_BYTES = 16 * 2**20  # a minute of prompt is 0.3 MB; larger files may be zip bombs

_KEYS = ("semantic_prompt", "coarse_prompt", "fine_prompt")  # suno-ai/bark, api.py; transformers' BarkProcessor
_OLD_KEYS = ("text", "coarse_1", "coarse_2", "fine")  # the first community tools: one entry per coarse codebook


class VoicePromptError(ValueError):
    """The voice prompt cannot be used. The message names the broken rule and what to do.

    ```python
    import hf_bark_semantic

    try:
        hf_bark_semantic.VoicePrompt([1, 2, 3], audio_codes=[[0] * 100] * 8)
    except hf_bark_semantic.VoicePromptError as error:
        print(error)  # the codes are not as long as the tokens
    ```
    """


def npz_content(arrays: Mapping[str, np.ndarray], vocabularies: Mapping[str, int]) -> bytes:
    """An `.npz` of arrays whose comment names the vocabulary sizes of the Bark that they belong to."""
    content = BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(content, "a") as archive:
        archive.comment = json.dumps(dict(vocabularies)).encode()
    return content.getvalue()


def read_entries(
    source: str | os.PathLike | Mapping,
) -> tuple[str, np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    """Read the three entries of a voice prompt; others are ignored.

    Args:
        source (`str`, `Path` or `dict`): see [`VoicePrompt.load`].

    Returns:
        The name of the source for errors; int64 arrays of the ranks 1, 2 and 2: semantic tokens, coarse and fine
        codes; and the vocabulary sizes, if they are in the file.

    Raises:
        VoicePromptError: no such file, not an .npz, or entries that are missing, pickled, too large or not integers.
    """
    if isinstance(source, np.lib.npyio.NpzFile):
        raise VoicePromptError("Pass the path of the .npz, because an opened NpzFile may unpickle its entries.")
    if isinstance(source, Mapping):
        name = "The dict"
        vocabularies: dict[str, int] = {}
        arrays = {key: source[key] for key in _KEYS + _OLD_KEYS if key in source}
        found = [str(key) for key in source]
    elif isinstance(source, str | os.PathLike):
        name = repr(Path(source).name)
        arrays, found, vocabularies = _read_npz(Path(source))
    else:
        raise TypeError(f"A voice prompt is loaded from a path or a dict, not from {type(source).__name__}.")
    entries = _rename_old_keys(arrays)
    _check_keys(entries, found, name)
    tokens, coarse, fine = (
        _drop_batch_axis(integers(entries[key], key), ndim=ndim) for key, ndim in zip(_KEYS, (1, 2, 2), strict=True)
    )
    return name, tokens, coarse, fine, vocabularies


def integers(value: Any, name: str) -> np.ndarray:
    """An integer array or tensor as a new int64 array."""
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind == "f":
        raise VoicePromptError(
            f"{name} must hold integer ids, not {array.dtype}. Rows of floats are embeddings: decode them to ids with "
            "the encoder that made them. Ids that were stored as floats need .astype(numpy.int64)."
        )
    if array.dtype.kind not in "iu":
        raise VoicePromptError(f"{name} must hold integer ids, not {array.dtype}. Save it again as integers.")
    return array.astype(np.int64)


def _drop_batch_axis(array: np.ndarray, *, ndim: int) -> np.ndarray:
    return array[0] if array.ndim == ndim + 1 and array.shape[0] == 1 else array


def _rename_old_keys(arrays: Mapping) -> Mapping:
    if any(key in arrays for key in _KEYS) or not all(key in arrays for key in _OLD_KEYS):
        return arrays
    coarse = [_drop_batch_axis(integers(arrays[key], key), ndim=1) for key in ("coarse_1", "coarse_2")]
    if coarse[0].shape != coarse[1].shape:
        raise VoicePromptError(
            f"coarse_1 has shape {coarse[0].shape} and coarse_2 {coarse[1].shape}; they are two codebooks of one "
            "audio and must be equally long. Encode the recording again."
        )
    return {"semantic_prompt": arrays["text"], "coarse_prompt": np.stack(coarse), "fine_prompt": arrays["fine"]}


def _check_keys(arrays: Mapping, found: list[str], name: str) -> None:
    missing = [key for key in _KEYS if key not in arrays]
    if not missing:
        return
    if missing == ["fine_prompt"]:
        way_out = (
            "Bark's fine stage needs all 8 codebooks. Encode the recording, or let Bark's fine model complete the "
            "coarse codes."
        )
    elif missing == ["coarse_prompt"]:
        way_out = "It is fine_prompt[:2]: VoicePrompt.from_tokens_and_codes(semantic_prompt, fine_prompt)."
    elif missing == ["semantic_prompt"]:
        way_out = "Encode the recording with BarkSemanticEncoderModel to get its tokens."
    else:
        way_out = "Is it a voice prompt of Bark? Rename its entries, or build one from the recording."
    listed = ", ".join(sorted(found)[:10]) or "nothing"
    raise VoicePromptError(f"{name} lacks {' and '.join(missing)}; it holds {listed}. {way_out}")


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], list[str], dict[str, int]]:
    """Read the known entries of an .npz, the names of all, and the vocabulary sizes, without unpickling."""
    name = repr(path.name)
    if os.path.isdir(path):  # unlike Path's methods, os.path returns False for invalid names
        raise VoicePromptError(f"{str(path)!r} is a folder. Name an .npz in it.")
    if not os.path.isfile(path):
        raise VoicePromptError(f"No such file: {str(path)!r}. Check the spelling and the working directory.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise VoicePromptError(
            f"{name} has {path.stat().st_size:,} bytes; a voice prompt has about 100,000, and more than "
            f"{MAX_FILE_BYTES:,} are not read. Is it another file?"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VoicePromptError(f"Cannot open {name}: {error.strerror}. Check the file's permissions.") from error
    reason = foreign_content(content[:512]) or _not_an_npz(content[:512])
    if reason is not None:
        raise VoicePromptError(f"{name} is not a voice prompt: {reason}.")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = archive.namelist()
            if any(member.endswith("data.pkl") for member in members):
                raise VoicePromptError(
                    f"{name} is a PyTorch checkpoint, which holds pickles. Export its arrays with numpy.savez."
                )
            known = {key: f"{key}.npy" for key in _KEYS + _OLD_KEYS if f"{key}.npy" in members}
            arrays = {key: _read_member(archive, member, name) for key, member in known.items()}
            vocabularies = _vocabularies(archive.comment)
    except VoicePromptError:
        raise
    except Exception as error:  # zipfile and its decompressors raise many kinds of errors
        raise VoicePromptError(f"{name} is damaged or encrypted: {error}. Download or make it again.") from error
    return arrays, [member.removesuffix(".npy") for member in members], vocabularies


def _vocabularies(comment: bytes) -> dict[str, int]:
    """The vocabulary sizes in a comment of [`npz_content`]; empty for other comments."""
    try:
        values = json.loads(comment)
    except (ValueError, RecursionError):
        return {}
    names = ("semantic_vocab_size", "codebook_size")
    if not isinstance(values, dict) or any(type(values.get(name)) is not int or values[name] < 1 for name in names):
        return {}
    return {name: values[name] for name in names}


def _read_member(archive: zipfile.ZipFile, member: str, name: str) -> np.ndarray:
    """Read one array; its size is checked in the zip directory and in the array's header before any allocation."""
    size = archive.getinfo(member).file_size
    if size > MAX_FILE_BYTES:
        raise VoicePromptError(
            f"{name} unpacks {member} to {size:,} bytes; more than {MAX_FILE_BYTES:,} are not read. "
            "A voice prompt is far smaller: this is a zip bomb or another file."
        )
    file = BytesIO(archive.read(member))
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version} of the .npy format")
    except (ValueError, SyntaxError, TypeError, TokenError) as error:
        raise VoicePromptError(
            f"{name}: {member} does not start like a NumPy array. Download or make the file again."
        ) from error
    if dtype.hasobject:
        raise VoicePromptError(
            f"{name}: {member} is pickled (dtype {dtype}) and pickles are never opened, because they can run code. "
            "Save it again as integers, e.g. numpy.asarray(values, dtype=numpy.int64)."
        )
    num_bytes, available = prod(shape) * dtype.itemsize, size - file.tell()
    if num_bytes != available:
        raise VoicePromptError(
            f"{name}: {member} announces {num_bytes:,} bytes (shape {shape}) and contains {available:,}. "
            "It is damaged: download or make it again."
        )
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _not_an_npz(head: bytes) -> str | None:
    if head[:6] == b"\x93NUMPY":
        return (
            "it is a single .npy array, and a prompt needs tokens and codes. Make one with "
            "VoicePrompt.from_tokens_and_codes(tokens, codes).save(path)"
        )
    if head[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
        return f"an .npz is a zip archive, and this starts with {head[:8]!r}. Download or make it again"
    return None


__all__ = ["VoicePromptError"]
