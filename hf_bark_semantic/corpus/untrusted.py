"""Read arrays and archives from untrusted sources, without running code and without trusting announced sizes.

read_array      read an .npy file, never unpickled
open_archive    open a zip; refused if a member has a path outside of it, or if it is a zip bomb
read_member     read one file of such a zip, without extracting it
read_file       read one file of a folder
escapes         whether a path leads outside of its folder or archive; `refuse_escape` raises an error
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
MAX_UNPACKED_RATIO, MAX_FREE_BYTES = 100, 64 * 2**20  # silence compresses well; small archives are exempt


def read_array(content: bytes) -> np.ndarray:
    """Read an array of integers from the content of an .npy file, without unpickling.

    Raises:
        ValueError: it is not an array, is pickled, does not hold integers, or has another size than its header says.
    """
    file = io.BytesIO(content)
    try:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(file)]
        shape, fortran_order, dtype = read_header(file)
    except (ValueError, SyntaxError, TypeError, TokenError, KeyError) as error:
        raise ValueError("its .npy does not start like a NumPy array") from error
    if dtype.hasobject:
        raise ValueError("its .npy is pickled; pickles are never opened, because they can run code")
    if dtype.kind not in "iu":
        raise ValueError(f"its .npy holds {dtype}, not integers")
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"its .npy announces shape {shape} of {dtype}, but has {len(content) - file.tell()} bytes")
    array = np.frombuffer(content, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if fortran_order else "C").astype(np.int64)


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip and check its names and sizes; read its files with [`read_member`] only."""
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises many kinds of errors for damaged files
        raise ValueError(f"{path.name} is not a zip archive, or it is damaged: {error}. Download it again.") from error
    try:
        for name in archive.namelist():
            refuse_escape(name, path)
        unpacked, packed = sum(member.file_size for member in archive.infolist()), path.stat().st_size
        if unpacked > MAX_UNPACKED_RATIO * packed + MAX_FREE_BYTES:
            raise ValueError(
                f"{path.name} has {packed:,} bytes and unpacks to {unpacked:,}. It may be a zip bomb, so it "
                "is not read."
            )
    except ValueError:
        archive.close()
        raise
    return archive


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """Read one file of a zip, up to the size limit for its kind."""
    limit = MAX_AUDIO_BYTES if member.lower().endswith(".wav") else MAX_ARRAY_BYTES
    try:
        with archive.open(member) as file:
            content = file.read(limit + 1)
    except Exception as error:  # zipfile and its decompressors raise many kinds
        raise ValueError(f"its {member} is damaged or encrypted: {error}") from error
    if len(content) > limit:
        raise ValueError(f"its {member} unpacks to more than {limit:,} bytes")
    return content


def read_file(path: Path) -> bytes:
    limit = MAX_ARRAY_BYTES if path.suffix.lower() == ".npy" else MAX_AUDIO_BYTES
    if not os.path.isfile(path):  # unlike Path.is_file, it returns False for invalid names
        raise ValueError(f"there is no file {str(path)!r}")
    if path.stat().st_size > limit:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes; at most {limit:,} are read")
    return path.read_bytes()


def escapes(name: str) -> bool:
    """Whether a path, of any operating system, may lead outside of its folder or archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or "\0" in name or ":" in "".join(path.parts[:1])


def refuse_escape(name: str, source: Path) -> None:
    """Raise a `ValueError` if `source` names a file outside of it."""
    if escapes(name):
        raise ValueError(f"{source.name} names {name!r}, which lies outside of it. Such a file is not read.")


__all__ = ["escapes", "open_archive", "read_array", "read_file", "read_member", "refuse_escape"]
