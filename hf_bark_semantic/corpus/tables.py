"""Tables of texts and of recordings, as people have them: .txt, .csv, .tsv and .jsonl, in UTF-8."""

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TextIO

TABLES = (".csv", ".tsv", ".jsonl")
SEPARATORS = ",;\t|"


def read_table(
    path: Path, columns: Collection[str], *, without_header: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Read a table row by row.

    Args:
        path (`Path`): a `.txt` (one text a line, column `text`), `.csv`, `.tsv` (as Common Voice's) or `.jsonl`. The
            cells of a `.csv` may be separated by `,`, `;`, tabs or `|`.
        columns (`Collection[str]`): names, some of which the header of a `.csv` has.
        without_header (`Sequence[str]`): the columns of a `.csv` whose first line has none of them, and has a `|`.

    Raises:
        ValueError: the file cannot be read, is not in UTF-8, or has a line that is no row.
    """
    suffix = path.suffix.lower()
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if suffix == ".txt":
                yield from ({"text": line} for line in file)
            elif suffix == ".jsonl":
                yield from _json_rows(file)
            elif suffix == ".tsv":
                yield from _rows(file, "\t")
            else:
                yield from _csv_rows(file, columns, without_header)
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}. It must be {path.suffix} in UTF-8.") from error


def _csv_rows(file: TextIO, columns: Collection[str], without_header: Sequence[str]) -> Iterator[dict]:
    first = file.readline()
    for separator in SEPARATORS:
        names = {name.lower() for name in _names(next(csv.reader([first], delimiter=separator), []))}
        if names & {column.lower() for column in columns}:
            yield from _rows(chain([first], file), separator)
            return
    if without_header and "|" in first:
        yield from _rows(chain([first], file), "|", without_header)
    else:
        yield from _rows(chain([first], file), ",")


def _rows(lines: Iterator[str], separator: str, header: Sequence[str] | None = None) -> Iterator[dict]:
    quoting = csv.QUOTE_MINIMAL if separator in ",;" else csv.QUOTE_NONE  # LJSpeech and Common Voice quote nothing
    rows = csv.reader(lines, delimiter=separator, quoting=quoting)
    header = _names(next(rows, [])) if header is None else header
    for row in rows:
        if row:
            yield dict(zip_longest(header, row[: len(header)]))


def _names(row: list[str]) -> list[str]:
    return [cell.strip() for cell in row]


def _json_rows(file: TextIO) -> Iterator[dict]:
    for number, line in enumerate(file, 1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f'Line {number} of {file.name!r} is no JSON object, such as {{"text": "Hello."}}.')
            yield row


__all__ = ["TABLES", "read_table"]
