"""Read tables of texts or recordings.

read_table    read a .csv, .tsv, .txt (LJSpeech, piper, XTTS, VITS, Common Voice, Excel), .jsonl or .json (NeMo)
Table         the roles of the columns, and the rows
"""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .columns import Roles, columns_by_name, columns_by_values, has_file_names, has_header

JSON_TABLES = (".jsonl", ".json")
TABLES = (".csv", ".tsv", ".txt", *JSON_TABLES)
SEPARATORS = {"|": "'|'", "\t": "tabs", ";": "';'", ",": "','"}  # the rarest in texts first
ONE_COLUMN = "\x1f"  # occurs in no table
SHOWN = 5


class _Row(NamedTuple):
    line: int
    cells: list[str]


@dataclass(frozen=True, eq=False)
class Table:
    """A table with the roles of its columns. Iterating yields a row's values by role: `{"audio": "a.wav", ...}`.

    Args:
        path (`Path`): the file.
        layout (`str`): how its columns are separated.
        names (`list[str]`, *optional*): the names of its columns; `None` if it has no header.
        roles (`dict[str, list[int]]`): the columns of each role; the first that isn't empty is used.
        rows (`list[list[str]]`): all cells, without surrounding spaces.
    """

    path: Path
    layout: str
    names: list[str] | None
    roles: Roles
    rows: list[list[str]]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, str]]:
        for row in self.rows:
            yield {role: next((row[c] for c in columns if row[c]), "") for role, columns in self.roles.items()}

    def __str__(self) -> str:
        """One line with the role of each column."""
        meanings = {}
        for role, columns in self.roles.items():
            for before, column in zip([None, *columns], columns, strict=False):
                meaning = role if before is None else f"{role} where {before + 1} is empty"
                meanings[column] = " and ".join(filter(None, (meanings.get(column), meaning)))
        for column in self.roles.get("speaker", ()):
            speakers = list(dict.fromkeys(row[column] for row in self.rows))
            shown = ", ".join(speaker[:16] for speaker in speakers[:SHOWN]) + ", ..." * (len(speakers) > SHOWN)
            meanings[column] += f" ({len(speakers):,} different: {shown})"
        names = [""] * len(self.rows[0]) if self.names is None else [f" {name!r}" for name in self.names]
        columns = [f"{i + 1}{name} -> {meanings.get(i, 'not read')}" for i, name in enumerate(names)]
        header = "without" if self.names is None else "with"
        return f"{self.path}: {len(self):,} rows, {self.layout}, {header} a header. Column {', '.join(columns)}."


def read_table(path: Path, *, needed: Collection[str], columns: Mapping[str, str] | None = None) -> Table:
    """Read a table.

    The separator is the one with which all rows have the same number of columns. Of several, one that gives a known
    column name in the first row is preferred, then one that gives names of audio files, then `|`, tab, `;` and `,`.

    Args:
        path (`Path`): a file with one of the endings in `TABLES`, in UTF-8, or in UTF-16 with a byte order mark.
        needed (`Collection[str]`): roles that must be found, of `ROLES`. If only the text is needed, a `.txt` has one
            text per line, unless `|` or tabs separate columns and the first column has no spaces.
        columns (`Mapping[str, str]`, *optional*): names or 1-based numbers of columns for some roles.

    Raises:
        ValueError: the file cannot be read, the role of a column is not clear, or rows differ in their number of
            columns; the message names their lines.
    """
    columns = columns or {}
    text = _read_text(path)
    if path.suffix.lower() in JSON_TABLES:
        names, rows = _json_rows(text, path)
        return _table(path, "JSON lines", names, rows, needed, columns)
    try:
        separator, rows = _split(text, columns)
    except csv.Error as error:
        raise ValueError(f"{str(path)!r} cannot be read as a table: {error}.") from error
    if path.suffix.lower() == ".txt" and tuple(needed) == ("text",) and not columns and not _is_list(separator, rows):
        rows = [_Row(0, [line.strip()]) for line in io.StringIO(text, newline="") if line.strip()]
        return _table(path, "one text per line", None, rows, needed, {"text": "1"})
    layout = "one column" if separator == ONE_COLUMN else f"separated by {SEPARATORS[separator]}"
    names = rows.pop(0).cells if rows and has_header([row.cells for row in rows], columns) else None
    return _table(path, layout, names, rows, needed, columns)


def _table(path, layout: str, names: list[str] | None, rows: list[_Row], needed, columns) -> Table:
    if not rows:
        raise ValueError(f"{str(path)!r} holds no rows.")
    width = _width([row.cells for row in rows]) if names is None else len(names)
    rows = [_Row(row.line, _without_empty_end(row.cells, width)) for row in rows]
    _refuse([row for row in rows if len(row.cells) > width], width, path, layout)
    if names is not None:
        roles = columns_by_name(names, path, needed=needed, columns=columns)
    else:
        whole = [row.cells for row in rows if len(row.cells) == width]
        roles = columns_by_values(whole, path, needed=needed, columns=columns)
    short = [row for row in rows if any(min(found) >= len(row.cells) for found in roles.values())]
    _refuse(short, width, path, layout)
    filled = [row.cells + [""] * (width - len(row.cells)) for row in rows]
    used = {role: _used(found, filled) for role, found in roles.items()}
    kept = {role: used[role] or roles[role][:1] for role in roles if used[role] or role in (*needed, *columns)}
    return Table(path, layout, names, kept, filled)


def _used(columns: list[int], rows: list[list[str]]) -> list[int]:
    """The columns that some row needs, because the preceding ones are empty there."""
    used = []
    for column in columns:
        if any(row[column] for row in rows):
            used.append(column)
        rows = [row for row in rows if not row[column]]
    return used


def _refuse(rows: list[_Row], width: int, path: Path, layout: str) -> None:
    if rows:
        lines = ", ".join(str(row.line) for row in rows[:SHOWN])
        more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        raise ValueError(
            f"{str(path)!r} has {width} columns, {layout}, but {len(rows[0].cells)} in line {lines}{more}: "
            f"{' | '.join(rows[0].cells)[:80]!r}. If the text contains a separator, replace that "
            "character; if a column is missing, add it."
        )


def _split(text: str, columns: Mapping[str, str]) -> tuple[str, list[_Row]]:
    """The best separator, and the rows that it gives."""
    best, chosen = None, None
    for separator in filter(text.__contains__, SEPARATORS):
        rows = _rows(text, separator)
        cells = [row.cells for row in rows]
        is_named = bool(cells) and has_header(cells, columns)
        width = len(cells[0]) if is_named else _width(cells)
        if width > 1:
            divides_all = separator in "|\t" and min(map(len, cells)) > 1  # a text may contain further ones
            constancy = sum(len(row) == width for row in cells) / len(cells)
            fitness = (is_named, has_file_names(cells), divides_all, constancy)
            if best is None or fitness > best:
                best, chosen = fitness, (separator, rows)
    return chosen or (ONE_COLUMN, _rows(text, ONE_COLUMN))


def _rows(text: str, separator: str) -> list[_Row]:
    """Rows, in which quotes are those of CSV if they all can be, and otherwise belong to the texts."""
    plain = _read_rows(text, separator, csv.QUOTE_NONE)
    if '"' not in text:
        return plain
    closed = re.sub(rf'(?<!")("(?:"")*) +(?={re.escape(separator)}|[\r\n]|$)', r"\1", text)  # strips quoted cells
    try:
        quoted = _read_rows(closed, separator, csv.QUOTE_MINIMAL)
    except csv.Error:
        return plain
    has_quoted_newlines = len(quoted) < len(plain)
    is_constant = len({len(row.cells) for row in plain}) == 1
    return plain if separator in "|\t" and has_quoted_newlines and is_constant else quoted


def _read_rows(text: str, separator: str, quoting) -> list[_Row]:
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, skipinitialspace=True, strict=True
    )
    rows, line = [], 1
    for cells in lines:
        cells = [cell.strip() for cell in cells]
        if any(cells):
            rows.append(_Row(line, cells))
        line = lines.line_num + 1
    return rows


def _is_list(separator: str, rows: list[_Row]) -> bool:
    """Whether a .txt lists files or ids with their texts, rather than texts alone."""
    cells = [row.cells for row in rows]
    is_constant = len({len(row) for row in cells}) == 1
    ids = [row[0] for row in cells]
    return separator in "|\t" and is_constant and (has_header(cells, {}) or not any(" " in name for name in ids))


def _width(rows: Sequence[Sequence[str]]) -> int:
    """The most frequent number of columns; of equally frequent ones, the smallest."""
    counts = Counter(map(len, rows))
    return min(counts, key=lambda width: (-counts[width], width), default=0)


def _without_empty_end(cells: list[str], width: int) -> list[str]:
    """Cells without those that Excel appends to a row."""
    return cells[:width] if not any(cells[width:]) else cells


def _json_rows(text: str, path: Path) -> tuple[list[str], list[_Row]]:
    objects = {}
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if line.strip():
            try:
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode()  # unpaired surrogates cannot be written
            except (ValueError, RecursionError) as error:
                raise ValueError(f"Line {number} of {str(path)!r} cannot be read: {error}.") from error
            if not isinstance(row, dict):
                raise ValueError(f'Line {number} of {str(path)!r} is not a JSON object, such as {{"text": "Hello."}}.')
            objects[number] = row
    names = list(dict.fromkeys(name for row in objects.values() for name in row))
    cells = {number: [row.get(name) for name in names] for number, row in objects.items()}
    return names, [_Row(n, ["" if c is None else str(c).strip() for c in row]) for n, row in cells.items()]


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    advice = "Save it in UTF-8 (Excel: 'CSV UTF-8'), or convert it: `iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW`."
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"Line {line} of {str(path)!r} is not in {encoding.removesuffix('-sig').upper()}. {advice}"
        ) from error
    if "\0" in text:
        raise ValueError(f"{str(path)!r} contains zero bytes, like UTF-16 without a byte order mark. {advice}")
    return text


__all__ = ["TABLES", "Table", "read_table"]
