"""Label files as synthetic speech, with the model, the date and the voice.

    Provenance         the label; `save_audio(..., provenance=...)` writes it to .wav and .flac
    read_provenance    read the label of a file
    prompt_sha256      the fingerprint of a voice prompt in the label

The label is the file's comment, a JSON object after the words "synthetic speech", so that players show it and most
converters keep it: RIFF's `LIST INFO` chunk (ICMT, ISFT, ICRD) in WAV, Vorbis comments in FLAC and Ogg. The samples
are not changed: the label is not a watermark, and can be removed.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio import open_sound
from ..bark.voice_prompt import VoicePrompt
from ..environment import VERSION

if TYPE_CHECKING:
    import soundfile
    from transformers import BarkModel

SOFTWARE = "hf_bark_semantic"
MARK = "synthetic speech"  # start of the comment
MAX_VALUE_LENGTH = 255  # characters, the limit for names in file systems
MAX_COMMENT_BYTES = 2_000  # libsndfile reads no comment of 2,048 bytes or more from a WAV
DATE_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _now() -> str:
    """The time in UTC, or `SOURCE_DATE_EPOCH` if it is set, for reproducible files."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        now = datetime.now(timezone.utc) if epoch is None else datetime.fromtimestamp(int(epoch), timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(
            f"SOURCE_DATE_EPOCH is {epoch!r}; it must be a whole number of seconds since 1970. Correct or unset it."
        ) from error
    return now.strftime(DATE_FORMAT)


@dataclass(frozen=True)
class Provenance:
    """The origin of a file of synthetic speech: which model made it, in which voice, and when.

    ```python
    import hf_bark_semantic

    provenance = hf_bark_semantic.Provenance(model="suno/bark-small")
    waveform = hf_bark_semantic.load_audio("speech.wav", 24_000)
    hf_bark_semantic.save_audio("spoken.wav", waveform, 24_000, provenance=provenance)
    ```

    Args:
        model (`str`): the Bark: its Hub id, or the name of its folder.
        revision (`str`, *optional*): commit of the Hub id.
        adapter (`str`, *optional*): name of the fine-tuned adapter, if one was used.
        voice_prompt_sha256 (`str`, *optional*): [`prompt_sha256`] of the voice; `None` without one.
        created (`str`): `"2025-01-31T12:00:00Z"`; by default now, or `SOURCE_DATE_EPOCH`.
        software (`str`): by default this package and its version.

    Raises:
        ValueError: a value is longer than 255 characters, not printable, or not a hash or a date; or all are too long.
    """

    model: str
    revision: str | None = None
    adapter: str | None = None
    voice_prompt_sha256: str | None = None
    created: str = field(default_factory=_now)
    software: str = f"{SOFTWARE} {VERSION}"

    def __post_init__(self):
        for name, value in asdict(self).items():
            problem = _problem(name, value)
            if problem is not None:
                raise ValueError(f"`{name}` of a provenance is {str(value)[:80]!r}; it must be {problem}.")
        num_bytes = len(self.comment().encode())
        if num_bytes > MAX_COMMENT_BYTES:
            raise ValueError(f"The provenance takes {num_bytes:,} bytes, more than {MAX_COMMENT_BYTES:,}. Shorten it.")

    @classmethod
    def of_speech(
        cls, bark: "BarkModel", voice_prompt: VoicePrompt | None, *, adapter: str | None = None
    ) -> "Provenance":
        """The provenance of speech by a Bark.

        Args:
            bark (`BarkModel`): such as a pipeline's `speak.bark`.
            voice_prompt (`VoicePrompt`, *optional*): the voice, such as a pipeline's `speech["voice_prompt"]`.
            adapter (`str`, *optional*): name of the fine-tuned adapter, if one was used.
        """
        return cls(
            model=model_name(bark.config.name_or_path),
            revision=getattr(bark.config, "_commit_hash", None),
            adapter=adapter,
            voice_prompt_sha256=None if voice_prompt is None else prompt_sha256(voice_prompt),
        )

    def comment(self) -> str:
        """The comment for the file."""
        facts = {name: value for name, value in asdict(self).items() if value is not None}
        return f"{MARK} {json.dumps(facts, ensure_ascii=False)}"

    def write_to(self, sound: "soundfile.SoundFile") -> None:
        """Write into a file that is open for writing and has no samples yet."""
        sound.title = MARK
        sound.comment = self.comment()
        sound.software = self.software
        sound.date = self.created


def read_provenance(path: str | os.PathLike) -> dict[str, str] | None:
    """Read the provenance in an audio file. Anybody can write or remove it: it is a hint, not a proof.

    ```python
    import hf_bark_semantic

    hf_bark_semantic.read_provenance("speech.wav")  # None, or {"model": ..., "created": ..., ...}
    ```

    Args:
        path (`str` or `Path`): wav, flac, ogg or whatever else [`load_audio`] reads.

    Returns:
        `dict` or `None`: the known fields of [`Provenance`], each a printable string of at most 255 characters,
            without those that are missing; `None` if the file does not say, in this form, that it is synthetic.

    Raises:
        AudioError: the file is missing or not an audio file.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`path` is a {type(path).__name__}; it must be the path of a sound file.")
    with open_sound(path) as sound:
        return _parse(sound.comment)


def prompt_sha256(prompt: VoicePrompt) -> str:
    """SHA-256 of the arrays of a voice prompt, 64 hexadecimal digits: the same for equal prompts in any file."""
    digest = hashlib.sha256()
    for array in (prompt.semantic_tokens, prompt.audio_codes):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


def model_name(place: str | os.PathLike) -> str:
    """A Hub id; or the name of a folder, without its path, which would reveal the machine and its user.

    Characters that cannot be printed become "?".
    """
    place = str(place)
    if os.path.isdir(place) or os.path.isabs(place):
        place = Path(place).resolve().name
    place = "".join(character if character.isprintable() else "?" for character in place)
    return place[:MAX_VALUE_LENGTH] or "unnamed"


def _parse(comment: str) -> dict[str, str] | None:
    if not comment.startswith(MARK) or len(comment.encode("utf-8", "replace")) > MAX_COMMENT_BYTES:
        return None
    try:
        facts = json.loads(comment.removeprefix(MARK))
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict):
        return None
    facts = {name: facts[name] for name in Provenance.__dataclass_fields__ if facts.get(name) is not None}
    if "model" not in facts or any(_problem(name, value) for name, value in facts.items()):
        return None
    return facts


def _problem(name: str, value: Any) -> str | None:
    """The rule that a value breaks, if any."""
    if value is None:
        return "given" if name in ("model", "created", "software") else None
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= MAX_VALUE_LENGTH:
        return f"a printable text of 1 to {MAX_VALUE_LENGTH} characters"
    if name == "voice_prompt_sha256" and not _SHA256.fullmatch(value):
        return "64 hexadecimal digits"
    if name == "created":
        try:
            datetime.strptime(value, DATE_FORMAT)
        except ValueError:
            return "a time such as 2025-01-31T12:00:00Z"
    return None


__all__ = ["Provenance", "model_name", "prompt_sha256", "read_provenance"]
