"""The record of an encoder's training, from the files beside its weights."""

from pathlib import Path

from ..files import read_json
from ..packaged import named_encoder


def training_record(place: str) -> dict | None:
    """The settings of an encoder's training (`fold`, `seed`, ...); `None` if its folder has no record of them."""
    folder = Path(named_encoder(place))
    if (folder / "training.json").is_file():
        return read_json(folder / "training.json")
    if (folder / "evaluation.json").is_file():
        return read_json(folder / "evaluation.json").get("training")
    return None


__all__ = ["training_record"]
