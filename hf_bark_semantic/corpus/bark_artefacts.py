"""Real artefacts of Bark that people have published, as rows in folds that share neither voice nor sentence.

    pair_rows      tokens and codes with the audio that Bark made of them
    prompt_rows    voice prompts, without audio
    sweep_rows     audio of all tokens one after the other

The folds of the pairs are a table here, because they were found by models that judge speech and by people's notes:
voices by speaker embedding, sentences by transcript. Prompts fold by the name of the voice.
"""

import hashlib
import json
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

import numpy as np

from ..audio import load_audio
from ..bark.voice_prompt import VoicePrompt
from ..configuration_bark_semantic import CODEBOOK_SIZE, NUM_CODEBOOKS, num_codec_frames

NUM_FOLDS = 5
# group of clips that share a voice or a sentence: (fold, parts of their names)
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
}
MUSIC = (
    "20-46-12", "20-55-18", "20-56-42", "06-05_15-25-17", "21-01-44",
    "en_guitar", "sing1", "solo_singer", "rock_maybe",
)  # fmt: skip
OTHER_SPEECH = ("12-18-01", "12-53-20", "13-12-18", "konichi", "reencode", "21-34-03")  # Japanese, or not intelligible
TWINS = ("17-27-47", "17-28-38")  # token by token the same as 18-21-35 and 18-22-48
SHARED_SENTENCES = ("universe", "seen things", "chicken", "duo, deep narrator")  # groups of several voices
# Prompts whose voice or text may be that of a pair: they would leak into the folds.
RELATED_SOURCES = ("JonathanFly", "rsxdalv")
RELATED_VOICES = ("hi_speaker_5", "narrator_deep")


def pair_rows(folder: Path, *, by_voice: bool = False, log: Callable[[str], None] = print) -> Iterator[dict]:
    """Clips with their tokens and codes, in the folds of `GROUPS`.

    Args:
        folder (`Path`): with `manifest.json`, and an `.npz` and an audio file of each clip.
        by_voice (`bool`): deal clips that share a sentence but not a voice out to the folds one by one.
        log (callable): prints the clips that are left out.
    """
    dealt = 0
    for entry in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
        name = entry["name"]
        group, fold = next((g, f) for g, (f, parts) in [*GROUPS.items(), (None, (None, [""]))] if _has(name, parts))
        if group is None:
            log(f"{name} is left out: it is in none of GROUPS, so it may share its voice or text with any fold.")
        if group is None or _has(name, TWINS):
            continue
        if by_voice and group in SHARED_SENTENCES:
            group, fold, dealt = name, dealt % NUM_FOLDS, dealt + 1
        kind = "other" if _has(name, OTHER_SPEECH) else "music" if _has(name, MUSIC) else "english"
        arrays = np.load(folder / f"{name}.npz", allow_pickle=False)
        known = arrays["fine_prompt"] if entry["has_fine"] else arrays["coarse_prompt"]
        codes = np.full((NUM_CODEBOOKS, known.shape[1]), CODEBOOK_SIZE)
        codes[: len(known)] = known
        waveform = load_audio(folder / entry["audio"])
        yield _row(name, "pair", arrays["semantic_prompt"], codes, waveform, kind=kind, voice=group, fold=fold)


def prompt_rows(path: Path, tokens_of_pairs: Container[tuple[int, ...]]) -> Iterator[dict]:
    """Voice prompts that are not among the pairs.

    Args:
        path (`Path`): an `.npz` with `names`, `semantic_0`, `fine_0`, ...
        tokens_of_pairs (`Container[tuple[int, ...]]`): by which a pair is known again.
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
        fold = int(hashlib.md5(voice.encode()).hexdigest(), 16) % NUM_FOLDS
        related = name.startswith(RELATED_SOURCES) or _has(name, RELATED_VOICES)
        yield _row(name, "prompt", tokens, codes, voice=voice, fold=fold, in_folds=not related)


def sweep_rows(folder: Path) -> Iterator[dict]:
    """Clips of all tokens, which belong to no fold.

    Args:
        folder (`Path`): with `semantic.npz` and `wav/000.flac`, ...
    """
    for i, tokens in enumerate(np.load(folder / "semantic.npz")["semantic_tokens"]):
        waveform = load_audio(folder / "wav" / f"{i:03d}.flac")
        yield _row(f"sweep_{i:03d}", "sweep", tokens, np.zeros((NUM_CODEBOOKS, 0), int), waveform)


def _row(
    name: str, source: str, tokens: np.ndarray, codes: np.ndarray, waveform: np.ndarray | None = None, **columns
) -> dict:
    row = {
        "id": name,
        "source": source,
        "kind": source,
        "voice": source,
        "fold": -1,
        "in_folds": True,  # False: only in the training of the final model, where nothing is held out
        "semantic_tokens": tokens.tolist(),
        "audio_codes": codes.tolist(),
        "audio": np.zeros(0, np.float32) if waveform is None else waveform,
    }
    return {**row, **columns}


def _has(name: str, parts: Iterable[str]) -> bool:
    return any(part in name for part in parts)


__all__ = ["pair_rows", "prompt_rows", "sweep_rows"]
