"""Stage 1. Real Bark artefacts to one labelled corpus, in folds that share neither voice nor sentence.

    python training/prepare_bark_artefacts.py ../shared/data outputs/bark_artefacts

    before                           after
    shared/data/bark_pairs/          outputs/bark_artefacts/     a `datasets` folder with one row per clip:
    shared/data/bark_prompts.npz         id, source, kind, voice, fold, in_folds, semantic_tokens,
    shared/data/bark_token_sweep/        audio_codes (1024: unknown; or empty), audio (16 kHz; or empty)

The folds of the pairs are a table here, because they were found by listening machines and people's notes: voices by
speaker embedding, sentences by transcript. Prompts fold by the name of the voice. With --by-voice, clips that share a
sentence but not a voice are dealt out one by one: how much those sentences give away is one of the results.
"""

import argparse
import hashlib
import json
import re
from pathlib import Path

import numpy as np
from datasets import Dataset

from hf_bark_semantic.audio import load_audio
from hf_bark_semantic.bark.voice_prompt import VoicePrompt
from hf_bark_semantic.configuration_bark_semantic import CODEBOOK_SIZE, NUM_CODEBOOKS, num_codec_frames

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
MUSIC = [
    "20-46-12",
    "20-55-18",
    "20-56-42",
    "06-05_15-25-17",
    "21-01-44",
    "en_guitar",
    "sing1",
    "solo_singer",
    "rock_maybe",
]
OTHER_SPEECH = ["12-18-01", "12-53-20", "13-12-18", "konichi", "reencode", "21-34-03"]  # Japanese, or not intelligible
TWINS = ["17-27-47", "17-28-38"]  # token by token the same as 18-21-35 and 18-22-48
# Prompts whose voice or text may be that of a pair: they would leak into the folds.
RELATED_SOURCES = ("JonathanFly", "rsxdalv")
RELATED_VOICES = ("hi_speaker_5", "narrator_deep")


SHARED_SENTENCES = ("universe", "seen things", "chicken", "duo, deep narrator")


def pair_rows(folder: Path, by_voice: bool):
    dealt = 0
    for entry in json.loads((folder / "manifest.json").read_text()):
        name = entry["name"]
        [(group, fold)] = [(g, f) for g, (f, parts) in GROUPS.items() if any(part in name for part in parts)]
        if any(part in name for part in TWINS):
            continue
        if by_voice and group in SHARED_SENTENCES:
            group, fold, dealt = name, dealt % NUM_FOLDS, dealt + 1
        kind = "music" if any(part in name for part in MUSIC) else "english"
        kind = "other" if any(part in name for part in OTHER_SPEECH) else kind
        arrays = np.load(folder / f"{name}.npz", allow_pickle=False)
        codes = np.full((NUM_CODEBOOKS, arrays["coarse_prompt"].shape[1]), CODEBOOK_SIZE)
        known = arrays["fine_prompt"] if entry["has_fine"] else arrays["coarse_prompt"]
        codes[: len(known)] = known
        tokens = arrays["semantic_prompt"].astype(int)
        waveform = load_audio(folder / entry["audio"])
        yield row(name, "pair", kind, group, fold, True, tokens, codes, waveform)


def prompt_rows(path: Path, tokens_of_pairs: set):
    arrays = np.load(path, allow_pickle=False)
    for i, name in enumerate(arrays["names"].tolist()):
        tokens, codes = arrays[f"semantic_{i}"].astype(int), arrays[f"fine_{i}"].astype(int)
        if tuple(tokens) in tokens_of_pairs:
            continue  # a pair: it is in the corpus already
        if codes.shape[1] != num_codec_frames(len(tokens)) or codes.max() >= CODEBOOK_SIZE:
            prompt = VoicePrompt.from_tokens_and_codes(tokens, np.minimum(codes, CODEBOOK_SIZE - 1))
            tokens, codes = prompt.semantic_tokens, prompt.audio_codes
        voice = re.sub(r"\.npz$", "", name.split("/")[-1])
        fold = int(hashlib.md5(voice.encode()).hexdigest(), 16) % NUM_FOLDS
        related = name.startswith(RELATED_SOURCES) or any(part in name for part in RELATED_VOICES)
        yield row(name, "prompt", "prompt", voice, fold, not related, tokens, codes, None)


def sweep_rows(folder: Path):
    for i, tokens in enumerate(np.load(folder / "semantic.npz")["semantic_tokens"].astype(int)):
        waveform = load_audio(folder / "wav" / f"{i:03d}.flac")
        codes = np.zeros((NUM_CODEBOOKS, 0), int)
        yield row(f"sweep_{i:03d}", "sweep", "sweep", "sweep", -1, True, tokens, codes, waveform)


def row(name, source, kind, voice, fold, in_folds, tokens, codes, waveform):
    return {
        "id": name,
        "source": source,
        "kind": kind,
        "voice": voice,
        "fold": fold,
        "in_folds": in_folds,  # False: only in the training of the final model, where nothing is held out
        "semantic_tokens": tokens.tolist(),
        "audio_codes": codes.tolist(),
        "audio": np.zeros(0, np.float32) if waveform is None else waveform,
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with bark_pairs/, bark_prompts.npz and bark_token_sweep/")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--by-voice", action="store_true", help="folds may share sentences, not voices")
    args = parser.parse_args(arguments)
    pairs = list(pair_rows(args.data / "bark_pairs", args.by_voice))
    prompts = list(prompt_rows(args.data / "bark_prompts.npz", {tuple(r["semantic_tokens"]) for r in pairs}))
    sweep = list(sweep_rows(args.data / "bark_token_sweep"))
    Dataset.from_list(pairs + prompts + sweep).save_to_disk(args.output)
    for name, rows in [("pairs", pairs), ("prompts", prompts), ("sweep", sweep)]:
        print(f"{name}: {len(rows)} clips, {sum(len(r['semantic_tokens']) for r in rows)} tokens")
    print(f"prompts in the folds: {sum(r['in_folds'] for r in prompts)}")


if __name__ == "__main__":
    main()
