"""Reasons why recordings are left out, and remedies.

RecordingFlaw     the reason why a recording is left out
describe_flaws    a table of the recordings that were left out, by reason
"""

from collections.abc import Sequence

REMEDIES = {  # "" where the description contains the remedy
    "audio": "",
    "duplicate": "Remove one of its rows.",
    "lengths": "",
    "no file": "If the paths start from another folder, name it: --audio-folder.",
    "no speaker": "Add the speaker.",
    "no transcript": "Add the transcript.",
    "offset": "Correct the row.",
    "pace": "Check that the transcript belongs to the recording.",
    "path": "Move it there, or name the folder that the paths start from: --audio-folder.",
    "silence": "Cut it off.",
    "text too long": "",
    "too long": "Cut it at pauses, and its transcript at the same words; the times of the words are not known.",
    "too short": "Join it, and its transcript, with the recording before or after it.",
}
SHOWN = 3  # recordings whose ids are shown
NAME_LENGTH = 40


class RecordingFlaw(ValueError):
    """Why a recording is left out.

    Args:
        kind (`str`): one of `REMEDIES`.
        description (`str`): a sentence with the value and the rule; the remedy is added.
    """

    def __init__(self, kind: str, description: str):
        super().__init__(f"{description} {REMEDIES[kind]}".rstrip())
        self.kind = kind


def describe_flaws(flaws: Sequence[tuple[str, str, str]]) -> str:
    """Lines with the number of recordings for each kind of flaw, some of their ids, and the remedy.

    Args:
        flaws (`Sequence[tuple[str, str, str]]`): id, kind and description of each recording that was left out.
    """
    by_kind: dict[str, list[tuple[str, str]]] = {}
    for id, kind, reason in flaws:
        by_kind.setdefault(kind, []).append((_shown(id), reason))
    width = max(map(len, by_kind), default=0)
    lines = []
    for kind, found in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        names = ", ".join(name for name, _ in found[:SHOWN])
        more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
        lines.append(f"{len(found):>7,}  {kind:{width}}  {names}{more}")
        remedies = [REMEDIES[kind]] if REMEDIES[kind] else [f"{name}: {reason}" for name, reason in found[:SHOWN]]
        lines += [f"{'':{width + 11}}{remedy}" for remedy in remedies]
    return "\n".join(lines)


def _shown(id: str) -> str:
    """An id without control characters; of a long path, the end."""
    text = "".join(letter if letter.isprintable() else "?" for letter in id)
    return text if len(text) <= NAME_LENGTH else f"...{text[3 - NAME_LENGTH :]}"


__all__ = ["RecordingFlaw", "describe_flaws"]
