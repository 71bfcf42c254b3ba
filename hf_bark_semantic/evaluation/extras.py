"""Packages of the extras `eval` and `asr`, imported when they are needed."""

import importlib
from types import ModuleType


def required(module: str, extra: str = "eval") -> ModuleType:
    """Import a module of a package of an extra.

    Raises:
        ImportError: it is missing or broken; the message has the command to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'This needs {module}, whose import failed: {error}. Run `pip install "hf_bark_semantic[{extra}]"`.'
        ) from error


__all__ = ["required"]
