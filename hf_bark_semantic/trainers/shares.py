"""How a batch is divided: among processes, and within a process among turns that need less memory.

The one rule of all trainers: a batch is that of all processes together, and its loss the mean over all of its targets,
however many processes and turns there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Row = TypeVar("Row")


@dataclass(frozen=True)
class Share:
    """What one process has of every batch.

    Args:
        process (`int`), num_processes (`int`): whose share this is.
        turns (`int`): in which the process computes it; a config's `gradient_accumulation`.

    Raises:
        ValueError: no turn.
    """

    process: int = 0
    num_processes: int = 1
    turns: int = 1

    def __post_init__(self):
        if not isinstance(self.turns, int) or self.turns < 1:
            raise ValueError(f"`gradient_accumulation` is {self.turns!r}; it must be a whole number, 1 or more.")

    def of(self, rows: Sequence[Row], num_targets: Sequence[int]) -> list[tuple[list[Row], float]]:
        """For each turn: its rows of a batch, and the weight of their mean loss in the sum of the step.

        The mean over processes of the weighted sums is the mean over all targets of the batch. A turn without rows has
        one with weight 0, so that all processes compute equally often.

        Args:
            rows (`Sequence`): the batch of all processes.
            num_targets (`Sequence[int]`): of each row.
        """
        parts, total, shares = self.num_processes * self.turns, sum(num_targets), []
        for part in range(self.process * self.turns, (self.process + 1) * self.turns):
            weight = self.num_processes * sum(num_targets[part::parts]) / total
            shares.append((list(rows[part::parts]) or [rows[0]], weight))
        return shares


def loss_weight(weight: float) -> dict[str, torch.Tensor]:
    """The entry of a part of a batch that [`train`] multiplies its loss by; none for the weight 1."""
    return {} if weight == 1 else {"loss_weight": torch.tensor(weight)}


__all__ = ["Share", "loss_weight"]
