"""The history of a visitor: texts, voices and settings, stored in the visitor's browser.

No audio is stored, because the same seed gives the same speech again.
"""

from typing import Any

MAX_SAID = 100  # beyond it, the oldest entry that is no favourite is dropped
SHOWN_LETTERS = 60
_SETTINGS = (
    "temperature", "fine_temperature", "guidance_scale", "voice_guidance_scale", "prompt_mode", "long_form",
)  # fmt: skip
# The values of an entry and their types; default settings are None.
KINDS = {
    "bark": str, "text": str, "voice": str, "seed": int | None, **dict.fromkeys(_SETTINGS, str | None),
    "favourite": bool,
}  # fmt: skip
FIELDS = ("text", "voice", "seed", *_SETTINGS)  # values of a repeatable entry


def remember(history: list[dict[str, Any]], bark: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The history with a new entry at the front; an equal entry is moved there.

    Args:
        history (`list[dict]`): the entries, newest first.
        bark (`str`): the Bark that spoke.
        values (`dict`): the values of `FIELDS`.
    """
    said = {"bark": bark, **{name: values[name] for name in FIELDS}, "favourite": False}
    same = next((entry for entry in history if _without_star(entry) == _without_star(said)), None)
    said["favourite"] = same is not None and bool(same.get("favourite"))
    history = [said, *(entry for entry in history if entry is not same)]
    while len(history) > MAX_SAID:
        plain = [i for i, entry in enumerate(history) if not entry.get("favourite")]
        del history[plain[-1] if plain else -1]
    return history


def labels(history: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Labels for a menu, with the index of each entry; favourites first."""
    shown = []
    for i, entry in enumerate(history):
        text = " ".join(str(entry.get("text")).split())
        text = text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…"
        star = "★ " if entry.get("favourite") else ""
        shown.append((f"{star}{text} ({str(entry.get('voice')).split(':')[-1]}, seed {entry.get('seed')})", i))
    return sorted(shown, key=lambda item: not item[0].startswith("★"))


def _without_star(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "favourite"}


__all__ = ["FIELDS", "KINDS", "MAX_SAID", "labels", "remember"]
