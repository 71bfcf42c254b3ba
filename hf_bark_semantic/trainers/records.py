"""What an encoder was trained on, as the files beside its weights say it."""

import json
from pathlib import Path

from ..packaged import named_encoder


def training_record(place: str) -> dict | None:
    """What an encoder was trained on (`fold`, `seed`, ...); `None` where no file in its folder says it."""
    folder = Path(named_encoder(place))
    if (folder / "training.json").is_file():
        return json.loads((folder / "training.json").read_text())
    if (folder / "evaluation.json").is_file():
        return json.loads((folder / "evaluation.json").read_text()).get("training")
    return None


__all__ = ["training_record"]
