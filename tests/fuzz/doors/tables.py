"""Doors for tables, corpora, and pairs of tokens and recordings."""

import zipfile
from contextlib import suppress
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from fuzz.doors.door import Door, digest, file_door
from fuzz.mutations import mutated, other_value
from hf_bark_semantic.corpus.formats import read_archives, read_fairseq, read_npz_folder
from hf_bark_semantic.corpus.pairs import Pairs
from hf_bark_semantic.corpus.rows import read_corpus
from hf_bark_semantic.corpus.tables import read_table
from hf_bark_semantic.corpus.texts import load_sentences
from sound_files import written
from tiny import corpus_row

TABLES = {
    "csv": [
        'file_name,transcription,speaker\na.wav,"Well, well.",ann\nb.wav,"He said ""no"".",bob\nc.wav,Grüße.,ann\n',
        "\ufeffpath;sentence;client_id;locale\r\na.mp3;One.;x1;de\r\nb.mp3;Two;;de\r\n",
    ],
    "tsv": ["client_id\tpath\tsentence\tlocale\nx1\ta.mp3\tOne.\ten\nx2\tb.mp3\tTwo.\ten\n"],
    "txt": [
        "LJ001-0001|Printing, in 1890.|Printing, in eighteen ninety.\nLJ001-0002|in being|in being\n",
        "The dog runs.\n\nThe cat sleeps.\n♪ A song ♪\n",
    ],
    "jsonl": [
        '{"audio_filepath": "a.wav", "text": "One.", "offset": 0.5, "duration": 1.5}\n'
        '{"audio": "b.wav", "text": "Two."}\n'
    ],
    "json": ['{"audio_filepath": "a.wav", "text": "One.", "duration": 1.5, "speaker": 7}\n'],
}  # fmt: skip


def read_any_table(path: Path) -> str:
    """Read a table as recordings with texts or as texts only, depending on its content."""
    if len(path.read_bytes()) % 3 == 0:
        return digest(load_sentences(path))
    needed = ("audio", "text") if len(path.read_bytes()) % 3 == 1 else ("text",)
    table = read_table(path, needed=needed)
    return digest(str(table), list(table))


def encoded_tables(name: str) -> list[bytes]:
    return [text.encode() for text in TABLES[name]]


def parquet() -> list[bytes]:
    """A shard of a corpus, with codes and audio."""
    rows = [corpus_row(seed, num_tokens=20) for seed in range(2)]
    files = []
    for columns in (rows[0].keys(), rows[0].keys() - {"audio"}):
        file = BytesIO()
        pq.write_table(Dataset.from_list([{name: row[name] for name in columns} for row in rows]).data.table, file)
        files.append(file.getvalue())
    return files


def read_shard(path: Path) -> str:
    clips = list(read_corpus(path.parents[1]))
    return digest(
        *(value for clip in clips for value in (clip.id, clip.semantic_tokens, clip.audio_codes, clip.waveform))
    )


def make_rows(random: Random, folder: Path) -> Path:
    """A shard with invalid values, as far as Parquet has a type for them."""
    rows = [{**row, "audio": row["audio"].tolist()} for row in (corpus_row(seed, num_tokens=5) for seed in range(2))]
    for _ in range(random.choice((1, 1, 3))):
        other = other_value(rows, random)
        with suppress(Exception):
            pq.write_table(pa.Table.from_pylist(other), BytesIO())
            rows = other
    path = folder / "data" / "train-00000.parquet"
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


# ---- pairs


def _saved(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


@cache
def _pair() -> dict[str, bytes]:
    """The files of one pair in each layout."""
    row = corpus_row(0, num_tokens=50)
    tokens = np.array(row["semantic_tokens"])
    wav = written(row["audio"], 16_000, "WAV")
    npz = BytesIO()
    np.savez(npz, semantic_prompt=tokens, fine_prompt=np.array(row["audio_codes"]))
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("semantic/0.npy", _saved(tokens))
        file.writestr("wav/0.wav", wav)
    line = " ".join(map(str, tokens))
    manifest = f"/nowhere\nwav/0.wav\t{len(row['audio'])}\n"
    return {
        "pairs.zip": archive.getvalue(), "0.npz": npz.getvalue(), "0.wav": wav, "wav/0.wav": wav,
        "manifest.tsv": manifest.encode(), "labels.txt": f"{line}\n".encode(),
    }  # fmt: skip


def pairs_door(name: str, files: tuple[str, ...], damaged: tuple[str, ...], read, share: int) -> Door:
    """A door for a folder with `files`, in which one of `damaged` is damaged."""

    def make(random: Random, folder: Path) -> Path:
        worse = random.choice(damaged)
        for file in files:
            (folder / file).parent.mkdir(exist_ok=True)
            content = _pair()[file]
            (folder / file).write_bytes(mutated(content, random) if file == worse else content)
        return folder

    return Door(name, make, lambda folder: _read_pairs(read(folder)), (ValueError,), share)


def _read_pairs(pairs: Pairs) -> str:
    found = []
    for name, read in pairs:
        pair = read()
        found += [name, pair.semantic_tokens, pair.audio if isinstance(pair.audio, bytes) else pair.audio.name]
    return digest(*found)


FAIRSEQ = ("manifest.tsv", "labels.txt")
DOORS = [
    *(file_door(name, partial(encoded_tables, name), read_any_table, ValueError, 650) for name in TABLES),
    file_door("parquet", parquet, read_shard, ValueError, 50, "data/train-00000.parquet"),
    Door("rows of a corpus", make_rows, read_shard, (ValueError,), 14),
    pairs_door("zip of pairs", ("pairs.zip",), ("pairs.zip",), lambda f: read_archives(f / "pairs.zip"), 450),
    pairs_door("npz beside a wav", ("0.npz", "0.wav"), ("0.npz",), read_npz_folder, 350),
    pairs_door(
        "fairseq", (*FAIRSEQ, "wav/0.wav"), FAIRSEQ, lambda f: read_fairseq(f / "manifest.tsv", f / "labels.txt"), 650
    ),
]  # fmt: skip
