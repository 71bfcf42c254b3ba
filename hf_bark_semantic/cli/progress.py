"""Progress bars of `bark-semantic encode`: one for the files, and one for the seconds of a long file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

SECONDS = "{percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s of audio [{elapsed}<{remaining}]"
DELAY_S = 1.0  # shorter files have no bar


class EncodingProgress:
    """Two bars on stderr.

    Args:
        num_files (`int`): the number of files to encode.
        shown (`bool`, *optional*): by default, only on a terminal.
    """

    def __init__(self, num_files: int, shown: bool | None = None):
        self._options: dict[str, Any] = {"file": sys.stderr, "disable": None if shown is None else not shown}
        self.files = tqdm(total=num_files, unit="file", **self._options)

    @contextmanager
    def encoding(self, seconds: float) -> Iterator[Callable[[int], None]]:
        """Show the progress within one file; call the yielded function with numbers of newly finished tokens.

        Args:
            seconds (`float`): the duration of the file.
        """
        from ..configuration_bark_semantic import SEMANTIC_RATE_HZ  # imports torch

        options = {"position": 1, "leave": False, "delay": DELAY_S, "bar_format": SECONDS, **self._options}
        with tqdm(total=seconds, **options) as bar:
            yield lambda num_tokens: bar.update(min(num_tokens / SEMANTIC_RATE_HZ, seconds - bar.n))


__all__ = ["EncodingProgress"]
