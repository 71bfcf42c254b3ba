"""The contents of the package: two encoders, nano, two recordings, training recipes and templates of model cards.

    default_encoder, nano_encoder, nano_bark    folders of models
    encoder_for                                 the one of the two encoders that has a Bark's tokens
    named_encoder                               names of encoders: the packaged ones and the community's
    bark_folder                                 names of Barks: "nano" for the packaged one
    example_recording, nano_recording           files
    recipe, card_template                       text files, in the wheel and in a checkout
    changed_files                               packaged models and recordings that differ from the published ones

Nothing here imports torch or transformers.
"""

import difflib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from .files import sha256_of_file

PACKAGE = Path(__file__).parent

NANO = "nano"  # stands for the packaged miniature wherever a Bark is named
BUILTIN = "builtin"  # stands for the packaged encoder that fits a Bark, by default for that of Suno's
NANOS = "nano-encoder"  # stands for that of nano
COMMUNITY_PREFIX = "community:"  # before the name of an encoder that others have published
BUILTIN_ENCODER = PACKAGE / "checkpoints" / "bark-encoder"
NANO_BARK = PACKAGE / "checkpoints" / "nano"
NANO_ENCODER = PACKAGE / "checkpoints" / "nano-encoder"
EXAMPLE_RECORDING = PACKAGE / "recordings" / "inaugural_address_1961.flac"
NANO_RECORDING = PACKAGE / "recordings" / "nano_reference.flac"
DIGESTS = PACKAGE / "checkpoints" / "SHA256SUMS"  # as `sha256sum` writes and, in PACKAGE, checks it
RECIPES = (PACKAGE / "recipes", PACKAGE.parent / "training" / "configs")  # in a wheel, in a checkout
CARD_TEMPLATES = (PACKAGE / "model_cards", PACKAGE.parent / "model_cards")

_REINSTALL = "Type: pip install --force-reinstall --no-deps hf_bark_semantic"


def default_encoder() -> Path:
    """Folder of the packaged encoder for the tokens of Suno's Bark.

    ```python
    import hf_bark_semantic
    from transformers import AutoModel

    model = AutoModel.from_pretrained(hf_bark_semantic.default_encoder())
    ```

    Returns:
        `Path`: in the installed package.

    Raises:
        FileNotFoundError: this installation has none.
    """
    return _packaged(BUILTIN_ENCODER, "encoder", "a folder or a Hub id, on the command line with --encoder")


def nano_bark() -> Path:
    """Folder of nano, a miniature Bark with processor and voice presets, trained from scratch on synthetic speech.

    ```python
    import hf_bark_semantic
    from transformers import BarkModel

    bark = BarkModel.from_pretrained(hf_bark_semantic.nano_bark())
    ```

    Returns:
        `Path`: in the installed package.

    Raises:
        FileNotFoundError: this installation has none.
    """
    return _packaged(NANO_BARK, "nano", "another Bark, such as suno/bark-small, on the command line with --bark")


def nano_encoder() -> Path:
    """Folder of the encoder for nano's tokens.

    ```python
    import hf_bark_semantic
    from transformers import pipeline

    encode = pipeline("audio-to-bark-semantic", model=str(hf_bark_semantic.nano_encoder()))
    ```

    Returns:
        `Path`: in the installed package.

    Raises:
        FileNotFoundError: this installation has none.
    """
    return _packaged(NANO_ENCODER, "encoder of nano", "a folder or a Hub id, on the command line with --encoder")


def nano_recording() -> Path:
    """Recording of a voice that no stage of nano was trained on, some seconds long.

    ```python
    import hf_bark_semantic

    waveform = hf_bark_semantic.load_audio(hf_bark_semantic.nano_recording())
    ```

    Returns:
        `Path`: in the installed package.

    Raises:
        FileNotFoundError: this installation has none.
    """
    return _packaged(NANO_RECORDING, "recording for nano", "a recording of your own")


def example_recording() -> Path:
    """The packaged example recording: 11 s of J. F. Kennedy's inaugural address, 16 kHz, in the public domain.

    ```python
    import hf_bark_semantic

    waveform = hf_bark_semantic.load_audio(hf_bark_semantic.example_recording())
    ```

    Returns:
        `Path`: in the installed package.
    """
    return EXAMPLE_RECORDING


def bark_folder(bark: str | os.PathLike) -> str | os.PathLike:
    """The folder of nano for `"nano"`; any other folder or Hub id as it is.

    Raises:
        FileNotFoundError: this installation has no nano.
    """
    return nano_bark() if bark == NANO else bark


def encoder_for(bark: str | os.PathLike | int) -> Path:
    """Folder of the packaged encoder that has a Bark's semantic tokens.

    Args:
        bark (`str`, `Path` or `int`): `"nano"`, a folder or a Hub id; or how many semantic tokens the Bark has.

    Returns:
        `Path`: the encoder for Suno's Bark also where the number of tokens is unknown, as with a Hub id, or neither
            encoder has so many; `check_encoder` compares the two where both are loaded.

    Raises:
        FileNotFoundError: this installation lacks that encoder.
    """
    if bark == NANO:
        return nano_encoder()
    vocab_size = bark if isinstance(bark, int) else _semantic_vocab_size(Path(bark))
    return nano_encoder() if vocab_size is not None and vocab_size == _vocab_size(NANO_ENCODER) else default_encoder()


@overload
def named_encoder(names: str, bark: str | os.PathLike | None = None) -> str: ...
@overload
def named_encoder(names: Sequence[str], bark: str | os.PathLike | None = None) -> str | list[str]: ...
def named_encoder(names, bark=None):
    """The folder or Hub id of a named encoder, for `pipeline`; a list for several encoders that work as one.

    ```python
    import hf_bark_semantic
    from transformers import pipeline

    encode = pipeline("audio-to-bark-semantic", model=hf_bark_semantic.named_encoder("builtin"))
    ```

    Args:
        names (`str` or sequence of `str`): folders and Hub ids, which stay as they are; `"builtin"` and
            `"nano-encoder"` for the packaged encoders; names such as `"community:en"` for encoders by
            others, which are downloaded and converted the first time: [`conversion.community.community_encoder`].
        bark (`str` or `Path`, *optional*): the Bark that `"builtin"` must fit; see [`encoder_for`].

    Returns:
        `str` or `list[str]`: the folder or Hub id, or those of several names.

    Raises:
        FileNotFoundError: this installation lacks the packaged encoder.
        OSError: a community encoder could not be downloaded.
        ValueError: there is no community encoder of that name, or it cannot be converted.
    """
    if isinstance(names, str):
        return _place_of_encoder(names, bark)
    places = [_place_of_encoder(name, bark) for name in names]
    return places[0] if len(places) == 1 else places


def recipe(name: str) -> Path:
    """The config of a training by its name, such as `"builtin"`; see `training/README.md`.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    return _text_file(RECIPES, name, ".yaml", "recipe")


def card_template(name: str) -> Path:
    """The template of a model or dataset card: `"encoder"`, `"adapter"`, `"corpus"`, `"nano"` or `"nano-encoder"`.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    return _text_file(CARD_TEMPLATES, name, ".md", "card template")


def changed_files() -> list[str]:
    """Flaws of the packaged models and recordings, found by their SHA-256; reads all of them.

    Returns:
        `list[str]`: a sentence for each file that is missing, another than the published one, or of no list.
    """
    try:
        lines = [line.split(maxsplit=1) for line in DIGESTS.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return [f"There is no {DIGESTS}, which lists the files. {_REINSTALL}"]
    published = {name: digest for digest, name in lines}
    here = {path.relative_to(PACKAGE).as_posix() for path in _carried()}
    flaws = [f"{name} is missing. {_REINSTALL}" for name in sorted(published.keys() - here)]
    flaws += [f"{name} is not a file of this package. Remove it." for name in sorted(here - published.keys())]
    changed = [name for name in sorted(here & published.keys()) if sha256_of_file(PACKAGE / name) != published[name]]
    return flaws + [f"{name} is not the file that was published. {_REINSTALL}" for name in changed]


def _carried() -> list[Path]:
    folders = (PACKAGE / "checkpoints", PACKAGE / "recordings")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and path != DIGESTS]


def _place_of_encoder(name: str, bark: str | os.PathLike | None) -> str:
    if name == BUILTIN:
        return str(default_encoder() if bark is None else encoder_for(bark))
    if name == NANOS:
        return str(nano_encoder())
    if name.startswith(COMMUNITY_PREFIX):
        from .conversion.community import community_encoder

        return str(community_encoder(name.removeprefix(COMMUNITY_PREFIX)))
    return name


def _packaged(path: Path, what: str, way_out: str) -> Path:
    """`path`, if it is the folder of a model or a file."""
    missing = path if path.suffix else path / "config.json"
    if not missing.is_file():
        raise FileNotFoundError(
            f"This installation has no {what}: there is no {missing}. Name {way_out}, or reinstall the package."
        )
    return path


def _text_file(folders: tuple[Path, ...], name: str, suffix: str, what: str) -> Path:
    for folder in folders:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    names = sorted({file.stem for folder in folders for file in folder.glob(f"*{suffix}")})
    near = "".join(f"; did you mean {match}?" for match in difflib.get_close_matches(name, names, 1)) or "."
    raise FileNotFoundError(f"There is no {what} {name!r}{near} There are {', '.join(names)}.")


def _vocab_size(encoder: Path) -> int | None:
    return _read_json(encoder / "config.json").get("vocab_size")


def _semantic_vocab_size(bark: Path) -> int | None:
    """Of a folder; `None` where there is none, or it does not say."""
    return (_read_json(bark / "generation_config.json").get("semantic_config") or {}).get("semantic_vocab_size")


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


__all__ = [
    "BUILTIN",
    "COMMUNITY_PREFIX",
    "NANO",
    "NANOS",
    "bark_folder",
    "card_template",
    "changed_files",
    "default_encoder",
    "encoder_for",
    "example_recording",
    "named_encoder",
    "nano_bark",
    "nano_encoder",
    "nano_recording",
    "recipe",
]
