"""Parts of hostile inputs, detection of files that they leave behind, and names of unsafe functions."""

import ast
import os
from collections.abc import Callable
from pathlib import Path

CANARY = "executed"
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
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


def calls_that_run_code(tree: ast.Module) -> list[str]:
    """Imports of unpicklers, and calls that would run what is in a file, by line."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [f"{node.lineno}: import {name}" for name in names if name.split(".")[0] in UNPICKLERS]
        if not isinstance(node, ast.Call):
            continue
        name, values = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        wrong = name in ("eval", "exec") or name.endswith(("read_pickle", "yaml.load", "unsafe_load", "full_load"))
        wrong |= name == "torch.load" and values.get("weights_only") != "True"
        wrong |= name in ("np.load", "numpy.load") and values.get("allow_pickle", "False") != "False"
        wrong |= values.get("trust_remote_code", "False") != "False"
        found += [f"{node.lineno}: {ast.unparse(node)}"] if wrong else []
    return found
