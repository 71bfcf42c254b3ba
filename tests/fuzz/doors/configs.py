"""Doors for training recipes in YAML, and for the configs of models."""

import json
from functools import partial
from pathlib import Path

from fuzz.doors.door import digest, file_door
from hf_bark_semantic import BarkSemanticEncoderConfig
from hf_bark_semantic.packaged import recipe
from hf_bark_semantic.trainers.bark_config import read_bark_config
from hf_bark_semantic.trainers.encoder_config import read_encoder_config
from tiny import tiny_encoder


def recipes(*names: str) -> list[bytes]:
    return [recipe(name).read_bytes() for name in names]


def read_encoder_recipe(path: Path) -> str:
    return digest(read_encoder_config(path, fold=1))


def read_bark_recipe(path: Path) -> str:
    return digest(read_bark_config(path))


def configs() -> list[bytes]:
    encoders = tiny_encoder(), tiny_encoder("whisper", codec_hidden_size=8, head_type="transformer")
    return [json.dumps(encoder.config.to_dict()).encode() for encoder in encoders]


def read_config_json(path: Path) -> str:
    values = json.loads(path.read_text("utf-8"))
    return digest(BarkSemanticEncoderConfig(**values).to_dict())


BARK_RECIPES = ("finetune_lora", "finetune_full")
DOORS = [
    file_door("recipe of an encoder", partial(recipes, "builtin"), read_encoder_recipe, ValueError, 80, "a.yaml"),
    file_door("recipe of a Bark", partial(recipes, *BARK_RECIPES), read_bark_recipe, ValueError, 100, "a.yaml"),
]
