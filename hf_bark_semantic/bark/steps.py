"""Steps of the text and coarse stages: each appends one id to every row of a batch.

    HostSteps     one step of the current rows, then the host reads the chosen ids
    DeviceSteps   several steps before the host reads the chosen ids, for an accelerator

A step of [`DeviceSteps`] reads nothing on the host, and its tensors have the same shapes at the same addresses each
time. So an accelerator never waits for the host between steps, and a step can be captured in a CUDA graph (this
package captures none). A row that finishes between two reads continues until the next one.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch

from .packed_linear import Linear
from .sampling import Guidance, Sampling, Temperatures, View, pick_tokens
from .setup import BarkSetup
from .transformer import DecodingBatch

STEPS_PER_READ = 16  # of the text stage on an accelerator, where a row may end at any step


class Row(Protocol):
    """What a step reads of a row."""

    views: Sequence[View]
    last_ids: Sequence[int]  # the last id of each view
    num_generated: int
    num_required: int  # ids before the row may end
    uniforms: Sequence[float]  # a random number for each id that the row may get
    temperature: float


class Head(NamedTuple):
    """A language model head for some neighbouring ids.

    Args:
        logits (`Linear`): from `(num_rows, hidden_size)` to `(num_rows, num_columns)`.
        first_id (`int`): the id of the first column.
    """

    logits: Linear
    first_id: int


class HostSteps:
    """One step at a time.

    Args:
        setup (`BarkSetup`), sampling (`Sampling`), guidance (`Guidance`): of the stage.
        batch (`DecodingBatch`): holds the rows, one slot for each view of a row.
        heads (`Sequence[Head]`): language model heads, which are used in turn.
        predicts_end (`bool`): the last column of a head is the end of a row.
    """

    most = 1  # steps that [`run`] may take

    def __init__(
        self,
        setup: BarkSetup,
        sampling: Sampling,
        guidance: Guidance,
        batch: DecodingBatch,
        heads: Sequence[Head],
        *,
        predicts_end: bool = False,
    ):
        self.transformers_rules, self.sampling, self.guidance = setup.transformers_rules, sampling, guidance
        self.batch, self.heads, self.predicts_end = batch, heads, predicts_end

    def run(self, rows: Sequence[Row], num_steps: int, turn: int = 0) -> list[list[int]]:
        """Take some steps.

        Args:
            rows (`Sequence[Row]`): the rows in the first slots of the batch.
            num_steps (`int`): number of steps, from 1 to `most`.
            turn (`int`): index of the first head.

        Returns:
            `list[list[int]]`: `num_steps` ids for each row; ids after the end of a row have no meaning.
        """
        head = self.heads[turn]
        last_ids = [last_id for row in rows for last_id in row.last_ids]
        with self.batch.threads(len(last_ids)):
            logits = self.guidance.logits(head.logits(self.batch.step(last_ids)))
        too_short = [slot for slot, row in enumerate(rows) if row.num_generated < row.num_required]
        if self.predicts_end and too_short:
            logits[too_short, -1] = float("-inf")
        temperatures = [row.temperature for row in rows]
        uniforms = None
        if any(temperatures):
            uniforms = torch.tensor([row.uniforms[row.num_generated] for row in rows], device=logits.device)
        picked = self._pick(logits, uniforms, Temperatures.of(temperatures, logits.device))
        return [[head.first_id + column] for column in picked.tolist()]

    def _pick(self, logits, uniforms, temperatures: Temperatures) -> torch.Tensor:
        return pick_tokens(
            logits,
            self.sampling,
            uniforms,
            temperatures=temperatures,
            predicts_end=self.predicts_end,
            transformers_rules=self.transformers_rules,
        )


class DeviceSteps(HostSteps):
    """Several steps without the host. The arguments are those of [`HostSteps`], and `most`, the steps of a run.

    Each step computes all slots over all of their positions, also empty slots and those of finished rows.
    """

    def __init__(self, *args, most: int, **options):
        super().__init__(*args, **options)
        num_slots, device = len(self.batch.lengths), self.batch.device
        num_rows, self.most = num_slots // self.batch.num_views, most
        self.largest_id = self.batch.model.config.input_vocab_size - 1
        self.last_ids = torch.zeros(num_slots, dtype=torch.long, device=device)
        self.positions = torch.zeros_like(self.last_ids)
        self.number = torch.zeros(1, dtype=torch.long, device=device)  # of the step
        self.picked = torch.zeros(num_rows, most, dtype=torch.long, device=device)
        self.num_required = torch.zeros_like(self.picked[:, 0])
        self.uniforms = torch.zeros(num_rows, most, device=device)
        self.divisors = torch.ones_like(self.uniforms[:, :1])  # temperatures, see [`Temperatures`]
        self.greedy = torch.zeros_like(self.num_required, dtype=torch.bool)

    def run(self, rows: Sequence[Row], num_steps: int, turn: int = 0) -> list[list[int]]:
        """See [`HostSteps.run`]."""
        self.load(rows, num_steps)
        for number in range(num_steps):
            self.step((turn + number) % len(self.heads))
        for slot in range(len(rows) * self.batch.num_views):
            self.batch.lengths[slot] += num_steps
        return self.picked[: len(rows), :num_steps].tolist()

    def load(self, rows: Sequence[Row], num_steps: int) -> None:
        """Copy to the device all that the next `num_steps` steps need from the host."""
        num_slots = len(rows) * self.batch.num_views
        uniforms = torch.zeros(len(rows), num_steps)
        for row, numbers in zip(rows, uniforms, strict=True):
            rest = row.uniforms[row.num_generated : row.num_generated + num_steps]
            numbers[: len(rest)] = torch.tensor(rest)
        temperatures = torch.tensor([row.temperature for row in rows])
        for target, values in (
            (self.last_ids[:num_slots], [last_id for row in rows for last_id in row.last_ids]),
            (self.positions[:num_slots], self.batch.lengths[:num_slots]),
            (self.num_required[: len(rows)], [row.num_required - row.num_generated for row in rows]),
            (self.uniforms[: len(rows), :num_steps], uniforms),
            (self.divisors[: len(rows), 0], temperatures.masked_fill(temperatures == 0, 1.0)),
            (self.greedy[: len(rows)], temperatures == 0),
        ):
            target.copy_(torch.as_tensor(values))
        self.number.zero_()

    def step(self, turn: int) -> None:
        """Append an id of the head `turn` to each row, without the host."""
        head = self.heads[turn]
        logits = self.guidance.logits(head.logits(self.batch.step_on_device(self.last_ids, self.positions)))
        if self.predicts_end:
            logits[:, -1].masked_fill_(self.number < self.num_required, float("-inf"))
        uniforms = self.uniforms.index_select(1, self.number)[:, 0]
        ids = head.first_id + self._pick(logits, uniforms, Temperatures(self.divisors, self.greedy))
        self.picked.index_copy_(1, self.number, ids[:, None])
        # the end of a row may lie outside of what the model reads
        self.last_ids.copy_(ids.clamp(max=self.largest_id).repeat_interleave(self.batch.num_views))
        self.positions.add_(1).clamp_(max=self.batch.last_position)
        self.number.add_(1)


def steps_for(
    setup: BarkSetup,
    sampling: Sampling,
    guidance: Guidance,
    batch: DecodingBatch,
    heads: Sequence[Head],
    *,
    most: int,
    predicts_end: bool = False,
) -> HostSteps:
    """[`DeviceSteps`] or [`HostSteps`], by `Savings.device_steps`; if that is `None`, by the device.

    Args:
        setup, sampling, guidance, batch, heads, predicts_end: see [`HostSteps`].
        most (`int`): steps of a run of [`DeviceSteps`].
    """
    on_device = setup.savings.device_steps
    if on_device is None:
        on_device = batch.device.type != "cpu"
    if on_device:
        return DeviceSteps(setup, sampling, guidance, batch, heads, predicts_end=predicts_end, most=most)
    return HostSteps(setup, sampling, guidance, batch, heads, predicts_end=predicts_end)


__all__ = ["STEPS_PER_READ", "DeviceSteps", "Head", "HostSteps", "steps_for"]
