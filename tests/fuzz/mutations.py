"""Make damaged copies of a file: random damage as by transfers and disks, and changes specific to the format.

mutated    change the content of a file with a random generator
"""

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

MOST_CHANGES = 4  # changes per copy; one is most frequent
SEVERAL_BYTES = 64  # inserted or removed by a change, at most, except for a chunk
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)  # the last are slow
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1_000, 2**31, 2**63, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308, float("inf"),
    float("nan"), "", "\0", "0", "1e999", "\ud800", "\u202e", "../../canary", "/etc/passwd", "http://127.0.0.1:9/x",
    "a" * 5_000, "__import__('os').mkdir('canary')", [], [[]], [0], [None], [1] * 300, {}, {"": {}},
    {"model_type": "bert"}, {"__class__": "os.system"},
)  # fmt: skip
TEXTS = (
    '"', "'", ",", ";", "\t", "|", "\n", "\r\n", "\0", "\\", "{", "}", "[", "]", ": ", "- ", "&a ", "*a", "!!int ",
    "~", "!!python/object/apply:os.system [true] ", "=", "1e999", "-1", "9" * 400, "NaN", "\u202e", "\u200d", "\ufeff",
    "e\u0301", "\U0001f600", "../", "/etc/passwd", "a" * 5_000,
)  # fmt: skip


def mutated(content: bytes, random: Random) -> bytes:
    """A copy of a file with one change or a few; random changes and those of the format are equally frequent.

    One copy in fifty is not changed.
    """
    if random.random() < 0.02:
        return content
    for _ in range(1 + min(MOST_CHANGES - 1, int(random.expovariate(1.0)))):
        changes = _CHANGES
        if random.random() < 0.5:
            changes = _changes_of_format(content) or _CHANGES
        content = random.choice(changes)(content, random)
    return content


def _changes_of_format(content: bytes) -> tuple[Callable[[bytes, Random], bytes], ...]:
    if content[:2] == b"PK":
        return (_other_archive,)
    if content[8:10] == b'{"' and len(content) >= 8 + int.from_bytes(content[:8], "little"):
        return (_other_safetensors_header,)
    if content[:1] in (b"{", b"["):
        return _other_json, _other_text
    return () if b"\0" in content[:1_000] else (_other_text,)


# ---- any file


def _place(content: bytes, random: Random) -> int:
    """A random position; the start (headers), the end (directories) and the rest are equally likely."""
    edge = min(len(content), 256)
    return random.choice(
        (random.randrange(edge + 1), len(content) - random.randrange(edge + 1), random.randrange(len(content) + 1))
    )


def _flip_bits(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 8, 64)) if content else 0):
        changed[min(_place(content, random), len(content) - 1)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _write_number(content: bytes, random: Random) -> bytes:
    size, number = random.choice((1, 2, 4, 8)), random.choice(NUMBERS)
    start = _place(content, random)
    return _spliced(content, start, size, (number % 256**size).to_bytes(size, random.choice(("little", "big"))))


def _cut(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    return random.choice((content[:place], content[place:]))


def _remove(content: bytes, random: Random) -> bytes:
    return _spliced(content, _place(content, random), random.randint(1, SEVERAL_BYTES), b"")


def _insert(content: bytes, random: Random) -> bytes:
    filling = random.choice((random.randbytes(random.randint(1, SEVERAL_BYTES)), bytes(SEVERAL_BYTES), b"\xff" * 8))
    return _spliced(content, _place(content, random), 0, filling)


def _repeat(content: bytes, random: Random) -> bytes:
    start, stop = sorted((_place(content, random), _place(content, random)))
    return _spliced(content, _place(content, random), 0, content[start:stop])


def _swap(content: bytes, random: Random) -> bytes:
    first, second, third = sorted(_place(content, random) for _ in range(3))
    return content[:first] + content[second:third] + content[first:second] + content[third:]


def _spliced(content: bytes, start: int, num_removed: int, filling: bytes) -> bytes:
    return content[:start] + filling + content[start + num_removed :]


_CHANGES = (_flip_bits, _flip_bits, _write_number, _write_number, _cut, _remove, _insert, _repeat, _swap)


# ---- files of a format


def _other_archive(content: bytes, random: Random) -> bytes:
    """An intact zip with changed members, or a zip with a changed directory."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # damaged by an earlier change
        return _other_directory(content, random)
    if not members or random.random() < 0.3:
        return _other_directory(content, random)
    number = random.randrange(len(members))
    name, member = members[number]
    other = random.choice(members)[0]
    name = random.choice((name, name, name, other, f"../{name}", "a/data.pkl", "/.info", name.upper(), ""))
    member = random.choice((member, b"", bytes(2**20))) if random.random() < 0.2 else mutated(member, random)
    changed = [*members[:number], (name, member), *members[number + 1 :]]
    random.choice((list.sort, list.reverse, lambda order: None))(changed)
    file = io.BytesIO()
    method = random.choices(METHODS, (60, 30, 5, 1))[0]
    with zipfile.ZipFile(file, "w", method) as archive:
        for filename, part in changed[random.random() < 0.1 :]:
            archive.writestr(zipfile.ZipInfo(filename), part, method)
        if random.random() < 0.2:
            archive.comment = json.dumps(random.choice(VALUES)).encode()[:60_000]
    return file.getvalue()


def _other_directory(content: bytes, random: Random) -> bytes:
    """Change a number after the signature of a local header, a directory entry or the end record."""
    signature, size = random.choice(((b"PK\x03\x04", 30), (b"PK\x01\x02", 46), (b"PK\x05\x06", 22)))
    starts = [match.start() for match in re.finditer(re.escape(signature), content)]
    if not starts:
        return _write_number(content, random)
    width = random.choice((2, 4))
    start = random.choice(starts) + random.randrange(4, size - width + 1)
    return _spliced(content, start, width, (random.choice(NUMBERS) % 256**width).to_bytes(width, "little"))


def _other_safetensors_header(content: bytes, random: Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = _other_json(content[8 : 8 + length], random)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def _other_json(content: bytes, random: Random) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return _other_text(content, random)
    if random.random() < 0.02:
        depth = random.choice((500, 100_000))
        return b"[" * depth + content + b"]" * depth
    return json.dumps(other_value(value, random)).encode()


def other_value(value: Any, random: Random) -> Any:
    """A copy in which one value is replaced, removed, repeated or renamed."""
    if not isinstance(value, (dict, list)) or not value or random.random() < 0.05:
        return random.choice(VALUES)
    if isinstance(value, list):
        number = random.randrange(len(value))
        changed = [other_value(value[number], random)] * random.choice((0, 1, 1, 1, 2))
        return [*value[:number], *changed, *value[number + 1 :]]
    name = random.choice(list(value))
    rest = {key: part for key, part in value.items() if key != name}
    return random.choice(
        (
            rest,
            {**value, name: other_value(value[name], random)},
            {**value, name: other_value(value[name], random)},
            {**value, name: random.choice(VALUES)},
            {**rest, random.choice((name + "_", name[:-1], "\0", "__class__")): value[name]},
        )
    )


def _other_text(content: bytes, random: Random) -> bytes:
    """Insert a word with a meaning in a format, or change the order or the encoding of lines."""
    if random.random() < 0.1:
        encoding = random.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig"))
        return content.decode("utf-8", "replace").encode(encoding, "replace")
    lines = content.splitlines(keepends=True)
    if lines and random.random() < 0.3:
        number = random.randrange(len(lines))
        lines[number : number + 1] = [lines[number]] * random.choice((0, 2, 50)) + [random.choice(lines)]
        return b"".join(lines)
    filling = random.choice(TEXTS).encode("utf-8", "surrogatepass")
    return _spliced(content, _place(content, random), random.choice((0, 0, 1, 8)), filling)


__all__ = ["mutated", "other_value"]
