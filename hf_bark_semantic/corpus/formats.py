"""Read and write layouts of tokens and audio that other programs use.

    read_fairseq      manifest.tsv + labels.txt (or .km)
    read_archives     the community's zips: semantic/0.npy + wav/0.wav, packed or unpacked
    read_npz_folder   0.npz (a voice prompt) + 0.wav
    export_fairseq    a corpus -> manifest.tsv, labels.txt, manifest.km, dict.km.txt and wav/

[`import_pairs`] writes the pairs of a reader as a corpus.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from ..audio import AUDIO_EXTENSIONS, resample, save_audio
from ..configuration_bark_semantic import (
    CODEBOOK_SIZE,
    CODEC_SAMPLING_RATE,
    NUM_COARSE_CODEBOOKS,
    NUM_CODEBOOKS,
    SAMPLING_RATE,
)
from ..files import atomic_write, read_text
from .pairs import Pair, Pairs
from .rows import read_corpus
from .untrusted import open_archive, read_array, read_file, read_member, refuse_escape

MAX_DIGITS = 18  # so that int64 can hold an id
_FOLDER_NAMES = ("semantic", "wav")
_SUFFIXES = ("_semantic", "_wav")  # gitmylo's prepared folders: 0_semantic.npy, 0_wav.wav


def read_fairseq(
    manifest: str | os.PathLike, labels: str | os.PathLike, root: str | os.PathLike | None = None
) -> Pairs:
    """Read fairseq's layout.

    Args:
        manifest (`str` or `Path`): a `.tsv` whose first line is the root folder, the others `path<tab>samples`.
        labels (`str` or `Path`): one line of ids for each recording.
        root (`str` or `Path`, *optional*): the folder of the recordings; by default, the root in the manifest, or the
            folder of the manifest if that root does not exist.

    Raises:
        ValueError: the files do not belong together, or a path leaves the root.
    """
    manifest, labels = Path(manifest), Path(labels)
    first, *lines = read_text(manifest).rstrip("\n").split("\n")
    ids = read_text(labels).rstrip("\n").split("\n")
    if len(lines) != len(ids):
        raise ValueError(
            f"{manifest.name} names {len(lines)} recordings and {labels.name} has {len(ids)} lines of labels. Both "
            "must come from the same export."
        )
    root = Path(root) if root is not None else Path(first) if os.path.isdir(first) else manifest.parent
    names = [line.split("\t")[0].replace("\\", "/") for line in lines]
    for name in names:
        refuse_escape(name, manifest)
    for name, line in zip(names, ids, strict=True):
        yield name, partial(_labelled_pair, root / name, line)


def read_archives(folder: str | os.PathLike) -> Pairs:
    """Read `semantic/0.npy` and `wav/0.wav`: in two zips, in one, in zips in two folders, or unpacked.

    Two files are a pair if their paths are equal without the folder and archive names `semantic` and `wav` and the
    endings `_semantic` and `_wav`.

    Args:
        folder (`str` or `Path`): contains all files; or one zip.

    Raises:
        ValueError: an archive is damaged or hostile.
    """
    folder = Path(folder)
    found = {".npy": {}, ".wav": {}}
    with contextlib.ExitStack() as stack:
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            inside = path.relative_to(folder.parent if folder.is_file() else folder)
            if path.suffix.lower() == ".zip":
                archive = stack.enter_context(open_archive(path))
                for member in archive.namelist():
                    read = partial(read_member, archive, member)
                    _add(found, inside.with_suffix("") / PurePosixPath(member), read)
            elif path.suffix.lower() in found:
                _add(found, inside, partial(read_file, path))
        for key in sorted(found[".npy"].keys() | found[".wav"].keys(), key=_natural):
            yield "/".join(key), partial(_found_pair, found, key)


def read_npz_folder(folder: str | os.PathLike) -> Pairs:
    """Read `.npz` files with `semantic_prompt` and, optionally, `fine_prompt` or `coarse_prompt`, and their audio.

    Args:
        folder (`str` or `Path`): searched with its subfolders; an audio file lies beside its `.npz`, by the same name.
    """
    folder = Path(folder)
    for path in sorted(folder.rglob("*.npz")):
        yield path.relative_to(folder).with_suffix("").as_posix(), partial(_npz_pair, path)


def _labelled_pair(path: Path, line: str) -> Pair:
    if not all(word.isdecimal() and len(word) <= MAX_DIGITS for word in line.split()):
        raise ValueError(f"its labels are not ids: {line[:40]!r}")
    return Pair(np.array(line.split(), np.int64), path)


def _found_pair(found: dict[str, dict], key: tuple[str, ...]) -> Pair:
    for suffix, what in ((".npy", "tokens"), (".wav", "audio")):
        if key not in found[suffix]:
            raise ValueError(f"it has no {what} ({suffix})")
    return Pair(read_array(found[".npy"][key]()).squeeze(), found[".wav"][key]())


def _npz_pair(path: Path) -> Pair:
    files = [path.with_suffix(extension) for extension in AUDIO_EXTENSIONS if path.with_suffix(extension).is_file()]
    if not files:
        raise ValueError(f"it has no audio: add {path.with_suffix('.wav').name}, or another format")
    with open_archive(path) as archive:
        members = archive.namelist()
        known = next((name for name in ("fine_prompt", "coarse_prompt") if f"{name}.npy" in members), None)
        if "semantic_prompt.npy" not in members:
            raise ValueError(f"it has no semantic_prompt; it holds {', '.join(sorted(members)) or 'nothing'}")
        tokens = read_array(read_member(archive, "semantic_prompt.npy")).squeeze()
        if known is None:
            return Pair(tokens, files[0])
        codes = read_array(read_member(archive, f"{known}.npy"))
    num_codebooks = {"fine_prompt": NUM_CODEBOOKS, "coarse_prompt": NUM_COARSE_CODEBOOKS}[known]
    if codes.ndim != 2 or len(codes) != num_codebooks:
        raise ValueError(f"its {known} has shape {codes.shape}; it must be ({num_codebooks}, num_frames)")
    unknown = np.full((NUM_CODEBOOKS - num_codebooks, codes.shape[1]), CODEBOOK_SIZE)
    return Pair(tokens, files[0], np.concatenate([codes, unknown]))


def export_fairseq(
    corpus: str, folder: str | os.PathLike, *, codes_to_waveform: Callable[[np.ndarray], np.ndarray] | None = None
) -> int:
    """Write a corpus in the layout of fairseq and repositories that use it, except clips without tokens.

    Args:
        corpus (`str`): a folder or Hub id that [`load_corpus`] reads.
        folder (`str` or `Path`): for `wav/` (16 kHz), `manifest.tsv`, `labels.txt`, a copy of it as `manifest.km`,
            and `dict.km.txt` with each id and its count.
        codes_to_waveform (`Callable`, *optional*): `(8, num_frames)` to a waveform at 24 kHz, for rows without audio.

    Returns:
        `int`: the number of rows.

    Raises:
        ValueError: a row has neither audio nor codes that can be decoded.
    """
    folder = Path(folder)
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    lines, labels, counts = [str(folder.resolve())], [], Counter()
    for number, clip in enumerate(clip for clip in read_corpus(corpus) if clip.has_tokens):
        waveform = clip.waveform
        if waveform is None:
            if codes_to_waveform is None or clip.audio_codes is None or clip.audio_codes.max() >= CODEBOOK_SIZE:
                raise ValueError(
                    f"Row {clip.id} has no audio. Name a codec for its codes, which must be all 8 of each frame."
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
        with atomic_write(folder / name) as file:
            file.write(("\n".join(text) + "\n").encode())
    return len(labels)


def _add(found: dict[str, dict], path: Path | PurePosixPath, read: Callable[[], bytes]) -> None:
    suffix = path.suffix.lower()
    if suffix not in found:
        return
    stem = path.stem
    for ending in _SUFFIXES:
        stem = stem.removesuffix(ending)
    key = (*(part for part in path.parent.parts if part.lower() not in _FOLDER_NAMES), stem)
    if key in found[suffix]:
        raise ValueError(f"There are two files for {'/'.join(key)}{suffix}. Keep one of them.")
    found[suffix][key] = read


def _natural(key: tuple[str, ...]) -> tuple:
    """A sort key that puts 9 before 10."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in key)


__all__ = ["export_fairseq", "read_archives", "read_fairseq", "read_npz_folder"]
