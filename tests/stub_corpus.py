"""Corpora and utterances from a stub of Bark that takes no time."""

import numpy as np
import pyarrow.parquet as pq

from hf_bark_semantic.bark.request import SynthesisRequest, SynthesisResult
from hf_bark_semantic.bark.voice_prompt import VoicePrompt
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.corpus.generation import Recipe, generate_shard
from hf_bark_semantic.corpus.plan import CorpusPlan
from hf_bark_semantic.corpus.shards import finished_shards, open_corpus, write_shard
from hf_bark_semantic.corpus.texts import Sentence
from hf_bark_semantic.voices.splitting import estimate_duration_s
from tiny import random_codes

SENTENCES = [Sentence(f"This is sentence number {number}.", "en") for number in range(7)]
VOICES = {"none": None, "v2/en_speaker_1": VoicePrompt(np.arange(40), random_codes(60))}
TEXT = "This sentence takes about three seconds to say."  # 3.1 s


def new_plan(**changes) -> CorpusPlan:
    values = {"sentences": SENTENCES, "voices": VOICES, "num_rows": 30, "rows_per_shard": 4, "sound_share": 0.3}
    values |= {"semantic_temperatures": (0.5, 0.7), "coarse_temperatures": (0.7,), "fine_temperatures": (0.5,)}
    return CorpusPlan(**{**values, **changes})


def new_recipe(**changes) -> Recipe:
    return Recipe(**{"model": "stub", "revision": "1", **changes})


def speech_like(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with syllables and pauses, which passes the filters."""
    syllables = np.clip(np.sin(np.arange(num_samples) * 2 * np.pi * 4 / 24_000), 0, 1)
    return (0.1 * syllables * rng.standard_normal(num_samples)).astype(np.float32)


def speak(requests):
    """A Bark that needs no time: what it says depends on the request alone."""
    for index, request in enumerate(requests):
        rng = np.random.default_rng([request.seed, int(1000 * request.semantic.temperature)])
        tokens = rng.integers(0, 10_000, round(estimate_duration_s(request.text) * 49.9 * rng.uniform(0.8, 1.2)))
        codes = rng.integers(0, 1024, (8, num_codec_frames(len(tokens))))
        yield SynthesisResult(
            semantic_tokens=tokens,
            audio_codes=codes,
            waveform=speech_like(320 * codes.shape[1], rng),
            sampling_rate=24_000,
            finish_reason="length" if request.seed % 5 == 0 else "eos",
            request=request,
            index=index,
        )


def start(folder, plan, recipe) -> list[int]:
    """What the first process does: the shards that are missing."""
    open_corpus(folder, {"plan": plan.description(), "recipe": recipe.description()})
    return sorted(plan.planned_rows().keys() - finished_shards(folder, plan.planned_rows()))


def work(folder, plan, recipe, shards, speak=speak) -> None:
    """What each process does."""
    for shard in shards:
        rows, record = generate_shard(plan, shard, recipe, speak)
        write_shard(folder, shard, rows, record, recipe.features)


def generate(folder, plan, recipe) -> None:
    work(folder, plan, recipe, start(folder, plan, recipe))


def rows_of(folder) -> list[dict]:
    return [row for file in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def speech(seconds: float = 3.1, seed: int = 0) -> np.ndarray:
    return speech_like(round(seconds * 24_000), np.random.default_rng(seed))


def utterance(waveform=None, tokens=None, text=TEXT, finish_reason="eos", voice_prompt=None) -> SynthesisResult:
    waveform = speech() if waveform is None else waveform.astype(np.float32)
    tokens = np.random.default_rng(0).integers(0, 10_000, 155) if tokens is None else tokens
    request = SynthesisRequest(text=text, voice_prompt=voice_prompt)
    return SynthesisResult(tokens, random_codes(233), waveform, 24_000, finish_reason, request, 0)
