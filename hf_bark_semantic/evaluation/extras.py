"""Packages of the extra `eval`, imported when they are needed."""

import importlib
from types import ModuleType


def required(module: str) -> ModuleType:
    """Import a module of a package of the extra `eval`.

    Raises:
        ImportError: it is missing or broken; the message says what to type.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'This needs {module}, whose import failed: {error}. Run `pip install "hf_bark_semantic[eval]"`.'
        ) from error


__all__ = ["required"]
