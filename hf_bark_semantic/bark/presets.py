"""The voice presets of a Bark, without loading a Bark or torch.

voice_presets      the names in the Bark's list of presets
preset_language    the language of a preset
preset_sex         male or female, by the pitch of a preset
"""

import json
import os
import re
from functools import cache
from pathlib import Path

from ..conversion.hub import hub_file
from ..files import read_json
from ..packaged import NANO, bark_folder

LIST = "speaker_embeddings_path.json"  # written by BarkProcessor; its key "repo_or_path" is not a voice
LANGUAGES = {  # suno-ai/bark, README
    "de": "German", "en": "English", "es": "Spanish", "fr": "French", "hi": "Hindi", "it": "Italian", "ja": "Japanese",
    "ko": "Korean", "pl": "Polish", "pt": "Portuguese", "ru": "Russian", "tr": "Turkish", "zh": "Chinese",
}  # fmt: skip

PITCHES = Path(__file__).with_name("preset_pitches.json")  # from training/studies/measure_preset_pitch.py
LOW_HZ, HIGH_HZ = 150, 180  # LibriSpeech has peaks at 100 and 190 Hz; 31 of 251 speakers lie in between

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
    presets = read_json(file, cure="Download it again.")
    return [name for name in presets if name != "repo_or_path"]


def preset_language(name: str, bark: str | os.PathLike) -> str | None:
    """The language in a preset's name, such as `"German"` for `"v2/de_speaker_3"`; `None` if there is none.

    Args:
        name (`str`), bark (`str` or `Path`): one of [`voice_presets`], and its Bark.
    """
    if bark == NANO:
        return "English"
    found = _NAME.fullmatch(name)
    return LANGUAGES.get(found[1]) if found else None


def preset_sex(name: str, bark: str | os.PathLike) -> str | None:
    """`"male"` or `"female"` by the median pitch of a preset: up to 150 Hz, and from 180 Hz on.

    Args:
        name (`str`), bark (`str` or `Path`): one of [`voice_presets`], and its Bark.

    Returns:
        `str`; `None` between those two, and without a measured pitch. The pitch is only a hint, because Suno has not
            published the speakers' sex.
    """
    pitch_hz = _pitches()["nano" if bark == NANO else "suno"].get(name)
    if pitch_hz is None or LOW_HZ < pitch_hz < HIGH_HZ:
        return None
    return "male" if pitch_hz <= LOW_HZ else "female"


@cache
def _pitches() -> dict[str, dict[str, int]]:
    return json.loads(PITCHES.read_text(encoding="utf-8"))


__all__ = ["LANGUAGES", "preset_language", "preset_sex", "voice_presets"]
