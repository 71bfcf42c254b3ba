"""A corpus of 100,000 rows is written, continued, streamed and read in constant memory.

    python -m pytest tests/corpus/test_corpus_scale.py -m slow -s
    python tests/corpus/test_corpus_scale.py 100000 outputs/scale      (prints the same figures; any number of rows)

Rows are synthetic: 8 s of random ids, which cannot be compressed below 10 bits each.
"""

import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest

from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.corpus.generation import Recipe
from hf_bark_semantic.corpus.plan import CorpusPlan
from hf_bark_semantic.corpus.rows import SPEECH_COLUMNS, read_corpus, row_features
from hf_bark_semantic.corpus.shards import (
    finished_shards,
    open_corpus,
    shard_records,
    summarize_records,
    write_shard,
)
from hf_bark_semantic.corpus.texts import Sentence

NUM_TOKENS = 400  # 8 s
FLAC_BYTES_PER_HOUR = 91e6  # the FLAC files among the 42 real Bark clips: 24 kHz, 16 bit


def memory_mb() -> float:
    """Memory of this process that is not a mapped file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status tells no RssAnon")


def row(index: int) -> dict:
    rng = np.random.default_rng(index)
    codes = rng.integers(0, 1024, (8, num_codec_frames(NUM_TOKENS)), np.int16)
    tokens = rng.integers(0, 10_000, NUM_TOKENS, np.int32)
    return {
        "id": f"{index:08d}",
        "voice": "none",
        "source": "synthetic",
        "semantic_tokens": tokens,
        "audio_codes": list(codes),
    }


def watched(items, count: int):
    """Pass items on, and print how memory grows after the first tenth."""
    start, seconds = None, time.monotonic()
    for number, item in enumerate(items):
        if number == max(1, count // 10):
            start = memory_mb()
        yield item
    growth = memory_mb() - start
    print(f"  {number + 1:,} in {time.monotonic() - seconds:.1f} s, memory {start:.0f} MB and {growth:+.1f} MB")
    assert growth < 100, f"memory grew by {growth:.0f} MB"


def make(folder: Path, plan: CorpusPlan, shards: list[int]) -> None:
    for shard in watched(shards, len(shards)):
        rows = [row(index) for index in range(shard * 64, shard * 64 + plan.planned_rows([shard])[shard])]
        write_shard(folder, shard, rows, {"planned_rows": len(rows), "rejected": []}, row_features(SPEECH_COLUMNS))


def check(num_rows: int, folder: Path) -> None:
    plan = CorpusPlan([Sentence("text")], {"none": None}, num_rows, (0.7,), (0.7,), (0.5,))
    description = {"plan": plan.description(), "recipe": Recipe("stub", "1").description()}
    print("write, in two runs")
    open_corpus(folder, description)
    half = plan.num_shards // 2
    make(folder, plan, list(range(half)))
    open_corpus(folder, description)
    started = time.monotonic()
    finished = finished_shards(folder, plan.planned_rows())
    print(f"  {len(finished):,} shards checked in {time.monotonic() - started:.1f} s")
    assert finished == list(range(half))
    make(folder, plan, list(range(half, plan.num_shards)))
    total = summarize_records(shard_records(folder))
    hours = sum(total["speech_s"].values()) / 3600
    per_hour = total["bytes"] / hours
    print(f"{total['rows']:,} rows, {hours:.1f} hours, {per_hour / 1e6:.2f} MB an hour of random ids")
    print(f"  FLAC needs {FLAC_BYTES_PER_HOUR / per_hour:.0f} times that")
    assert total["rows"] == num_rows and per_hour < 3.6e6

    print("stream")
    stream = datasets.load_dataset(str(folder), split="train", streaming=True).shuffle(seed=0, buffer_size=100)
    assert len({row["id"] for row in watched(stream, num_rows)}) == num_rows
    print("read as training does")
    seen = sum(clip.num_tokens for clip in watched(read_corpus(str(folder)), num_rows))
    assert seen == num_rows * NUM_TOKENS


@pytest.mark.slow
def test_a_hundred_thousand_rows_in_flat_memory(tmp_path):
    check(100_000, tmp_path / "corpus")


def test_real_codes_need_a_thirtieth_of_flac(tmp_path, real_data):
    arrays = np.load(real_data / "bark_prompts.npz", allow_pickle=False)
    rows = [
        {
            "id": str(i),
            "voice": "x",
            "semantic_tokens": arrays[f"semantic_{i}"][:300],
            "audio_codes": list(arrays[f"fine_{i}"][:, : num_codec_frames(300)]),
        }
        for i in range(64)
    ]
    open_corpus(tmp_path / "c", {})
    write_shard(tmp_path / "c", 0, rows, {"planned_rows": 64, "rejected": []}, row_features(SPEECH_COLUMNS))
    total = summarize_records(shard_records(tmp_path / "c"))
    per_hour = total["bytes"] / sum(total["speech_s"].values()) * 3600
    print(f"{per_hour / 1e6:.2f} MB an hour of real codes")
    assert 25 < FLAC_BYTES_PER_HOUR / per_hour < 60


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    datasets.config.HF_DATASETS_CACHE = folder.with_name(f"{folder.name}_cache")
    check(int(sys.argv[1]), folder)
