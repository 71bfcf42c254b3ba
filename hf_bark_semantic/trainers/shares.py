"""How a batch is divided: among processes, and within a process among turns, which need less memory.

In all trainers, a batch is that of all processes together, and its loss is the mean over all of its targets, for any
number of processes and turns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Row = TypeVar("Row")


@dataclass(frozen=True)
class Share:
    """The share that one process has of every batch.

    Args:
        process (`int`), num_processes (`int`): the number of this process, and of all processes.
        turns (`int`): the number of turns in which the process computes it; a config's `gradient_accumulation`.

    Raises:
        ValueError: `turns` is below 1.
    """

    process: int = 0
    num_processes: int = 1
    turns: int = 1

    def __post_init__(self):
        if not isinstance(self.turns, int) or self.turns < 1:
            raise ValueError(f"`gradient_accumulation` is {self.turns!r}; it must be a whole number, 1 or more.")

    def of(self, rows: Sequence[Row], num_targets: Sequence[int]) -> list[tuple[list[Row], float]]:
        """For each turn: its rows of a batch, and the weight of their mean loss in the sum of the step.

        The mean over processes of the weighted sums is the mean over all targets of the batch. A turn without rows
        gets one with weight 0, so that all processes have the same number of turns.

        Args:
            rows (`Sequence`): the batch of all processes.
            num_targets (`Sequence[int]`): the number of targets in each row.
        """
        parts, total, shares = self.num_processes * self.turns, sum(num_targets), []
        for part in range(self.process * self.turns, (self.process + 1) * self.turns):
            weight = self.num_processes * sum(num_targets[part::parts]) / total
            shares.append((list(rows[part::parts]) or [rows[0]], weight))
        return shares


def loss_weight(weight: float) -> dict[str, torch.Tensor]:
    """The `loss_weight` entry of a part of a batch, by which [`train`] multiplies its loss; none for weight 1."""
    return {} if weight == 1 else {"loss_weight": torch.tensor(weight)}


__all__ = ["Share", "loss_weight"]
