"""Sentences for Bark to speak: read from files, and cut to the length of one generation.

load_sentences        read a table ([`read_table`]), a .txt with one text per line, a `datasets` folder or a Hub id
speakable_sentences   cut long sentences, and remove duplicates
fits_bark             whether a Bark can speak a text in one generation
with_sound            add a laugh, a sigh or ♪ to a text
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..bark.configs import BarkGenerationConfigs
from ..bark.prompting import text_to_ids
from ..voices.splitting import piece_fits, split_text
from .columns import columns_by_name
from .rows import open_dataset
from .tables import TABLES, read_table

# Bark's languages: suno-ai/bark, README
LANGUAGES = ("de", "en", "es", "fr", "hi", "it", "ja", "ko", "pl", "pt", "ru", "tr", "zh")
# suno-ai/bark, README: "a list of some known non-speech sounds"
SOUNDS = ("[laughter]", "[laughs]", "[sighs]", "[music]", "[gasps]", "[clears throat]", "♪")

_CLAUSE_END = re.compile(r"[.,;:!?…。、，！？।](?:\s+|(?=[^\x00-\x7f]))")


class Sentence(NamedTuple):
    """A text, and its language if it is known."""

    text: str
    language: str | None = None


def load_sentences(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    language: str | None = None,
    split: str = "train",
    log: Callable[[str], Any] = lambda line: None,
) -> list[Sentence]:
    """Read sentences from a file, a `datasets` folder or the Hub.

    Args:
        source (`str` or `Path`): a `.txt` with one sentence per line, a table for [`read_table`], a folder of
            `save_to_disk`, or a dataset for [`open_dataset`].
        columns (`Mapping[str, str]`, *optional*): name or number of the column `text` or `language`, where it has none
            of the names in `ROLES`.
        language (`str`, *optional*): the language of all sentences. By default, that of a column `language` or
            `locale`, else the beginning of the file's name: `de.txt`, `en_harvard.txt`.
        split (`str`): the split of a dataset.
        log: is called with a line that describes the columns.

    Raises:
        ValueError: no such column, no sentence, a language that Bark doesn't speak, or a file that cannot be read.
    """
    path = Path(source)
    is_file = path.suffix.lower() in TABLES
    if is_file and not path.is_file():
        raise ValueError(f"There is no file {str(source)!r}. Check the spelling and the working directory.")
    if language is None and is_file and (named := re.match(r"([a-z]{2})(?![a-z])", path.stem)):
        language = named[1] if named[1] in LANGUAGES else None
    if is_file:
        rows: Iterable[Mapping] = read_table(path, needed=("text",), columns=columns)
        log(str(rows))
    else:
        rows = _read_dataset(str(source), columns or {}, split)
    sentences = [_sentence(row, language, source) for row in rows]
    sentences = [sentence for sentence in sentences if sentence.text]
    if not sentences:
        raise ValueError(f"{str(source)!r} holds no sentence.")
    return sentences


def speakable_sentences(sentences: Iterable[Sentence], fits: Callable[[str], bool]) -> list[Sentence]:
    """Cut sentences that do not fit ([`split_text`]); leave out duplicates, and texts that cannot be cut to fit."""
    pieces = (
        Sentence(piece, language)
        for text, language in sentences
        for piece in ([text] if fits(text) else split_text(text, fits))
    )
    return list(dict.fromkeys(piece for piece in pieces if fits(piece.text)))


def fits_bark(
    tokenizer: Any, configs: BarkGenerationConfigs, block_size: int, *, with_sounds: bool
) -> Callable[[str], bool]:
    """Return a function that tells whether Bark can speak a text in one generation.

    Args:
        tokenizer: Bark's tokenizer.
        configs (`BarkGenerationConfigs`): of the Bark.
        block_size (`int`): positions of the semantic model, `bark.semantic.config.block_size`.
        with_sounds (`bool`): the text must still fit after [`with_sound`].
    """
    form_fits = piece_fits(tokenizer, configs, block_size)

    def fits(text: str) -> bool:
        longest = [f"♪ {text} ♪", f"{text} {max(SOUNDS, key=len)}"] if with_sounds else [text]
        return all(len(text_to_ids(form, tokenizer)) and form_fits(form) for form in longest)

    return fits


def with_sound(text: str, sound: int, place: int) -> str:
    """Add one of `SOUNDS` before, after or between clauses, or ♪ around the text.

    The numbers `sound` and `place`, of any size, choose which sound and where. A text that already has such marks is
    returned unchanged.
    """
    mark = SOUNDS[sound % len(SOUNDS)]
    if "[" in text or "♪" in text:
        return text
    if mark == "♪":
        return f"♪ {text} ♪"
    places = sorted({0, *(clause.end() for clause in _CLAUSE_END.finditer(text)), len(text)})
    position = places[place % len(places)]
    return " ".join(part for part in (text[:position].strip(), mark, text[position:].strip()) if part)


def _read_dataset(source: str, columns: Mapping[str, str], split: str) -> Iterator[dict]:
    dataset = open_dataset(source, split=split)
    names = dataset.column_names
    roles = columns_by_name(names, source, needed=("text",), columns=columns)
    wanted = {role: [names[c] for c in roles.get(role, [])] for role in ("text", "language")}
    for row in dataset.select_columns([name for found in wanted.values() for name in found]):  # no audio
        yield {role: next((row[name] for name in found if row[name]), "") for role, found in wanted.items()}


def _sentence(row: Mapping, language: str | None, source: str | Path) -> Sentence:
    if language is None:
        language = row.get("language") or None
    if language is not None:
        language = re.split("[-_]", str(language).lower())[0]
        if language not in LANGUAGES:
            raise ValueError(f"{str(source)!r}: Bark doesn't speak {language!r}; it speaks {', '.join(LANGUAGES)}.")
    return Sentence(" ".join(str(row.get("text", "")).split()), language)


__all__ = ["LANGUAGES", "SOUNDS", "Sentence", "fits_bark", "load_sentences", "speakable_sentences", "with_sound"]
