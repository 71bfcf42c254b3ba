"""What hostile inputs are made of, and how a test finds what one left behind."""

import os
from collections.abc import Callable
from pathlib import Path

CANARY = "executed"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
WEB_PAGE = b"<!DOCTYPE html>\n<html><head><title>GitHub</title></head></html>"


class Payload:
    """Unpickling it creates a file next to the input."""

    def __init__(self, folder: Path):
        self.canary = str(folder / CANARY)

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def file_of(content: bytes, name: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return build


def files_below(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
