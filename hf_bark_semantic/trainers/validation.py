"""Validation on held-out data, with early stopping; the best weights are kept.

output_dir/ best/             the best model so far
            validation.json   the figures of every measurement, by step
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from ..files import read_json, write_json


class Validation:
    """The `on_step` that measures a model on held-out data, keeps the best one, and decides when to stop.

    Its decisions depend on the figures of earlier steps only, which are in a file: a run that continues from a
    checkpoint stops at the same step, with the same best model.

    Args:
        measure (callable): `model -> dict[str, float]`, the same on every process.
        save (callable): `(model, folder) -> None` writes into an empty folder; only the main process calls it.
        steps (`int`): steps of the training; the last one is measured, too.
        folder (`Path`): for `best/` and `validation.json`.
        accelerator (`Accelerator`): the accelerator of the training.
        every (`int`): steps between measurements.
        patience (`int`): stop after this number of measurements without a new best one.
        best_by (`str`): the figure to compare; smaller is better if its name ends in "loss".
    """

    def __init__(
        self,
        measure: Callable[[nn.Module], dict[str, float]],
        save: Callable[[nn.Module, Path], None],
        *,
        steps: int,
        folder: Path,
        accelerator: Accelerator,
        every: int = 100,
        patience: int = 5,
        best_by: str = "accuracy",
    ):
        for name, value in (("every", every), ("patience", patience)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` of the validation is {value!r}; it must be a whole number, 1 or more.")
        self.measure, self.save, self.steps, self.folder = measure, save, steps, Path(folder)
        self.accelerator, self.every, self.patience, self.best_by = accelerator, every, patience, best_by
        self.file = self.folder / "validation.json"
        self.figures: dict[int, dict[str, float]] = {}
        if self.file.exists():
            self.figures = {int(step): figures for step, figures in read_json(self.file).items()}

    def __call__(self, step: int, model: nn.Module) -> bool:
        if step % self.every and step != self.steps:
            return False
        figures = self.measure(model)
        if self.best_by not in figures:
            raise ValueError(f"`best_by` is {self.best_by!r}; the measured figures are {', '.join(figures)}.")
        earlier = {s: known for s, known in self.figures.items() if s < step}
        self.figures = {**earlier, step: figures}
        if self.accelerator.is_main_process:
            rounded = {f"validation_{name}": round(value, 4) for name, value in figures.items()}
            print(json.dumps({"step": step, **rounded}), flush=True)
            if self.best_step == step:
                new, best = self.folder / "best.new", self.folder / "best"
                shutil.rmtree(new, ignore_errors=True)
                new.mkdir(parents=True)
                self.save(model, new)
                shutil.rmtree(best, ignore_errors=True)
                new.rename(best)
            write_json(self.file, self.figures)
        self.accelerator.log({f"validation_{name}": value for name, value in figures.items()}, step=step)
        self.accelerator.wait_for_everyone()
        return sum(s > self.best_step for s in self.figures) >= self.patience

    @property
    def best_step(self) -> int:
        """The step with the best figure; of equal ones, the earliest."""
        sign = -1 if self.best_by.endswith("loss") else 1
        return max(self.figures, key=lambda step: (sign * self.figures[step][self.best_by], -step))
