"""Store a visitor's own voices.

    pack, unpack    convert a voice prompt to text for the visitor's browser, and back
    Shelf           the voices of the user of this machine, in a folder

Data from a browser is untrusted, and is read like any untrusted file.
"""

import base64
import binascii
import logging
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..bark.prompt_files import MAX_FILE_BYTES
from ..bark.voice_prompt import VoicePrompt, VoicePromptError

logger = logging.getLogger(__name__)

MAX_VOICES = 50
MAX_NAME_LENGTH = 40

_NAME = re.compile(rf"[^\W_](?:[\w .'-]{{0,{MAX_NAME_LENGTH - 1}}})")


def checked_name(name: str | None) -> str:
    """A name for a voice that is also a valid file name.

    Raises:
        ValueError: empty, too long, or with other characters than letters, digits, spaces and `.'-_`.
    """
    name = " ".join((name or "").split())
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise ValueError(
            f"{name!r} cannot be the name of a voice. Use 1 to {MAX_NAME_LENGTH} letters, digits and spaces, and "
            "begin with a letter or a digit."
        )
    return name


def pack(prompt: VoicePrompt) -> str:
    """A voice prompt as text; `unpack` is the inverse."""
    with tempfile.TemporaryDirectory() as folder:
        return base64.b64encode(prompt.save(Path(folder, "voice.npz")).read_bytes()).decode()


def unpack(text: str) -> VoicePrompt:
    """A voice prompt from the text of `pack`.

    Raises:
        VoicePromptError: the text is damaged.
    """
    try:
        content = base64.b64decode(text, validate=True) if len(text) < 2 * MAX_FILE_BYTES else b""
    except (binascii.Error, ValueError, TypeError) as error:
        raise VoicePromptError("The browser's copy of the voice is damaged. Clone it again.") from error
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "voice.npz")
        file.write_bytes(content)
        return VoicePrompt.load(file)


class Shelf:
    """Voices in a folder, an `.npz` each.

    Args:
        folder (`Path`): the folder, which is made for the first voice.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def of_user(cls) -> "Shelf":
        """The shelf of the user of this machine."""
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        return cls(Path(data) / "hf_bark_semantic" / "voices")

    def load(self, on_damage: Callable[[str], Any] = logger.warning) -> dict[str, str]:
        """All voices by name, in the format of [`pack`].

        Args:
            on_damage (`Callable[[str], Any]`): is called with a sentence about each file that cannot be used; such
                files are not changed.
        """
        voices: dict[str, str] = {}
        try:
            files = sorted(file for file in self.folder.iterdir() if file.suffix == ".npz")
        except FileNotFoundError:
            return voices
        except OSError as error:
            on_damage(f"Your voices in {self.folder} cannot be read ({error.strerror}). Make it your own folder.")
            return voices
        for file in files[:MAX_VOICES]:
            try:
                voices[checked_name(file.stem)] = pack(VoicePrompt.load(file))
            except (ValueError, OSError) as error:
                on_damage(f"The voice in {file} cannot be used: {error} Delete it, or replace it by an intact copy.")
        return voices

    def keep(self, name: str, prompt: VoicePrompt) -> None:
        """Write a voice, and replace an older one of the same name; a damaged one is set aside.

        Raises:
            OSError: the folder cannot be written to.
        """
        file = self._file(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if file.exists() and not _is_voice(file):
                file.replace(file.with_name(f"{file.name}.damaged"))
            prompt.save(file)
        except OSError as error:
            raise OSError(f"The voice {name!r} cannot be kept in {self.folder} ({error.strerror}).") from error

    def delete(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.folder / f"{checked_name(name)}.npz"


def _is_voice(file: Path) -> bool:
    try:
        VoicePrompt.load(file)
    except (ValueError, OSError):
        return False
    return True


__all__ = ["MAX_VOICES", "Shelf", "checked_name", "pack", "unpack"]
