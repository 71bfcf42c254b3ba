"""One Accelerate loop for any model whose output has a `.loss`: schedule, averaging, checkpoints, exact resume.

    train(model, batches, arguments)                       train to the last step
    train(model, batches, arguments, on_step=validation)   with validation; see [`Validation`]

`batches[step]` is a list of inputs; their losses are added up, each times its `loss_weight` if it has one. Batches,
learning rates and random seeds are functions of the step, so a killed run that continues from its last checkpoint ends
with the same weights as an uninterrupted run.

    output_dir/ log.jsonl         loss and learning rate
                checkpoint/       the last checkpoint, with digests; checkpoint.old/ is the one before it
"""

import contextlib
import copy
import importlib.util
import json
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import LoggerType, broadcast_object_list, parse_flag_from_env, set_seed
from torch import nn

from .. import precision
from ..files import write_text
from .checkpoints import remove_checkpoints, resume, save_checkpoint

LOG = "log.jsonl"
WITHOUT_EFFECT = ("output_dir", "trackers", "num_workers", "checkpoint_every", "log_every")  # on the trained weights
INSIDE_OF_LAYER = re.compile(r"\blayers\.\d+\.")
LAYER = re.compile(r"backbone\..*?\blayers\.(\d+)\.")


@dataclass
class TrainingArguments:
    """The settings of [`train`].

    Args:
        output_dir (`str`): folder of checkpoints, `log.jsonl` and the trained model.
        steps (`int`): optimizer steps.
        learning_rate (`float`): learning rate of parameters that `learning_rates` does not name.
        learning_rates (`dict[str, float]`): learning rates by prefix of the parameter's name; 0 freezes.
        layer_decay (`float`): the learning rate of a backbone layer, divided by that of the layer above it; what lies
            below the layers counts as one layer.
        warmup (`float`): share of the steps in which the learning rate rises; then it falls as a cosine.
        optimizer (`str`): "adamw"; or "muon", for training from scratch: Muon for matrices inside of layers, with
            updates scaled to the size of AdamW's so that the same learning rates fit, and AdamW for the rest.
        weight_decay (`float`): the optimizer's weight decay.
        max_grad_norm (`float`): largest norm of the gradient, which is clipped to it.
        average (`float`): decay of an exponential moving average of the weights, which is saved; 0 for no average.
        average_from (`float`): share of the steps after which the average starts.
        mixed_precision (`str`): "no" (float32), "bf16", "fp16", or "auto": bf16 where the hardware supports it, else
            float32; see [`chosen_precision`].
        gradient_checkpointing (`bool`): compute every layer twice and store only its input: less memory, a third
            more time.
        num_workers (`int`): processes that prepare batches.
        trackers (`list[str]`): such as "tensorboard", "trackio", "wandb"; see [`new_accelerator`].
        checkpoint_every (`int`), log_every (`int`): intervals in steps; 0 for never.
        seed (`int`): seed of all random choices.
    """

    output_dir: str
    steps: int = 1_000
    learning_rate: float = 1e-3
    learning_rates: dict[str, float] = field(default_factory=dict)
    layer_decay: float = 1.0
    warmup: float = 0.1
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    average: float = 0.0
    average_from: float = 0.3
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    gradient_checkpointing: bool = False
    num_workers: int = 0
    trackers: list[str] = field(default_factory=list)
    checkpoint_every: int = 200
    log_every: int = 50
    seed: int = 0


def new_accelerator(arguments: TrainingArguments, run_name: str | None = None) -> Accelerator:
    """An accelerator for these arguments, with started trackers.

    Args:
        run_name (`str`, *optional*): name of the run in the trackers; by default, the last part of `output_dir`.

    Raises:
        ImportError: the package of a tracker is not installed.
        ValueError: Accelerate doesn't know a tracker.
    """
    for name in arguments.trackers:
        if name not in LoggerType.list():
            raise ValueError(f"`trackers` names {name!r}; Accelerate knows {', '.join(LoggerType.list())}.")
        packages = ("tensorboard", "tensorboardX") if name == "tensorboard" else (name,)
        if not any(map(importlib.util.find_spec, packages)):
            raise ImportError(f"`trackers` names {name!r}, which isn't installed: `pip install {name}`.")
    AcceleratorState._reset_state()  # it would keep the precision of the process's first training
    accelerator = Accelerator(
        mixed_precision=chosen_precision(arguments),
        log_with=arguments.trackers or None,
        project_dir=arguments.output_dir,
        # in a batch without audio or without codes, some weights are unused
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if arguments.trackers:
        accelerator.init_trackers(run_name or Path(arguments.output_dir).resolve().name)
    return accelerator


def process_state() -> PartialState:
    """The processes and the device of a later [`new_accelerator`]."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))  # PartialState() ignores the variable


def chosen_precision(arguments: TrainingArguments) -> str:
    """The `mixed_precision` of the arguments; for `"auto"`, the main process chooses and prints it.

    There is a warning if bf16 is chosen on a CPU where it is slower than float32.
    """
    state = process_state()
    if arguments.mixed_precision == "auto":
        choice = [precision.choose_precision(state.device)]
        broadcast_object_list(choice)
        name, reason = choice[0]
        state.print(f"mixed precision: {name} ({reason})")
        return name
    if arguments.mixed_precision == "bf16" and state.device.type == "cpu" and precision.bf16_time() > 1:
        warnings.warn(
            f"Matrix products in bf16 take {precision.bf16_time():.1f} times as long as in float32 on this CPU. Use "
            "`mixed_precision: auto`, which chooses the faster one.",
            stacklevel=3,
        )
    return arguments.mixed_precision


def train(
    model: nn.Module,
    batches: Sequence[list[dict[str, torch.Tensor]]],
    arguments: TrainingArguments,
    *,
    accelerator: Accelerator | None = None,
    on_step: Callable[[int, nn.Module], bool | None] | None = None,
    keep_checkpoint: bool = False,
) -> nn.Module:
    """Train a model, from the last checkpoint in `output_dir` if there is one.

    Under FSDP the weights are divided among the processes, so there is neither averaging nor `on_step`, and only the
    main process returns trained weights.

    Args:
        model (`nn.Module`): a model whose output has a `loss`.
        batches (`Sequence`): `batches[step]` is a list of keyword arguments of the model.
        arguments ([`TrainingArguments`]): the settings.
        accelerator (`Accelerator`, *optional*): by default, a new one from [`new_accelerator`].
        on_step (callable, *optional*): called after every step as `(step, model)`, with the model that would be
            returned at that step; training ends when it returns true.
        keep_checkpoint (`bool`): do not remove the checkpoints; the caller must call [`remove_checkpoints`] after
            saving the model.

    Returns:
        `nn.Module`: the model, or a copy with averaged weights, on the accelerator's device and in evaluation mode.

    Raises:
        FloatingPointError: the loss is not finite.
        OSError: a checkpoint could not be written; the checkpoint before it is intact.
        ValueError: arguments that don't fit the model, or only damaged checkpoints.
    """
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    accelerator = accelerator or new_accelerator(arguments)
    sharded = accelerator.distributed_type == DistributedType.FSDP
    if sharded and (arguments.average or on_step is not None):
        raise ValueError("Under FSDP no process has all weights: set `average: 0` and leave `validation` out.")
    set_seed(arguments.seed)
    if arguments.gradient_checkpointing:
        _checkpoint_gradients(model)
    optimizers = new_optimizers(model, arguments)
    average = copy.deepcopy(model).eval().requires_grad_(False) if arguments.average else None
    whole = copy.deepcopy(model) if sharded else None
    if accelerator.distributed_type == DistributedType.DEEPSPEED:  # it asks, but our batches need no loader
        accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1
    model, *optimizers = accelerator.prepare(model, *optimizers)
    if average is not None:
        average.to(accelerator.device)
    step = resume(accelerator, output_dir, average)
    if accelerator.is_main_process:
        _forget_log_after(step, output_dir / LOG)
    started, first = time.perf_counter(), step
    for parts in _batches_from(batches, step, arguments):
        torch.manual_seed(arguments.seed * 1_000_003 + step * 1_009 + accelerator.process_index)
        loss = _optimizer_step(model, optimizers, parts=parts, step=step, arguments=arguments, accelerator=accelerator)
        step += 1
        if average is not None:
            averaging = step >= arguments.average_from * arguments.steps
            _update_average(average, accelerator.unwrap_model(model), arguments.average if averaging else 0.0)
        if arguments.log_every and step % arguments.log_every == 0:
            mean = accelerator.reduce(torch.tensor(loss, device=accelerator.device), "mean").item()
            seconds = (time.perf_counter() - started) / (step - first)
            rate = max(group["lr"] for optimizer in optimizers for group in optimizer.param_groups)
            values = {"loss": round(mean, 4), "learning_rate": rate, "seconds_per_step": round(seconds, 3)}
            _log(accelerator, output_dir, {"step": step, **values})
        if on_step is not None:
            current = average if average is not None else accelerator.unwrap_model(model)
            if on_step(step, current):
                break
        if arguments.checkpoint_every and step % arguments.checkpoint_every == 0 and step < arguments.steps:
            save_checkpoint(accelerator, output_dir, step, average)
    if not keep_checkpoint:
        remove_checkpoints(output_dir, accelerator)
    if sharded:
        weights = accelerator.get_state_dict(model)
        if accelerator.is_main_process:
            whole.load_state_dict(weights)
    elif average is not None:
        whole = average
    else:
        whole = accelerator.unwrap_model(model)
    accelerator.free_memory()  # otherwise, checkpoints of a later training would contain this model, too
    return whole.eval()


def parameter_groups(model: nn.Module, arguments: TrainingArguments) -> list[dict]:
    """Parameters by learning rate, from the longest matching prefix in `learning_rates`; a rate of 0 freezes."""
    if not 0 < arguments.layer_decay <= 1:
        raise ValueError(f"`layer_decay` is {arguments.layer_decay!r}; it must be above 0, and 1 for none.")
    groups = {}
    layers = [int(match[1]) for name, _ in model.named_parameters() if (match := LAYER.search(name))]
    for name, parameter in model.named_parameters():
        prefixes = [prefix for prefix in arguments.learning_rates if name.startswith(prefix)]
        rate = arguments.learning_rates[max(prefixes, key=len)] if prefixes else arguments.learning_rate
        if arguments.layer_decay != 1 and layers and re.search(r"\bbackbone\.", name):
            match = LAYER.search(name)
            rate *= arguments.layer_decay ** (max(layers) - (int(match[1]) if match else -1))
        if rate == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            groups.setdefault(rate, []).append(parameter)
    unmatched = [p for p in arguments.learning_rates if not any(n.startswith(p) for n, _ in model.named_parameters())]
    if unmatched:
        raise ValueError(f"`learning_rates` names {unmatched}, but no parameter of the model starts with it.")
    if not groups:
        raise ValueError("No parameter is left to train: every learning rate is 0.")
    return [{"params": parameters, "lr": rate, "highest_lr": rate} for rate, parameters in groups.items()]


def new_optimizers(model: nn.Module, arguments: TrainingArguments) -> list[torch.optim.Optimizer]:
    """AdamW, or with `optimizer: muon`, Muon for matrices inside of layers and AdamW for the rest."""
    if arguments.optimizer not in ("adamw", "muon"):
        raise ValueError(f"`optimizer` is {arguments.optimizer!r}; it must be 'adamw' or 'muon'.")
    groups, matrices = parameter_groups(model, arguments), []
    if arguments.optimizer == "muon":
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"`optimizer: muon` needs torch 2.9 or newer; this is {torch.__version__}.")
        inside = {id(p) for name, p in model.named_parameters() if p.ndim == 2 and INSIDE_OF_LAYER.search(name)}
        matrices = [{**group, "params": [p for p in group["params"] if id(p) in inside]} for group in groups]
        groups = [{**group, "params": [p for p in group["params"] if id(p) not in inside]} for group in groups]
    optimizers = []
    if groups := [group for group in groups if group["params"]]:
        optimizers.append(torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=arguments.weight_decay))
    if matrices := [group for group in matrices if group["params"]]:
        optimizers.append(
            torch.optim.Muon(matrices, weight_decay=arguments.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return optimizers


def learning_rate_factor(step: int, arguments: TrainingArguments) -> float:
    """Linear warm-up to 1, then half a cosine to 0."""
    warmup = max(1, int(arguments.warmup * arguments.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, arguments.steps - warmup)))


def _checkpoint_gradients(model: nn.Module):
    enable = getattr(model, "activation_checkpointing_enable", None) or getattr(
        model, "gradient_checkpointing_enable", None
    )
    if enable is None:
        raise ValueError(
            f"`gradient_checkpointing` is on, but a {type(model).__name__} has none. It is for trained "
            "backbones; leave it out if features are computed once."
        )
    enable()


def _batches_from(batches: Sequence, step: int, arguments: TrainingArguments) -> Iterator[list[dict]]:
    """Yield the batches from `step` on; workers prepare them."""
    steps = range(step, arguments.steps)
    if arguments.num_workers == 0:
        return (batches[step] for step in steps)
    return iter(
        torch.utils.data.DataLoader(batches, batch_size=None, sampler=steps, num_workers=arguments.num_workers)
    )


def _optimizer_step(model: nn.Module, optimizers: list, *, parts, step, arguments, accelerator) -> float:
    """Train on one batch and return its loss."""
    model.train()
    loss = sum(
        _backward(accelerator, model, inputs, last=number == len(parts)) for number, inputs in enumerate(parts, 1)
    )
    if not math.isfinite(loss):
        raise FloatingPointError(f"The loss is {loss} at step {step}; lower the learning rate or check the data.")
    accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
    factor = learning_rate_factor(step, arguments)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["highest_lr"] * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss


def _backward(accelerator: Accelerator, model: nn.Module, inputs: dict, last: bool) -> float:
    """Add the gradient of one part of a batch; at the last part, the processes average their gradients."""
    inputs = {name: tensor.to(accelerator.device) for name, tensor in inputs.items()}
    weight = inputs.pop("loss_weight", 1.0)
    accelerator.sync_gradients = last
    with contextlib.nullcontext() if last else accelerator.no_sync(model):
        loss = model(**inputs).loss * weight
        accelerator.backward(loss)
    return loss.detach().float().item()


@torch.no_grad()
def _update_average(average, model, decay):
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        if new.requires_grad:
            kept.lerp_(new.to(kept.dtype), 1 - decay)
    for kept, new in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(new)


def _log(accelerator, output_dir: Path, values: dict):
    accelerator.log(values, step=values["step"])
    if accelerator.is_main_process:
        line = json.dumps(values)
        print(line, flush=True)
        with open(output_dir / LOG, "a") as file:
            file.write(line + "\n")


def _forget_log_after(step: int, file: Path) -> None:
    """Remove the lines of steps that a resumed run repeats, and an incomplete line."""
    if file.exists():
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        write_text(file, "".join(line for line in lines if 0 < _step_of(line) <= step))


def _step_of(line: str) -> int:
    """The step of a line of the log; 0 for an incomplete line."""
    try:
        return json.loads(line)["step"] if line.endswith("\n") else 0
    except (ValueError, TypeError, KeyError):
        return 0
