"""Small checkpoints of quantizers in the format of github.com/gitmylo."""

import json
import zipfile
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import torch
from torch import nn

VOCAB = 50
SIZES = {"input_size": 32, "hidden_size": 24, "output_size": VOCAB, "version": 0}


def seeded(module: nn.Module, bound: float = 0.3, seed: int = 1) -> nn.Module:
    """Larger weights than a new module has, so that no two outputs look alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return module.eval()


class Quantizer(nn.Module):
    """As in github.com/gitmylo: features of all frames -> one token each."""

    def __init__(self, input_size=32, hidden_size=24, output_size=VOCAB, version=0, intermediate_size=40):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, 2, batch_first=True)
        if version:
            self.intermediate = nn.Linear(hidden_size, intermediate_size)
        self.fc = nn.Linear(intermediate_size if version else hidden_size, output_size)

    def forward(self, features):
        states = self.lstm(features)[0]
        return self.fc(self.intermediate(states) if hasattr(self, "intermediate") else states)


def save_quantizer(path: Path, state, info=None) -> Path:
    """`torch.save` and, as a record of the same zip, `.info`."""
    torch.save(state, path)
    if info is not None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"{path.stem}/.info", info if isinstance(info, str) else json.dumps(info))
    return path


def save_as_gitmylo(path: Path, quantizer: Quantizer, info: dict | None = None) -> Path:
    """A file as github.com/gitmylo's program leaves it after a training on a GPU.

    It pickles `state_dict()` itself, an `OrderedDict` with its `_metadata`. The LSTM's weights are parts of one
    storage, as cuDNN wants them, and every storage is tagged with the device that it was on.
    """
    weights = list(quantizer.lstm.parameters())
    together = torch.cat([weight.detach().flatten() for weight in weights])
    for weight, part in zip(weights, together.split([weight.numel() for weight in weights]), strict=True):
        weight.data = part.view_as(weight)
    with mock.patch.object(torch.serialization, "location_tag", lambda storage: "cuda:0"):
        return save_quantizer(path, quantizer.state_dict(), info)


def quantizer_file(folder: Path, version: int = 0, **changes) -> Path:
    """A good quantizer, apart from what is changed: the `info` as a whole, or weights by their names."""
    info = changes.pop("info", SIZES | {"version": version})
    state = OrderedDict(seeded(Quantizer(version=version), 1.0).state_dict()) | changes
    state = OrderedDict((name, weight) for name, weight in state.items() if weight is not None)
    return save_quantizer(folder / "quantizer.pth", state, info)
