"""One computation of a visitor: its progress, and whether it was cancelled."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..bark.prompting import MAX_PIECE_S
from ..configuration_bark_semantic import CODEC_RATE_HZ, NUM_COARSE_CODEBOOKS, SEMANTIC_RATE_HZ

SHOWN_EVERY = 10  # steps

_STAGES = {
    "encoder": "recording to tokens",
    "semantic": "text to tokens",
    "coarse": "tokens to sound",
    "fine": "finer sound",
    "codec": "codec",
}


class Cancelled(Exception):
    """The visitor has cancelled the job."""


@dataclass(eq=False)
class Job:
    """One computation of a visitor.

    Args:
        show (`Callable[[float, str], Any]`): is called with the estimated finished share, and the current stage.
        expected_s (`float`): the expected seconds of speech.
        num_texts (`int`): number of texts that it speaks in one batch.
    """

    show: Callable[[float, str], Any] = lambda share, what: None
    expected_s: float = 0.0
    num_texts: int = 1
    num_steps: int = 0
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        self._cancelled.set()

    def check(self) -> None:
        """Raise [`Cancelled`] if the job was cancelled."""
        if self._cancelled.is_set():
            raise Cancelled

    def step(self, stage: str) -> None:
        """Count a step of a stage, for the pipeline's `on_step`; show every tenth step."""
        self.check()
        if self.num_steps % SHOWN_EVERY == 0:
            self.show(self.share_done(), _STAGES[stage])
        self.num_steps += 1

    def share_done(self) -> float:
        """The estimated share of finished steps of the text and the coarse stage, with batches of up to 8 pieces."""
        rows = min(8, max(self.num_texts, math.ceil(self.expected_s / MAX_PIECE_S)))
        expected = self.expected_s * (SEMANTIC_RATE_HZ + NUM_COARSE_CODEBOOKS * CODEC_RATE_HZ) / rows
        return min(0.99, self.num_steps / expected) if expected else 0.0


__all__ = ["Cancelled", "Job"]
