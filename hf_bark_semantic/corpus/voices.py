"""The voices of a corpus, from the names on the command line."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from transformers import BarkProcessor

from ..bark.voice_prompt import VoicePrompt, VoicePromptError

NO_VOICE = "none"  # Bark chooses a voice, another one in every row
PRESETS = "presets"  # all of the Bark's


def load_voices(
    names: Sequence[str],
    processor: BarkProcessor,
    vocabularies: Mapping[str, int],
    *,
    log: Callable[[str], None] = print,
) -> dict[str, VoicePrompt | None]:
    """Load voice prompts.

    Args:
        names (`Sequence[str]`): of presets; `"presets"` for all of them, where those that break Bark's rules are left
            out and logged; `.npz` files, folders of them, or `"none"`.
        processor (`BarkProcessor`): with the presets.
        vocabularies (`Mapping[str, int]`): of the Bark, `configs.vocabularies`.
        log (callable): prints.

    Returns:
        `dict[str, VoicePrompt | None]`: by name; of files, the part of the path below the folder; `None` for `"none"`.

    Raises:
        ValueError: a name that stands for no voice, or for one that is there already.
        VoicePromptError: a file or a named preset that is no voice of this Bark.
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
            raise ValueError(f"Voices of {name!r}: none, or one of a name that is there already. Rename or leave out.")
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
