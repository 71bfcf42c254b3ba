"""Published artefacts of Bark as corpus rows, in folds that share neither voice nor sentence.

    pair_rows      tokens and codes with the audio that Bark made of them
    preset_rows    Suno's presets in 13 languages: tokens and codes with two renderings of their audio
    prompt_rows    voice prompts, without audio
    sweep_rows     audio of all tokens, one after the other
    preset_codec_rows, natural_codec_rows    speech and its EnCodec codes, without tokens

The folds of pairs and presets are fixed tables. Clips were grouped by voice (speaker embeddings, publishers' notes)
and by sentence (transcripts). All presets of a language say the same sentence, so a language is in one fold, with all
prompts that are named after it. The fold of any other prompt depends on the name of its voice.
"""

import hashlib
import re
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

import numpy as np

from ..audio import load_audio, resample
from ..bark.voice_prompt import VoicePrompt
from ..configuration_bark_semantic import (
    CODEBOOK_SIZE,
    CODEC_SAMPLING_RATE,
    NUM_CODEBOOKS,
    SAMPLING_RATE,
    num_codec_frames,
    num_samples_of_codec_frames,
    num_semantic_tokens,
)
from ..files import read_json
from .rows import NO_TOKEN

NUM_FOLDS = 5
# Presets and prompts of a language. English presets are in the fold with the fewest English pairs.
LANGUAGE_FOLDS = {
    "ja": 0, "pl": 0, "zh": 0, "es": 1, "it": 1, "ru": 1, "de": 2, "pt": 2, "fr": 3, "ko": 3, "tr": 3,
    "en": 4, "hi": 4,
}  # fmt: skip
PRESET_NAME = re.compile(r"(?:([a-z]{2})_)?speaker_\d")
LANGUAGE_OF_UNNAMED = "zh"  # speaker_0 to speaker_9: only Chinese presets share runs of tokens with them
ENHANCED_DELAY = 1_198  # samples at 24 kHz that precede the speech in enhanced renderings; bark_presets/manifest.json
# Group of clips that share a voice or a sentence: (fold, parts of their names).
GROUPS = {
    "sun voice, north wind": (0, ["15-53-35", "15-56-29", "16-02-54", "16-12-19", "16-19-37", "21-34-03"]),
    "universe": (1, ["classic_robot", "en_deadpan", "female_slow", "professional_reader", "narrator_light_bg"]),
    "seen things": (2, ["female_intense", "female_performing", "quiet_intense", "sharp_tone"]),
    "lincoln voice": (2, ["18-21-35", "18-22-48", "17-46-13", "17-27-47", "17-28-38"]),
    "chicken": (3, ["cartoon_extreme", "en_guitar", "solo_singer", "sing1", "snarky"]),
    "duo, deep narrator": (3, ["cool_duo", "narrator_deep"]),
    "japanese voice": (4, ["12-18-01", "12-53-20", "13-12-18"]),
    "interesting tone": (4, ["interesting_tone"]),
    "speaker 11": (4, ["speaker_11"]),
    "emma": (4, ["20-39-33"]),
    "mary": (4, ["20-40-23", "20-46-12", "20-55-18", "20-56-42", "06-05_15-25-17", "21-01-44"]),
    "reencode, konichi": (4, ["reencode", "konichi"]),
    "rock": (4, ["rock_maybe"]),
    "en_speaker_0": (LANGUAGE_FOLDS["en"], ["v1_en_speaker_0"]),  # the sentence of all English presets
}
MUSIC = (
    "20-46-12", "20-55-18", "20-56-42", "06-05_15-25-17", "21-01-44",
    "en_guitar", "sing1", "solo_singer", "rock_maybe",
)  # fmt: skip
OTHER_SPEECH = ("12-18-01", "12-53-20", "13-12-18", "konichi", "reencode", "21-34-03")  # Japanese, or not intelligible
TWINS = ("17-27-47", "17-28-38")  # the same tokens as 18-21-35 and 18-22-48
SHARED_SENTENCES = ("universe", "seen things", "chicken", "duo, deep narrator")  # groups of several voices
# Prompts and presets that may share a voice or a text with a pair: they would leak into the folds.
RELATED_SOURCES = ("JonathanFly", "rsxdalv")
RELATED_VOICES = ("hi_speaker_5", "narrator_deep")
NO_CODES = np.zeros((NUM_CODEBOOKS, 0), int)


def pair_rows(folder: Path, *, by_voice: bool = False, log: Callable[[str], None] = print) -> Iterator[dict]:
    """Yield clips with tokens and codes, in the folds of `GROUPS`.

    Args:
        folder (`Path`): contains `manifest.json`, and an `.npz` and an audio file for each clip.
        by_voice (`bool`): distribute clips that share a sentence, but no voice, over all folds.
        log (callable): is called with a line for each clip that is left out.
    """
    dealt = 0
    for entry in read_json(folder / "manifest.json", kind=list):
        name = entry["name"]
        group, fold = next((g, f) for g, (f, parts) in [*GROUPS.items(), (None, (None, [""]))] if _has(name, parts))
        if group is None:
            log(f"{name} is left out: it is in none of GROUPS, so it may share its voice or text with any fold.")
        if group is None or _has(name, TWINS):
            continue
        if by_voice and group in SHARED_SENTENCES:
            group, fold, dealt = name, dealt % NUM_FOLDS, dealt + 1
        kind = "other" if _has(name, OTHER_SPEECH) else "music" if _has(name, MUSIC) else "english"
        kind = "preset" if PRESET_NAME.fullmatch(group) else kind
        arrays = np.load(folder / f"{name}.npz", allow_pickle=False)
        known = arrays["fine_prompt"] if entry["has_fine"] else arrays["coarse_prompt"]
        codes = np.full((NUM_CODEBOOKS, known.shape[1]), CODEBOOK_SIZE)
        codes[: len(known)] = known
        waveform = load_audio(folder / entry["audio"])
        yield _row(name, "pair", arrays["semantic_prompt"], codes, waveform, kind=kind, voice=group, fold=fold)


def preset_rows(folder: Path, *, log: Callable[[str], None] = print) -> Iterator[dict]:
    """Yield Suno's presets, in the folds of `LANGUAGE_FOLDS`.

    A preset is a row with the source `preset`. Its enhanced rendering, if there is one, is a row with the source
    `preset_enhanced` and no codes; its delay of 50 ms is removed. Its `community_tokens` were predicted by the
    community's HuBERT quantizer from the delayed audio.

    Args:
        folder (`Path`): contains `manifest.json`, an `.npz` and an audio file for each preset, and `enhanced/`.
        log (callable): is called with a line for each preset that is left out.
    """
    for entry in read_json(folder / "manifest.json", kind=list):
        name, language = entry["name"], entry["language"]
        if language not in LANGUAGE_FOLDS:
            log(f"{name} is left out: {language!r} is not in LANGUAGE_FOLDS, so any fold may have its sentence.")
            continue
        arrays = np.load(folder / f"{name}.npz", allow_pickle=False)
        tokens, codes = arrays["semantic_prompt"], arrays["fine_prompt"]
        columns = _preset_columns(name, language)
        yield _row(name, "preset", tokens, codes, load_audio(folder / entry["audio"]), **columns)
        if entry.get("enhanced"):
            late = load_audio(folder / entry["enhanced"], CODEC_SAMPLING_RATE)
            moved = np.pad(late[ENHANCED_DELAY:], (0, ENHANCED_DELAY))
            waveform = resample(moved, CODEC_SAMPLING_RATE, SAMPLING_RATE)
            columns["community_tokens"] = arrays["community_semantic"].tolist()
            yield _row(f"{name}_enhanced", "preset_enhanced", tokens, NO_CODES, waveform, **columns)


def prompt_rows(path: Path, tokens_of_pairs: Container[tuple[int, ...]]) -> Iterator[dict]:
    """Yield voice prompts that are not among the pairs.

    Args:
        path (`Path`): an `.npz` with the arrays `names`, `semantic_0`, `fine_0`, ...
        tokens_of_pairs (`Container[tuple[int, ...]]`): tokens of the pairs; equal prompts are skipped.
    """
    arrays = np.load(path, allow_pickle=False)
    for i, name in enumerate(arrays["names"].tolist()):
        tokens, codes = arrays[f"semantic_{i}"].astype(int), arrays[f"fine_{i}"].astype(int)
        if tuple(tokens.tolist()) in tokens_of_pairs:
            continue
        if codes.shape[1] != num_codec_frames(len(tokens)) or codes.max() >= CODEBOOK_SIZE:
            prompt = VoicePrompt.from_tokens_and_codes(tokens, np.minimum(codes, CODEBOOK_SIZE - 1))
            tokens, codes = prompt.semantic_tokens, prompt.audio_codes
        voice = name.split("/")[-1].removesuffix(".npz")
        preset = PRESET_NAME.fullmatch(voice)
        language = (preset[1] or LANGUAGE_OF_UNNAMED) if preset else ""
        fold = LANGUAGE_FOLDS.get(language, int(hashlib.md5(voice.encode()).hexdigest(), 16) % NUM_FOLDS)
        related = name.startswith(RELATED_SOURCES) or _has(name, RELATED_VOICES)
        yield _row(name, "prompt", tokens, codes, voice=voice, language=language, fold=fold, in_folds=not related)


def sweep_rows(folder: Path) -> Iterator[dict]:
    """Yield clips that contain all tokens, one after the other; they are in no fold.

    Args:
        folder (`Path`): contains `semantic.npz` and `wav/000.flac`, ...
    """
    for i, tokens in enumerate(np.load(folder / "semantic.npz")["semantic_tokens"]):
        waveform = load_audio(folder / "wav" / f"{i:03d}.flac")
        yield _row(f"sweep_{i:03d}", "sweep", tokens, NO_CODES, waveform)


def preset_codec_rows(folder: Path) -> Iterator[dict]:
    """Yield the enhanced renderings of presets with EnCodec codes of the same audio, in the folds of the presets.

    They are not moved in time as in [`preset_rows`], so their tokens are not known. A front end for codes learns from
    them.

    Args:
        folder (`Path`): as in [`preset_rows`]; the `.npz` of such a preset contains `encodec_codes`.
    """
    for entry in read_json(folder / "manifest.json", kind=list):
        name, language = entry["name"], entry["language"]
        arrays = np.load(folder / f"{name}.npz", allow_pickle=False)
        if language in LANGUAGE_FOLDS and entry.get("enhanced") and "encodec_codes" in arrays:
            columns = _preset_columns(name, language)
            yield _codec_row(f"{name}_codec", arrays["encodec_codes"], folder / entry["enhanced"], **columns)


def natural_codec_rows(folder: Path) -> Iterator[dict]:
    """Yield recordings of people with their EnCodec codes and without tokens; they are in no fold.

    Args:
        folder (`Path`): contains `manifest.json`, and `NAME.flac` and `NAME.npz` with `codes` for each recording.
    """
    for entry in read_json(folder / "manifest.json", kind=list):
        name = entry["name"]
        codes = np.load(folder / f"{name}.npz", allow_pickle=False)["codes"]
        yield _codec_row(name, codes, folder / f"{name}.flac", voice=name)


def _preset_columns(name: str, language: str) -> dict:
    in_folds = not _has(name, RELATED_VOICES)
    return {"voice": name, "language": language, "fold": LANGUAGE_FOLDS[language], "in_folds": in_folds}


def _codec_row(name: str, codes: np.ndarray, path: Path, **columns) -> dict:
    tokens = np.full(num_semantic_tokens(codes.shape[1]), NO_TOKEN)
    num_frames = num_codec_frames(len(tokens))
    num_samples, waveform = num_samples_of_codec_frames(num_frames), load_audio(path)
    waveform = np.pad(waveform, (0, max(0, num_samples - len(waveform))))[:num_samples]
    return _row(name, "codec", tokens, codes[:, :num_frames].astype(int), waveform, **columns)


def _row(
    name: str, source: str, tokens: np.ndarray, codes: np.ndarray, waveform: np.ndarray | None = None, **columns
) -> dict:
    row = {
        "id": name,
        "source": source,
        "kind": source,
        "language": "",
        "voice": source,
        "fold": -1,
        "in_folds": True,  # False: trained on only by the final model, for which nothing is held out
        "semantic_tokens": tokens.tolist(),
        "community_tokens": [],  # the community quantizer's prediction for the same audio, where it is known
        "audio_codes": codes.tolist(),
        "audio": np.zeros(0, np.float32) if waveform is None else waveform,
    }
    return {**row, **columns}


def _has(name: str, parts: Iterable[str]) -> bool:
    return any(part in name for part in parts)


__all__ = ["natural_codec_rows", "pair_rows", "preset_codec_rows", "preset_rows", "prompt_rows", "sweep_rows"]
