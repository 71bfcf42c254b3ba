"""The voices that a Bark brings along, by name; nothing here loads a Bark, or torch.

voice_presets      their names, as its list of them says
preset_language    the language that such a name tells
"""

import json
import os
import re
from pathlib import Path

from ..conversion.hub import hub_file
from ..packaged import NANO, bark_folder

LIST = "speaker_embeddings_path.json"  # what BarkProcessor writes; "repo_or_path" in it is no voice
LANGUAGES = {  # suno-ai/bark, README
    "de": "German", "en": "English", "es": "Spanish", "fr": "French", "hi": "Hindi", "it": "Italian", "ja": "Japanese",
    "ko": "Korean", "pl": "Polish", "pt": "Portuguese", "ru": "Russian", "tr": "Turkish", "zh": "Chinese",
}  # fmt: skip

_NAME = re.compile(r"(?:v2/)?([a-z]{2})_speaker_\d+")


def voice_presets(bark: str | os.PathLike = NANO) -> list[str]:
    """Names of the voices that come with a Bark, in the order of its list; none where a folder has no list.

    Args:
        bark (`str` or `Path`): folder, Hub id, or `"nano"` for the packaged Bark.

    Raises:
        OSError: there is neither such a folder nor such a repository, or the list cannot be fetched.
        ValueError: the list is damaged.
    """
    place = Path(bark_folder(bark))
    if place.is_dir() and not (place / LIST).exists():
        return []
    file = place / LIST if place.is_dir() else hub_file(str(bark), LIST)[0]
    try:
        presets = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(file)!r} is no JSON: {error}. Download it again.") from error
    if not isinstance(presets, dict):
        raise ValueError(f"{str(file)!r} holds a {type(presets).__name__}; it must hold a list of voices by name.")
    return [name for name in presets if name != "repo_or_path"]


def preset_language(name: str) -> str | None:
    """`"German"` for Suno's `"v2/de_speaker_3"`; `None` for a name that does not say."""
    found = _NAME.fullmatch(name)
    return LANGUAGES.get(found[1]) if found else None


__all__ = ["LANGUAGES", "preset_language", "voice_presets"]
