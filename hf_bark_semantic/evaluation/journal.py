"""A journal of scores, from which a killed evaluation continues: one line of JSON per trial, one file per process."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import read_json, write_json


class Journal:
    """Scored trials, each with an `id`, in `trials-<process>.jsonl` files of a folder, one line each.

    Incomplete lines are ignored, so a killed process loses only its current trial.

    Args:
        folder (`Path`): made if it is missing.
        settings (`dict`): everything that the trials depend on; stored in settings.json.
        process (`int`): number of the writing process.

    Raises:
        ValueError: the folder holds trials with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, process: int = 0):
        self.folder, self.file = folder, folder / f"trials-{process}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        known, settings = folder / "settings.json", json.loads(json.dumps(settings))
        if known.exists():
            before = read_json(known, cure="Restore it from a copy, or name another --output.")
            changed = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
            if changed:
                was = ", ".join(f"{key} {before.get(key)!r} (now {settings.get(key)!r})" for key in changed)
                raise ValueError(f"{folder} holds trials made with {was}. Name another --output, or delete it.")
        elif process == 0:
            write_json(known, settings)  # atomic, because other processes may be reading

    def records(self) -> dict[str, dict[str, Any]]:
        """All scored trials by id."""
        records = {}
        for file in sorted(self.folder.glob("trials-*.jsonl")):
            for line in filter(None, file.read_text(encoding="utf-8", errors="replace").split("\n")):
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:  # its process was killed; the trial is repeated
                    continue
                records[record["id"]] = record
        return records

    def add(self, record: Mapping[str, Any]) -> None:
        with open(self.file, "ab+") as file:
            if file.tell():
                file.seek(-1, 2)
                torn = file.read(1) != b"\n"
                file.write(b"\n" * torn)
            file.write((json.dumps(record, ensure_ascii=False, default=float) + "\n").encode())


__all__ = ["Journal"]
