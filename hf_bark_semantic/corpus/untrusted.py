"""Arrays and archives from untrusted sources, read without running code and without trusting their sizes.

read_array      an .npy file: never unpickled, and as large as its header says
open_archive    a zip: refused if a member points outside of it, or if it unpacks to far more than it holds
read_member     one file of such a zip, which is not extracted
read_file       one file of a folder
escapes         whether a name points outside of the place that it is in; `refuse_escape` raises then
"""

import io
import math
import os
import zipfile
from pathlib import Path, PurePosixPath
from tokenize import TokenError

import numpy as np

MAX_ARRAY_BYTES = 16 * 2**20  # a minute of tokens and codes is 0.3 MB
MAX_AUDIO_BYTES = 256 * 2**20  # 23 minutes of 48 kHz stereo
MAX_UNPACKED_RATIO, MAX_FREE_BYTES = 100, 64 * 2**20  # silence packs well; small archives may do as they like


def read_array(content: bytes) -> np.ndarray:
    """An array of integers from the content of an .npy file, without unpickling and without trusting its header.

    Raises:
        ValueError: it is not an array, pickled, not of integers, or not of the size that it announces.
    """
    file = io.BytesIO(content)
    try:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(file)]
        shape, fortran_order, dtype = read_header(file)
    except (ValueError, SyntaxError, TypeError, TokenError, KeyError) as error:
        raise ValueError("its .npy does not start as a numpy array does") from error
    if dtype.hasobject:
        raise ValueError("its .npy is pickled, and pickles are never opened, because they can run code")
    if dtype.kind not in "iu":
        raise ValueError(f"its .npy holds {dtype}, not integers")
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"its .npy announces shape {shape} of {dtype}, but holds {len(content) - file.tell()} bytes")
    array = np.frombuffer(content, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if fortran_order else "C").astype(np.int64)


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip whose names and sizes are checked; its files are read with [`read_member`] only."""
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises a dozen kinds where bytes are flipped
        raise ValueError(f"{path.name} is not a zip archive, or a damaged one: {error}. Download it again.") from error
    try:
        for name in archive.namelist():
            refuse_escape(name, path)
        unpacked, packed = sum(member.file_size for member in archive.infolist()), path.stat().st_size
        if unpacked > MAX_UNPACKED_RATIO * packed + MAX_FREE_BYTES:
            raise ValueError(
                f"{path.name} has {packed:,} bytes and unpacks to {unpacked:,}: it is a zip bomb, or no speech. It is "
                "not read."
            )
    except ValueError:
        archive.close()
        raise
    return archive


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """One file of a zip, no more of it than its kind may have."""
    limit = MAX_AUDIO_BYTES if member.lower().endswith(".wav") else MAX_ARRAY_BYTES
    try:
        with archive.open(member) as file:
            content = file.read(limit + 1)
    except Exception as error:  # of zipfile and its decompressors
        raise ValueError(f"its {member} is damaged or encrypted: {error}") from error
    if len(content) > limit:
        raise ValueError(f"its {member} unpacks to more than {limit:,} bytes")
    return content


def read_file(path: Path) -> bytes:
    limit = MAX_ARRAY_BYTES if path.suffix.lower() == ".npy" else MAX_AUDIO_BYTES
    if not os.path.isfile(path):  # unlike Path's method, it also takes a name that no file can have
        raise ValueError(f"there is no file {str(path)!r}")
    if path.stat().st_size > limit:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes; at most {limit:,} are read")
    return path.read_bytes()


def escapes(name: str) -> bool:
    """Whether the name of a file, of any system, may lie outside of the place that it is in."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or "\0" in name or ":" in "".join(path.parts[:1])


def refuse_escape(name: str, source: Path) -> None:
    """Raise a `ValueError` if `source` names a file outside of it."""
    if escapes(name):
        raise ValueError(f"{source.name} names {name!r}, which lies outside of it. Such a file is not read.")


__all__ = ["escapes", "open_archive", "read_array", "read_file", "read_member", "refuse_escape"]
