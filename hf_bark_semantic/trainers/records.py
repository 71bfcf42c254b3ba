"""The record of an encoder's training, from the files beside its weights."""

from pathlib import Path

from ..files import read_json
from ..packaged import named_encoder


def training_record(place: str) -> dict | None:
    """What an encoder was trained on (`fold`, `seed`, ...); `None` where no file in its folder says it."""
    folder = Path(named_encoder(place))
    if (folder / "training.json").is_file():
        return read_json(folder / "training.json")
    if (folder / "evaluation.json").is_file():
        return read_json(folder / "evaluation.json").get("training")
    return None


__all__ = ["training_record"]
