"""Other people's corpora of Bark's tokens: read, checked pair by pair, and written for their programs.

    import_pairs      pairs of any reader -> a corpus folder, as `shards.py` describes it; corrupt ones are named
    read_fairseq      manifest.tsv + labels.txt (or .km)
    read_archives     the community's zips: semantic/0.npy + wav/0.wav, packed in any way, or unpacked
    read_npz_folder   0.npz (a voice prompt) + 0.wav
    export_fairseq    a corpus -> manifest.tsv, labels.txt, manifest.km, dict.km.txt and wav/

Tokens and sound of a pair must have lengths that Bark gives them (`num_codec_frames`); nothing is trimmed to fit.
Archives are read in place: nothing is extracted or unpickled, no announced size is believed, and one with a member
that points outside of itself, or that unpacks to far more than it holds, is refused.
"""

import contextlib
import io
import math
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice
from pathlib import Path, PurePosixPath
from tokenize import TokenError

import numpy as np
import soundfile
import torch
from transformers import EncodecModel

from ..audio import AUDIO_EXTENSIONS, load_audio, resample, save_audio
from ..configuration_bark_semantic import (
    CODEBOOK_SIZE,
    CODEC_SAMPLING_RATE,
    NUM_COARSE_CODEBOOKS,
    NUM_CODEBOOKS,
    SAMPLING_RATE,
    SEMANTIC_VOCAB_SIZE,
    num_codec_frames,
    num_samples_of_codec_frames,
    num_semantic_tokens_of_samples,
)
from .rows import LENGTH_TOLERANCE, SPEECH_COLUMNS, read_corpus, row_features, stored_audio
from .shards import open_corpus, write_shard

UNKNOWN_VOICE = "unknown"
MAX_ARRAY_BYTES = 16 * 2**20  # a minute of tokens and codes is 0.3 MB
MAX_AUDIO_BYTES = 256 * 2**20  # 23 minutes of 48 kHz stereo
MAX_UNPACKED_RATIO, MAX_FREE_BYTES = 100, 64 * 2**20  # silence packs well; small archives may do as they like

_FOLDER_NAMES = ("semantic", "wav")
_SUFFIXES = ("_semantic", "_wav")  # of gitmylo's prepared folders: 0_semantic.npy, 0_wav.wav


@dataclass(frozen=True, eq=False)
class Pair:
    """Tokens and the sound that belongs to them, as found.

    Args:
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): ids.
        audio (`bytes` or `Path`): a sound file.
        audio_codes (`np.ndarray` of shape `(8, num_frames)`, *optional*): `CODEBOOK_SIZE` where unknown.
    """

    semantic_tokens: np.ndarray
    audio: bytes | Path
    audio_codes: np.ndarray | None = None


# A reader gives the name of each pair, and how to read it: that may fail without ending the others.
Pairs = Iterator[tuple[str, Callable[[], Pair]]]


def import_pairs(
    pairs: Pairs, folder: str | os.PathLike, *, source: str = "pair", origin: str = "", rows_per_shard: int = 64
) -> list[tuple[str, str]]:
    """Write pairs as a corpus with audio.

    Args:
        pairs: of one of the readers.
        folder (`str` or `Path`): new or empty.
        source (`str`): the column by which a batch plan chooses rows.
        origin (`str`): noted in `corpus.json`.
        rows_per_shard (`int`): pairs to a Parquet file.

    Returns:
        `list[tuple[str, str]]`: name and flaw of each pair that was left out; also in the shards' records.

    Raises:
        ValueError: the folder holds something, or no pair is whole.
    """
    if Path(folder).exists() and any(Path(folder).iterdir()):
        raise ValueError(
            f"{str(folder)!r} is not empty. An import starts anew: name another folder, or empty this one."
        )
    first = list(islice(pairs, 1))  # a hostile archive fails here, before there is a folder
    pairs, features = chain(first, pairs), row_features({*SPEECH_COLUMNS, "audio"}, sampling_rate=None)
    refused, num_rows = [], 0
    for shard in count() if first else ():
        rows, rejected = [], []
        for name, read in islice(pairs, rows_per_shard):
            try:
                rows.append(_row(name, read(), source))
            except ValueError as error:
                rejected.append({"id": name, "failed_filters": [str(error)]})
        if not rows and not rejected:
            break
        folder = open_corpus(folder, {"imported_from": origin}) if shard == 0 else folder
        record = {"planned_rows": len(rows) + len(rejected), "rejected": rejected}
        write_shard(folder, shard, rows, record, features)
        refused += [(row["id"], row["failed_filters"][0]) for row in rejected]
        num_rows += len(rows)
    if not num_rows:
        reason = f" The first: {refused[0][0]}: {refused[0][1]}." if refused else ""
        raise ValueError(f"No whole pair was found ({len(refused)} were refused).{reason}")
    return refused


def read_fairseq(
    manifest: str | os.PathLike, labels: str | os.PathLike, root: str | os.PathLike | None = None
) -> Pairs:
    """Read fairseq's layout.

    Args:
        manifest (`str` or `Path`): a `.tsv` whose first line is the root folder, the others `path<tab>samples`.
        labels (`str` or `Path`): one line of ids for each recording.
        root (`str` or `Path`, *optional*): where the recordings are now; by default where the manifest says, or, if
            that is no folder here, beside the manifest.

    Raises:
        ValueError: the files do not belong together, or a path leaves the root.
    """
    manifest, labels = Path(manifest), Path(labels)
    first, *lines = manifest.read_text(encoding="utf-8").rstrip("\n").split("\n")
    ids = labels.read_text(encoding="utf-8").rstrip("\n").split("\n")
    if len(lines) != len(ids):
        raise ValueError(
            f"{manifest.name} names {len(lines)} recordings and {labels.name} has {len(ids)} lines of labels. Both "
            "must be of one export."
        )
    root = Path(root) if root is not None else Path(first) if Path(first).is_dir() else manifest.parent
    names = [line.split("\t")[0].replace("\\", "/") for line in lines]
    for name in names:
        _refuse_escape(name, manifest)
    for name, line in zip(names, ids, strict=True):
        yield name, partial(_labelled_pair, root / name, line)


def read_archives(folder: str | os.PathLike) -> Pairs:
    """Read `semantic/0.npy` and `wav/0.wav`: in two zips, in one, in zips in two folders, or unpacked.

    Two files are a pair if their paths are the same once folders and archives named `semantic` and `wav`, and endings
    `_semantic` and `_wav`, are left out.

    Args:
        folder (`str` or `Path`): with all of it; or one zip.

    Raises:
        ValueError: an archive is damaged or hostile.
    """
    folder = Path(folder)
    found = {".npy": {}, ".wav": {}}
    with contextlib.ExitStack() as stack:
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            inside = path.relative_to(folder.parent if folder.is_file() else folder)
            if path.suffix.lower() == ".zip":
                archive = stack.enter_context(_open_archive(path))
                for member in archive.namelist():
                    read = partial(_read_member, archive, member)
                    _add(found, inside.with_suffix("") / PurePosixPath(member), read)
            elif path.suffix.lower() in found:
                _add(found, inside, partial(_read_file, path))
        for key in sorted(found[".npy"].keys() | found[".wav"].keys(), key=_natural):
            yield "/".join(key), partial(_found_pair, found, key)


def read_npz_folder(folder: str | os.PathLike) -> Pairs:
    """Read `.npz` files with `semantic_prompt`, and `fine_prompt` or `coarse_prompt` or neither, beside their sound.

    Args:
        folder (`str` or `Path`): searched to any depth; a sound file has the name of its `.npz`.
    """
    folder = Path(folder)
    for path in sorted(folder.rglob("*.npz")):
        yield path.relative_to(folder).with_suffix("").as_posix(), partial(_npz_pair, path)


def _labelled_pair(path: Path, line: str) -> Pair:
    if not all(word.isdecimal() for word in line.split()):
        raise ValueError(f"its labels are no ids: {line[:40]!r}")
    return Pair(np.array(line.split(), np.int64), path)


def _found_pair(found: dict[str, dict], key: tuple[str, ...]) -> Pair:
    for suffix, what in ((".npy", "tokens"), (".wav", "sound")):
        if key not in found[suffix]:
            raise ValueError(f"it has no {what} ({suffix})")
    return Pair(read_array(found[".npy"][key]()).squeeze(), found[".wav"][key]())


def _npz_pair(path: Path) -> Pair:
    sounds = [path.with_suffix(extension) for extension in AUDIO_EXTENSIONS if path.with_suffix(extension).is_file()]
    if not sounds:
        raise ValueError(f"it has no sound: {path.with_suffix('.wav').name} or another extension")
    with _open_archive(path) as archive:
        members = archive.namelist()
        known = next((name for name in ("fine_prompt", "coarse_prompt") if f"{name}.npy" in members), None)
        if "semantic_prompt.npy" not in members:
            raise ValueError(f"it has no semantic_prompt; it holds {', '.join(sorted(members)) or 'nothing'}")
        tokens = read_array(_read_member(archive, "semantic_prompt.npy")).squeeze()
        if known is None:
            return Pair(tokens, sounds[0])
        codes = read_array(_read_member(archive, f"{known}.npy"))
    num_codebooks = {"fine_prompt": NUM_CODEBOOKS, "coarse_prompt": NUM_COARSE_CODEBOOKS}[known]
    if codes.ndim != 2 or len(codes) != num_codebooks:
        raise ValueError(f"its {known} has shape {codes.shape}; it must be ({num_codebooks}, num_frames)")
    unknown = np.full((NUM_CODEBOOKS - num_codebooks, codes.shape[1]), CODEBOOK_SIZE)
    return Pair(tokens, sounds[0], np.concatenate([codes, unknown]))


def export_fairseq(
    corpus: str, folder: str | os.PathLike, *, codes_to_waveform: Callable[[np.ndarray], np.ndarray] | None = None
) -> int:
    """Write a corpus as fairseq and the repositories that use it read one.

    Args:
        corpus (`str`): a folder or Hub id that [`load_corpus`] reads.
        folder (`str` or `Path`): gets `wav/` (16 kHz), `manifest.tsv`, `labels.txt`, the same as `manifest.km`, and
            `dict.km.txt` with each id and its count.
        codes_to_waveform (`Callable`, *optional*): `(8, num_frames)` to a waveform at 24 kHz, for rows without audio.

    Returns:
        `int`: the number of rows.

    Raises:
        ValueError: a row has neither audio nor codes that can be spoken.
    """
    folder = Path(folder)
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    lines, labels, counts = [str(folder.resolve())], [], Counter()
    for number, clip in enumerate(read_corpus(corpus)):
        waveform = clip.waveform
        if waveform is None:
            if codes_to_waveform is None or clip.audio_codes is None or clip.audio_codes.max() >= CODEBOOK_SIZE:
                raise ValueError(
                    f"Row {clip.id} has no audio. Give a codec that speaks its codes, all 8 of each frame."
                )
            waveform = resample(codes_to_waveform(clip.audio_codes), CODEC_SAMPLING_RATE, SAMPLING_RATE)
        name = f"wav/{number:08d}.wav"
        save_audio(folder / name, waveform, SAMPLING_RATE)
        lines.append(f"{name}\t{len(waveform)}")
        labels.append(" ".join(map(str, clip.semantic_tokens.tolist())))
        counts.update(clip.semantic_tokens.tolist())
    dictionary = [f"{token} {count}" for token, count in counts.most_common()]
    for name, text in (
        ("manifest.km", labels),
        ("labels.txt", labels),
        ("dict.km.txt", dictionary),
        ("manifest.tsv", lines),
    ):
        (folder / name).write_text("\n".join(text) + "\n", encoding="utf-8")
    return len(labels)


@torch.inference_mode()
def decode_codes(audio_codes: np.ndarray, codec: EncodecModel) -> np.ndarray:
    """Audio codes of shape `(8, num_frames)` to a waveform, `(num_samples,)`, at 24 kHz."""
    codes = torch.from_numpy(np.asarray(audio_codes, np.int64)).to(codec.device)[:, None]  # (8, 1, num_frames)
    return codec.decoder(codec.quantizer.decode(codes))[0, 0].float().cpu().numpy()


def read_array(content: bytes) -> np.ndarray:
    """An array of integers from the content of an .npy file, without unpickling and without trusting its header.

    Raises:
        ValueError: it is no array, pickled, not of integers, or not of the size that it announces.
    """
    file = io.BytesIO(content)
    try:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(file)]
        shape, fortran_order, dtype = read_header(file)
    except (ValueError, SyntaxError, TypeError, TokenError, KeyError) as error:
        raise ValueError("its .npy does not start as a numpy array does") from error
    if dtype.hasobject:
        raise ValueError("its .npy is pickled, and pickles are never opened, because they can run code")
    if dtype.kind not in "iu":
        raise ValueError(f"its .npy holds {dtype}, not integers")
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"its .npy announces shape {shape} of {dtype}, but holds {len(content) - file.tell()} bytes")
    array = np.frombuffer(content, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if fortran_order else "C").astype(np.int64)


def _row(name: str, pair: Pair, source: str) -> dict:
    tokens, codes = pair.semantic_tokens, pair.audio_codes
    if tokens.ndim != 1 or not len(tokens) or not 0 <= tokens.min() <= tokens.max() < SEMANTIC_VOCAB_SIZE:
        raise ValueError(
            f"its tokens of shape {tokens.shape} must be one or more ids in [0, {SEMANTIC_VOCAB_SIZE}); "
            "remove padding and end tokens"
        )
    num_frames = num_codec_frames(len(tokens))
    if codes is not None:
        if codes.shape[1] != num_frames:
            raise ValueError(f"{len(tokens)} tokens make {num_frames} codec frames, but there are {codes.shape[1]}")
        if codes.min() < 0 or codes.max() > CODEBOOK_SIZE:
            raise ValueError(
                f"its codes reach from {codes.min()} to {codes.max()}; they must lie in [0, {CODEBOOK_SIZE})"
            )
    audio = pair.audio if isinstance(pair.audio, bytes) else _read_file(pair.audio)
    waveform, sampling_rate = _waveform(audio)
    num_samples = num_samples_of_codec_frames(num_frames, sampling_rate)
    if abs(len(waveform) - num_samples) > LENGTH_TOLERANCE:
        fitting = num_semantic_tokens_of_samples(len(waveform), sampling_rate)
        raise ValueError(
            f"{len(tokens)} tokens make {num_samples} samples at {sampling_rate} Hz, but there are {len(waveform)}, "
            f"which hold {fitting} tokens"
        )
    return {
        "id": name,
        "source": source,
        "voice": UNKNOWN_VOICE,
        "semantic_tokens": tokens,
        "audio_codes": [] if codes is None else list(codes),
        "audio": stored_audio(name, waveform, sampling_rate),
    }


def _waveform(audio: bytes) -> tuple[np.ndarray, int]:
    """A sound file at the encoder's rate, if it has it, else at Bark's."""
    try:
        with soundfile.SoundFile(io.BytesIO(audio)) as file:
            sampling_rate = SAMPLING_RATE if file.samplerate == SAMPLING_RATE else CODEC_SAMPLING_RATE
    except soundfile.LibsndfileError:
        sampling_rate = CODEC_SAMPLING_RATE  # load_audio says what is wrong
    return load_audio(audio, sampling_rate), sampling_rate


def _open_archive(path: Path) -> zipfile.ZipFile:
    """A zip that nobody needs to be afraid of, to be read with [`_read_member`] only."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise ValueError(f"{path.name} is no zip archive, or a damaged one: {error}. Download it again.") from error
    try:
        for name in archive.namelist():
            _refuse_escape(name, path)
        unpacked, packed = sum(member.file_size for member in archive.infolist()), path.stat().st_size
        if unpacked > MAX_UNPACKED_RATIO * packed + MAX_FREE_BYTES:
            raise ValueError(
                f"{path.name} has {packed:,} bytes and unpacks to {unpacked:,}: it is a zip bomb, or no speech. It is "
                "not read."
            )
    except ValueError:
        archive.close()
        raise
    return archive


def _read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """One file of a zip, no more of it than its kind may have."""
    limit = MAX_AUDIO_BYTES if member.lower().endswith(".wav") else MAX_ARRAY_BYTES
    try:
        with archive.open(member) as file:
            content = file.read(limit + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"its {member} is damaged or encrypted: {error}") from error
    if len(content) > limit:
        raise ValueError(f"its {member} unpacks to more than {limit:,} bytes")
    return content


def _read_file(path: Path) -> bytes:
    limit = MAX_ARRAY_BYTES if path.suffix.lower() == ".npy" else MAX_AUDIO_BYTES
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    if path.stat().st_size > limit:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes; at most {limit:,} are read")
    return path.read_bytes()


def _refuse_escape(name: str, source: Path) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]) or "\0" in name:
        raise ValueError(f"{source.name} names {name!r}, which lies outside of it. Such a file is not read.")


def _add(found: dict[str, dict], path: Path | PurePosixPath, read: Callable[[], bytes]) -> None:
    suffix = path.suffix.lower()
    if suffix not in found:
        return
    stem = path.stem
    for ending in _SUFFIXES:
        stem = stem.removesuffix(ending)
    key = (*(part for part in path.parent.parts if part.lower() not in _FOLDER_NAMES), stem)
    if key in found[suffix]:
        raise ValueError(f"Two files are {'/'.join(key)}{suffix}; nobody can tell which is meant. Keep one of them.")
    found[suffix][key] = read


def _natural(key: tuple[str, ...]) -> tuple:
    """9 before 10."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in key)


__all__ = [
    "Pair",
    "decode_codes",
    "export_fairseq",
    "import_pairs",
    "read_archives",
    "read_array",
    "read_fairseq",
    "read_npz_folder",
]
