"""The trained weights of a model: save and load them, and store only them in checkpoints."""

from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save
from torch import nn

from ..files import atomic_write


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_weights(weights: dict[str, nn.Parameter], file: Path) -> None:
    with atomic_write(file) as opened:
        opened.write(save({name: value.detach().cpu().contiguous() for name, value in weights.items()}))


@torch.no_grad()
def load_weights(model: nn.Module, file: Path) -> None:
    """Load a file into the trainable weights of a model.

    Raises:
        ValueError: the file contains other weights.
    """
    weights, found = trainable(model), load_file(file)
    if weights.keys() != found.keys():
        raise ValueError(f"{file} contains other weights than this config trains. Name another output_dir.")
    for name, parameter in weights.items():
        parameter.copy_(found[name])


def checkpoint_trained_weights_only(accelerator: Accelerator) -> None:
    """Keep frozen weights, which may be quantized, out of checkpoints."""

    def save(models, states, folder):
        if accelerator.is_main_process:
            save_weights(trainable(accelerator.unwrap_model(models[0])), Path(folder) / "trained.safetensors")
        states.clear()

    def load(models, folder):
        load_weights(accelerator.unwrap_model(models[0]), Path(folder) / "trained.safetensors")
        models.clear()

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)
