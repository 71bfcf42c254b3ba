"""Check the values from a visitor's browser storage: voices, history and last choices.

A browser's storage can be damaged, or written by others. So [`undamaged`] checks each value when it arrives, and drops
single invalid voices or entries.
"""

from collections.abc import Callable
from typing import Any

from .history import KINDS, MAX_SAID
from .shelf import MAX_VOICES, checked_name

NOTHING_CHOSEN = {"bark": None, "voice": None, "text": ""}  # before the first visit


def undamaged(name: str, value: Any) -> Any:
    """A value of a browser's storage without its invalid parts.

    Args:
        name (`str`): the field: `"own"`, `"history"` or `"last"`. Values of other fields are not changed.
        value: the value from the browser.
    """
    return _CHECKS[name](value) if name in _CHECKS else value


def _voices(value: Any) -> dict[str, str]:
    """Packed voices by name; [`unpack`] checks a voice when it is used."""
    items = value.items() if isinstance(value, dict) else ()
    sound = {name: packed for name, packed in items if isinstance(packed, str) and _is_name(name)}
    return dict(list(sound.items())[:MAX_VOICES])


def _history(value: Any) -> list[dict[str, Any]]:
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and _has_kinds(entry)][:MAX_SAID]


def _choices(value: Any) -> dict[str, Any]:
    chosen = value if isinstance(value, dict) else {}
    return {
        name: chosen[name] if isinstance(chosen.get(name), str) else nothing
        for name, nothing in NOTHING_CHOSEN.items()
    }


def _is_name(name: str) -> bool:
    try:
        return checked_name(name) == name
    except ValueError:
        return False


def _has_kinds(entry: dict[str, Any]) -> bool:
    return entry.keys() == KINDS.keys() and all(isinstance(entry[name], kind) for name, kind in KINDS.items())


_CHECKS: dict[str, Callable[[Any], Any]] = {"own": _voices, "history": _history, "last": _choices}

__all__ = ["NOTHING_CHOSEN", "undamaged"]
