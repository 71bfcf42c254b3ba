"""Doors for folders of `from_pretrained`: encoders (config, processor, weights) and adapters for Bark."""

from argparse import Namespace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from transformers.utils import logging

from fuzz.doors.door import Door, digest
from fuzz.mutations import mutated
from hf_bark_semantic.bark.adapter_bundle import load_adapters, save_adapters
from hf_bark_semantic.bark.adapters import AdapterError, add_adapters, lora_config, remove_adapters
from hf_bark_semantic.bark.voice_prompt import VoicePromptError
from hf_bark_semantic.cli.console import UsageError, load_encoder
from tiny import save_tiny_encoder, tiny_bark, tiny_prompt


def files_of(save) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        save(Path(folder))
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def folder_door(name: str, save, read, errors: tuple[type[Exception], ...], share: int) -> Door:
    """A door for a folder with one damaged file."""
    sound = cache(lambda: files_of(save))

    def make(random: Random, folder: Path) -> Path:
        worse = random.choice(sorted(sound()))
        for file, content in sound().items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(mutated(content, random) if file == worse else content)
        return folder

    return Door(name, make, read, errors, share)


def read_encoder(folder: Path) -> str:
    """Load an encoder as the commands do."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    arguments = Namespace(encoder=[str(folder)], encoder_weights=None, device="cpu", dtype="auto")
    encode = load_encoder(arguments)
    return digest(encode.model, encode.processor.to_dict(), encode.model.config.to_dict())


# ---- adapters


@cache
def bark():
    return tiny_bark()


def save_encoder(folder: Path) -> None:
    logging.disable_progress_bar()
    save_tiny_encoder(folder)


def save_adapter(folder: Path) -> None:
    add_adapters(bark(), {"semantic": lora_config(rank=2)}, name="seed")
    save_adapters(bark(), folder, name="seed", base_model="tiny", voice_prompt=tiny_prompt())
    remove_adapters(bark(), "seed")


def read_adapter(folder: Path) -> str:
    bundle = load_adapters(bark(), folder, name="read")
    weights = [value for key, value in bark().semantic.state_dict().items() if ".read." in key]
    remove_adapters(bark(), "read")
    return digest(bundle.ranks, bundle.voice_prompt, *weights)


DOORS = [
    folder_door("encoder", save_encoder, read_encoder, (UsageError,), 12),
    folder_door("adapter", save_adapter, read_adapter, (AdapterError, VoicePromptError), 50),
]
