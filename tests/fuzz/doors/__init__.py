"""The doors through which strangers' files and values come in: `DOORS`, by their names."""

from fuzz.doors import checkpoints, configs, models, page, prompts, sounds, tables, texts
from fuzz.doors.door import Door

DOORS: dict[str, Door] = {
    door.name: door
    for room in (prompts, sounds, tables, configs, checkpoints, models, texts, page)
    for door in room.DOORS
}

__all__ = ["DOORS", "Door"]
