"""Load the voices of a corpus by the names on the command line."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from transformers import BarkProcessor

from ..bark.voice_prompt import VoicePrompt, VoicePromptError

NO_VOICE = "none"  # Bark chooses a voice for each row
PRESETS = "presets"  # all presets of the Bark


def load_voices(
    names: Sequence[str],
    processor: BarkProcessor,
    vocabularies: Mapping[str, int],
    *,
    log: Callable[[str], None] = print,
) -> dict[str, VoicePrompt | None]:
    """Load voice prompts.

    Args:
        names (`Sequence[str]`): presets; `"presets"` for all of them, except invalid ones, which are logged; `.npz`
            files or folders of them; or `"none"`.
        processor (`BarkProcessor`): has the presets.
        vocabularies (`Mapping[str, int]`): of the Bark, `configs.vocabularies`.
        log (callable): is called with a line for each preset that is left out.

    Returns:
        `dict[str, VoicePrompt | None]`: voice prompts by name (for files, the path below the folder); `None` for
            `"none"`.

    Raises:
        ValueError: an unknown name, or two voices with the same name.
        VoicePromptError: a file or preset that is invalid for this Bark.
    """
    voices = {}
    for name in names:
        path = Path(name)
        if name == NO_VOICE:
            found = {NO_VOICE: None}
        elif name == PRESETS:
            found = _valid_presets(processor, vocabularies, log)
        elif name in processor.available_voice_presets:
            found = {name: _preset(name, processor, vocabularies)}
        elif path.is_dir():
            found = {
                file.relative_to(path).with_suffix("").as_posix(): VoicePrompt.load(file, **vocabularies)
                for file in sorted(path.rglob("*.npz"))
            }
        elif path.suffix.lower() == ".npz":
            found = {path.stem: VoicePrompt.load(path, **vocabularies)}
        else:
            count = len(processor.available_voice_presets)
            raise ValueError(f"There is no voice {name!r}: name a preset ({count} here), an .npz or a folder.")
        if not found or found.keys() & voices.keys():
            raise ValueError(f"{name!r} has no voice, or one whose name is in use. Rename it, or leave it out.")
        voices.update(found)
    return voices


def _valid_presets(
    processor: BarkProcessor, vocabularies: Mapping[str, int], log: Callable[[str], None]
) -> dict[str, VoicePrompt]:
    found = {}
    for name in processor.available_voice_presets:
        try:
            found[name] = _preset(name, processor, vocabularies)
        except VoicePromptError as error:
            log(f"The preset {name} is left out: {error}")
    return found


def _preset(name: str, processor: BarkProcessor, vocabularies: Mapping[str, int]) -> VoicePrompt:
    arrays = processor(".", voice_preset=name, return_tensors="np")["history_prompt"]
    return VoicePrompt.load(dict(arrays), **vocabularies)


__all__ = ["NO_VOICE", "load_voices"]
