"""The doors: all places where untrusted files and values are read, as `DOORS` by name."""

from fuzz.doors import checkpoints, configs, models, page, prompts, sounds, tables, texts
from fuzz.doors.door import Door

DOORS: dict[str, Door] = {
    door.name: door
    for room in (prompts, sounds, tables, configs, checkpoints, models, texts, page)
    for door in room.DOORS
}

__all__ = ["DOORS", "Door"]
