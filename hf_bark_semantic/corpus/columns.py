"""The role of each column of a table: by its name, by `--columns` or, without a header, by its values.

columns_by_name      roles from the names of the columns
columns_by_values    roles from the rows of a table without a header
has_header           whether the first row names the columns
parse_columns        the value of `--columns`, such as "audio=1,text=3"

A role has a list of columns. In each row, the first of them that isn't empty is used.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import SequenceMatcher
from statistics import fmean

from ..audio import AUDIO_EXTENSIONS

ROLES = {  # with the names of their columns, the preferred ones first
    "audio": (
        "audio", "file_name", "filename", "path", "file", "audio_path", "audio_file", "audio_filepath", "wav",
        "wav_filename", "id",
    ),
    "text": ("normalized_text", "text", "transcription", "transcript", "sentence"),
    "speaker": ("voice", "speaker", "speaker_id", "speaker_name", "client_id"),
    "language": ("language", "locale"),
    "offset": ("offset",),  # seconds, in NeMo's manifests
    "duration": ("duration",),
}  # fmt: skip
AUDIO_ENDINGS = tuple(dict.fromkeys((".wav", ".flac", ".mp3", ".m4a", *AUDIO_EXTENSIONS)))

COMPARED = 500  # characters of each text; the time of a comparison is quadratic in them
ALIKE = 0.6  # similarity: LJSpeech's texts to its normalized texts 0.99, different sentences 0.3
LONGEST_SPEAKER = 64  # characters
SPEAKER_WORDS = 2  # of a name, at most; a column with more words on average holds texts
SMALL_TABLE = 10  # rows; in a table of at most this size, every row may have another speaker
COMPARED_ROWS = 200
COLUMNS_HELP = "the columns, by name or by number from 1, where they are not recognized"
_WORD = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|\S+")  # a Chinese or Japanese character counts as a word

Roles = dict[str, list[int]]


def columns_by_name(
    names: Sequence[str], place: object, *, needed: Collection[str], columns: Mapping[str, str]
) -> Roles:
    """Find the columns of each role by their names, in any case: "Speaker ID" is `speaker_id`.

    Args:
        names (`Sequence[str]`): the names of all columns.
        place: the table, for messages.
        needed (`Collection[str]`): roles that must be found.
        columns (`Mapping[str, str]`): the user's choice: names or 1-based numbers of columns for some roles.

    Raises:
        ValueError: a role of `needed` has no column, or a column of `columns` does not exist.
    """
    keys = [_key(name) for name in names]
    chosen = {role: [_column_index(role, column, names, place)] for role, column in columns.items()}
    taken = {index for found in chosen.values() for index in found}
    found = {role: [keys.index(alias) for alias in aliases if alias in keys] for role, aliases in ROLES.items()}
    roles = {role: [index for index in columns if index not in taken] for role, columns in found.items()} | chosen
    missing = [role for role in needed if not roles[role]]
    if missing:
        raise ValueError(
            f"{str(place)!r} has no column {' or '.join(ROLES[missing[0]])}; it has {', '.join(names) or 'none'}. "
            f"Rename one, or say which it is: --columns {','.join(f'{role}=NAME' for role in missing)}."
        )
    if not roles["offset"]:
        roles["duration"] = []  # a row without an offset is a whole file: it lasts as long as the file
    return {role: found for role, found in roles.items() if found}


def columns_by_values(
    rows: Sequence[Sequence[str]], place: object, *, needed: Collection[str], columns: Mapping[str, str]
) -> Roles:
    """Find the columns of a table without a header by their values, or take those of `columns` if there are any.

    The audio is the only column of file names, else the first column, if its first value has no spaces. If two other
    columns have similar texts, the second is the normalized text, as in LJSpeech. Otherwise, the speaker is the column
    whose values are shorter, and few different ones or single words.

    Args:
        rows (`Sequence[Sequence[str]]`): rows of equal length.
        place, needed, columns: as in [`columns_by_name`].

    Raises:
        ValueError: the roles are not clear.
    """
    if columns:
        missing = [role for role in needed if role not in columns]
        if missing:
            raise ValueError(
                f"{str(place)!r} has no header, so --columns must also name the {' and the '.join(missing)}, such as "
                "--columns audio=1,text=2."
            )
        return {role: [_column_index(role, column, rows[0], place)] for role, column in columns.items()}
    values = list(zip(*rows, strict=True))
    if len(values) == 1:
        return columns_by_name(rows[0], place, needed=needed, columns=columns)  # raises: no column has a known name
    audio = _audio_column(values)
    texts = [index for index, column in enumerate(values) if index != audio and any(column)]
    if audio is None or len(texts) > 2:
        raise ValueError(
            f"{str(place)!r} has no header, and its {len(values)} columns were not recognized: "
            f"{' | '.join(cell[:40] for cell in rows[0])}. Name them, such as --columns "
            f"{'audio=1,speaker=2,text=3' if 'audio' in needed else 'text=1'}; by name, if the first row is a header."
        )
    texts = texts or [index for index in range(len(values)) if index != audio][:1]
    if len(texts) == 1:
        return {"audio": [audio], "text": texts}
    first, second = texts
    if _are_alike(values[first], values[second]):
        return {"audio": [audio], "text": [second, first]}
    speakers = [
        (speaker, text)
        for speaker, text in ((first, second), (second, first))
        if _names_speakers(values[speaker], values[text])
    ]
    if len(speakers) != 1:
        raise ValueError(
            f"{str(place)!r} has no header, and column {first + 1} or {second + 1} may be the speaker. "
            f"Name the columns: --columns audio={audio + 1},speaker={first + 1},text={second + 1}, or "
            f"without a speaker: --columns audio={audio + 1},text={second + 1}."
        )
    speaker, text = speakers[0]
    return {"audio": [audio], "speaker": [speaker], "text": [text]}


def has_header(rows: Sequence[Sequence[str]], columns: Mapping[str, str]) -> bool:
    """Whether the first row names columns: a known or chosen name, or no file name above a column of file names."""
    first = rows[0]
    if any(_is_file_name(cell) for cell in first):
        return False
    named = {*ROLES["audio"], *ROLES["text"], *(_key(column) for column in columns.values() if not column.isdecimal())}
    return not named.isdisjoint(map(_key, first)) or (
        len(rows) > 1 and any(all(map(_is_file_name, column[1:])) for column in zip(*rows, strict=False))
    )


def has_file_names(rows: Sequence[Sequence[str]]) -> bool:
    """Whether one of the columns has the endings of audio files."""
    return any(_share_of_file_names(column) > 0.5 for column in zip(*rows, strict=False))


def parse_columns(text: str | None) -> dict[str, str]:
    """Read `--columns`, such as "audio=path,text=3": names or 1-based numbers of columns by role.

    Raises:
        ValueError: a part has no role, an unknown role or no column.
    """
    columns = {}
    for part in filter(None, (text or "").split(",")):
        role, _, column = (word.strip() for word in part.partition("="))
        if role not in ROLES or not column:
            raise ValueError(
                f"--columns takes {'=.., '.join(ROLES)}=.., separated by commas, with the name or the number of a "
                f"column, not {part!r}."
            )
        columns[role] = column
    return columns


def _column_index(role: str, column: str, names: Sequence[str], place: object) -> int:
    keys = [_key(name) for name in names]
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return int(column) - 1
    if _key(column) in keys:
        return keys.index(_key(column))
    there = ", ".join(f"{number} {name[:40]!r}" for number, name in enumerate(names, 1))
    raise ValueError(f"{str(place)!r} has no column {column!r} for --columns {role}={column}; it has {there}.")


def _audio_column(values: Sequence[Sequence[str]]) -> int | None:
    files = [index for index, column in enumerate(values) if _share_of_file_names(column) > 0.5]
    if len(files) == 1:
        return files[0]
    return None if any(" " in cell for cell in values[0]) else 0


def _share_of_file_names(column: Sequence[str]) -> float:
    return fmean(map(_is_file_name, column))


def _is_file_name(cell: str) -> bool:
    return cell.lower().endswith(AUDIO_ENDINGS)


def _are_alike(first: Sequence[str], second: Sequence[str]) -> bool:
    pairs = [(a.lower(), b.lower()) for a, b in zip(first, second, strict=True) if a and b][:COMPARED_ROWS]
    likeness = [SequenceMatcher(None, a[:COMPARED], b[:COMPARED], autojunk=False).ratio() for a, b in pairs]
    return bool(likeness) and fmean(likeness) > ALIKE


def _names_speakers(column: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a column holds names (shorter values than the other one's; single words, or few different ones)."""
    words, words_of_other = (fmean(len(_WORD.findall(cell)) for cell in cells) for cells in (column, other))
    if words_of_other <= max(words, SPEAKER_WORDS) or max(map(len, column)) > LONGEST_SPEAKER:
        return False
    different, num_rows = len(set(column)), len(column)
    has_few = different <= num_rows / 2 and different < len(set(other))
    are_single_words = not any(" " in value for value in column)
    return has_few or (are_single_words and (different < num_rows or num_rows <= SMALL_TABLE))


def _key(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")


__all__ = [
    "AUDIO_ENDINGS",
    "COLUMNS_HELP",
    "ROLES",
    "columns_by_name",
    "columns_by_values",
    "has_file_names",
    "has_header",
    "parse_columns",
]
