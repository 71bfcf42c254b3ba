"""One Accelerate loop for any model whose output has a `.loss`: schedule, averaging, checkpoints, exact resume.

    train(model, batches, arguments)

`batches[step]` is a list of inputs; their losses are added up. Since batches, learning rates and random seeds are pure
functions of the step, a run that was killed goes on from its last checkpoint as if nothing had happened.
"""

import copy
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn


@dataclass
class TrainingArguments:
    """How [`train`] goes about it.

    Args:
        output_dir (`str`): where checkpoints, `log.jsonl` and the trained model go.
        steps (`int`): optimizer steps.
        learning_rate (`float`): of parameters that `learning_rates` does not name.
        learning_rates (`dict[str, float]`): by prefix of the parameter's name; 0 freezes.
        warmup (`float`): share of the steps in which the rate rises; then it falls as a cosine.
        weight_decay (`float`), max_grad_norm (`float`): of AdamW, and for clipping.
        average (`float`): decay of an exponential moving average of the weights, which is what is saved; 0 for none.
        average_from (`float`): share of the steps after which it starts.
        mixed_precision (`str`): "no", "bf16" or "fp16".
        checkpoint_every (`int`), log_every (`int`): steps; 0 for never.
        seed (`int`): of everything random.
    """

    output_dir: str
    steps: int = 1_000
    learning_rate: float = 1e-3
    learning_rates: dict[str, float] = field(default_factory=dict)
    warmup: float = 0.1
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    average: float = 0.0
    average_from: float = 0.3
    mixed_precision: str = "no"
    checkpoint_every: int = 200
    log_every: int = 50
    seed: int = 0


def train(
    model: nn.Module,
    batches: Sequence[list[dict[str, torch.Tensor]]],
    arguments: TrainingArguments,
    accelerator: Accelerator | None = None,
    *,
    on_step: Callable[[int, nn.Module], bool | None] | None = None,
) -> nn.Module:
    """Train `model` and return it (its averaged weights, if averaging is on) on the main process' device.

    Started again with the same arguments, it resumes from the last checkpoint in `output_dir`. After every step,
    `on_step(step, model)` is called with what would be returned; training ends early where it says true.
    """
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    accelerator = accelerator or Accelerator(mixed_precision=arguments.mixed_precision)
    set_seed(arguments.seed)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, arguments), betas=(0.9, 0.98), weight_decay=arguments.weight_decay
    )
    average = copy.deepcopy(model).eval().requires_grad_(False) if arguments.average else None
    model, optimizer = accelerator.prepare(model, optimizer)
    if average is not None:
        average.to(accelerator.device)
    step = _resume(accelerator, output_dir, average)
    started, first = time.perf_counter(), step
    while step < arguments.steps:
        model.train()
        torch.manual_seed(arguments.seed * 1_000_003 + step * 1_009 + accelerator.process_index)
        loss = 0.0
        for inputs in batches[step]:
            inputs = {name: tensor.to(accelerator.device) for name, tensor in inputs.items()}
            part = model(**inputs).loss
            accelerator.backward(part)
            loss += part.detach().float().item()
        if not math.isfinite(loss):
            raise FloatingPointError(f"The loss is {loss} at step {step}; lower the learning rate or check the data.")
        accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = group["highest_lr"] * learning_rate_factor(step, arguments)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if average is not None:
            averaging = step >= arguments.average_from * arguments.steps
            _update_average(average, accelerator.unwrap_model(model), arguments.average if averaging else 0.0)
        if arguments.log_every and step % arguments.log_every == 0:
            seconds = (time.perf_counter() - started) / (step - first)
            _log(
                accelerator, output_dir, {"step": step, "loss": round(loss, 4), "seconds_per_step": round(seconds, 3)}
            )
        if on_step is not None:
            current = average if average is not None else accelerator.unwrap_model(model)
            if on_step(step, current):
                break
        if arguments.checkpoint_every and step % arguments.checkpoint_every == 0 and step < arguments.steps:
            _checkpoint(accelerator, output_dir, step, average)
    shutil.rmtree(output_dir / "checkpoint", ignore_errors=True)
    return (average if average is not None else accelerator.unwrap_model(model)).eval()


def parameter_groups(model: nn.Module, arguments: TrainingArguments) -> list[dict]:
    """Parameters by learning rate, the longest matching prefix deciding; a rate of 0 takes them out of training."""
    groups = {}
    for name, parameter in model.named_parameters():
        prefixes = [prefix for prefix in arguments.learning_rates if name.startswith(prefix)]
        rate = arguments.learning_rates[max(prefixes, key=len)] if prefixes else arguments.learning_rate
        if rate == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            groups.setdefault(rate, []).append(parameter)
    unmatched = [p for p in arguments.learning_rates if not any(n.startswith(p) for n, _ in model.named_parameters())]
    if unmatched:
        raise ValueError(f"`learning_rates` names {unmatched}, but no parameter of the model begins so.")
    if not groups:
        raise ValueError("No parameter is left to train: every learning rate is 0.")
    return [{"params": parameters, "lr": rate, "highest_lr": rate} for rate, parameters in groups.items()]


def learning_rate_factor(step: int, arguments: TrainingArguments) -> float:
    """Linear warm-up to 1, then half a cosine to 0."""
    warmup = max(1, int(arguments.warmup * arguments.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, arguments.steps - warmup)))


@torch.no_grad()
def _update_average(average, model, decay):
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new.to(kept.dtype), 1 - decay)
    for kept, new in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(new)


def _checkpoint(accelerator, output_dir: Path, step: int, average):
    """Write beside the old checkpoint, then swap, so that one whole checkpoint is there at any moment."""
    new, old = output_dir / "checkpoint.new", output_dir / "checkpoint"
    if accelerator.is_main_process:
        shutil.rmtree(new, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(new)
    if accelerator.is_main_process:
        if average is not None:
            torch.save(average.state_dict(), new / "average.pt")
        (new / "step.json").write_text(json.dumps({"step": step}))
        retired = output_dir / "checkpoint.old"
        shutil.rmtree(retired, ignore_errors=True)
        if old.exists():
            old.rename(retired)
        new.rename(old)
        shutil.rmtree(retired, ignore_errors=True)
    accelerator.wait_for_everyone()


def _resume(accelerator, output_dir: Path, average) -> int:
    for name in ("checkpoint", "checkpoint.old"):  # the second, if a kill came between the two renames
        folder = output_dir / name
        if (folder / "step.json").exists():
            break
    else:
        return 0
    accelerator.load_state(folder)
    if average is not None:
        average.load_state_dict(torch.load(folder / "average.pt", map_location=accelerator.device, weights_only=True))
    step = json.loads((folder / "step.json").read_text())["step"]
    accelerator.print(f"resumed from step {step} of {folder}")
    return step


def _log(accelerator, output_dir: Path, values: dict):
    accelerator.log(values, step=values["step"])
    if accelerator.is_main_process:
        line = json.dumps(values)
        print(line, flush=True)
        with open(output_dir / "log.jsonl", "a") as file:
            file.write(line + "\n")
