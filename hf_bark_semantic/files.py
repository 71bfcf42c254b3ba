"""Write files atomically, read them with clear errors, and recognize them by fingerprints and first bytes.

atomic_write        open a file for writing that is renamed when it is complete
write_text          write text atomically
write_json          write a value as JSON atomically
remove_unfinished   remove files that killed processes left in a folder
read_text           read text in UTF-8; an error names the file and the line
read_json           read a value from JSON; an error names the file and the remedy
sha256_of_file      the fingerprint of a file
fingerprint         the fingerprint of rows of arrays and text
stamp_of_file       size and time, to detect a changed file without reading it
differences         differences of two nested mappings, by name
foreign_content     the kind of a file that is not audio or a voice prompt
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

UNFINISHED = ".*.unfinished"  # files that a killed process may leave
FULL_DISK = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextlib.contextmanager
def atomic_write(path: Path, *, error_class: type[ValueError] = ValueError) -> Iterator[BinaryIO]:
    """Open a file that is renamed only when it was written completely, even if the power fails.

    Args:
        path (`Path`): the file to create or to replace; its folder must exist.
        error_class (`type[ValueError]`): the error for an impossible path.

    Raises:
        error_class: the path is a folder, or its folder is missing.
        OSError: the file cannot be written; an earlier file is unchanged.
    """
    if path.is_dir():
        raise error_class(f"Cannot write {str(path)!r}: it is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise error_class(f"Cannot write {path.name!r}: there is no folder {str(path.parent)!r}. Create it first.")
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        reason = f"The disk is full, so {path.name} was not written. Free some space and start the same command again"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 with [`atomic_write`]."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write a value as JSON with [`atomic_write`]."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False))


def remove_unfinished(folder: Path, *, before_s: float = math.inf) -> None:
    """Remove unfinished files of [`atomic_write`] that killed processes left in a folder.

    Args:
        folder (`Path`): the folder, with its subfolders.
        before_s (`float`): files that changed at this time or later are kept, because they may be in use.
    """
    for leftover in folder.rglob(UNFINISHED):
        with contextlib.suppress(FileNotFoundError):
            if leftover.is_file() and leftover.stat().st_mtime < before_s:
                leftover.unlink()


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        ValueError: it is in another encoding.
        OSError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"Line {line} of {str(path)!r} is not in UTF-8. Save it in UTF-8, or convert it: "
            "`iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW`."
        ) from error


def read_json(
    path: Path,
    *,
    kind: type = dict,
    cure: str = "Restore it from a copy, or make it again.",
    error_class: type[ValueError] = ValueError,
) -> Any:
    """The value of a JSON file.

    Args:
        path (`Path`): the file.
        kind (`type`): what the value must be: `dict` or `list`.
        cure (`str`): a sentence with the remedy for a damaged file.
        error_class (`type[ValueError]`): the error for a damaged file.

    Raises:
        error_class: it is not JSON in UTF-8, is nested too deep, or has another kind of value.
        OSError: it cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise error_class(f"{str(path)!r} is not JSON: {error}. {cure}") from error
    if not isinstance(value, kind):
        raise error_class(f"{str(path)!r} holds a {type(value).__name__}; it must hold a {kind.__name__}. {cure}")
    return value


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file of any size, 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def fingerprint(rows: Iterable[Iterable[Any]]) -> str:
    """A fingerprint of rows of arrays and text, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        for value in row:
            value = value.tobytes() if hasattr(value, "tobytes") else value
            content = value if isinstance(value, bytes) else str(value).encode()
            digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def stamp_of_file(path: Path) -> str:
    """Size and modification time of a file, which differ when it has changed."""
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The differences of two nested mappings: dotted names with both values, `None` for a missing one."""
    there, here = _flat(there), _flat(here)
    pairs = {name: (there.get(name), here.get(name)) for name in [*here, *there]}
    return {name: (before, now) for name, (before, now) in pairs.items() if before != now}


def foreign_content(head: bytes) -> str | None:
    """Recognize files that are often mistaken for audio or voice prompts, by their first bytes.

    Args:
        head (`bytes`): the first 512 bytes, or the whole file if it is shorter.

    Returns:
        `str` or `None`: a sentence with the kind and the remedy for an error message; `None` for other files.
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "the file is empty. Download or record it again"
    if text.startswith(b"version https://git-lfs"):
        return "this is a Git-LFS pointer, not the file itself. Run `git lfs pull` in its repository"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "this is a web page saved under that name. Download the file itself (the 'raw' link)"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "this is a Python pickle, which is never opened because it can run code. Export the arrays to .npz"
    return None


def _flat(values: Mapping, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


__all__ = [
    "atomic_write",
    "differences",
    "fingerprint",
    "foreign_content",
    "read_json",
    "read_text",
    "remove_unfinished",
    "sha256_of_file",
    "stamp_of_file",
    "write_json",
    "write_text",
]
