"""The cost of a corpus before it is generated: hours of computation, and disk space."""

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..voices.splitting import estimate_duration_s
from .generation import Speak
from .plan import CorpusPlan
from .shards import shard_records, summarize_records

CODES_BYTES_PER_HOUR = 3.2e6  # tests/corpus/test_corpus_scale.py: 3.25e6 for random ids, 3.08e6 for real ones
AUDIO_BYTES_PER_HOUR = 91e6  # the FLAC files of 30 real Bark clips, 24 kHz, 16 bit


class Speed(NamedTuple):
    """Seconds of computation for a second of speech, and the origin of this figure."""

    real_time_factor: float
    origin: str


def recorded_speed(folder: Path) -> Speed | None:
    """The speed at which the shards of a corpus were made; `None` where there are none."""
    made = summarize_records(shard_records(folder))
    return Speed(made["compute_s"] / made["spoken_s"], "measured on the finished shards") if made["spoken_s"] else None


def measured_speed(plan: CorpusPlan, speak: Speak, num_rows: int, device: str) -> Speed:
    """Generate the first rows of a plan and measure the speed.

    Raises:
        ValueError: Bark generated no speech in them.
    """
    rows = [plan.row(index) for index in range(min(plan.num_rows, num_rows))]
    start = time.monotonic()
    results = list(speak([row.request(plan.voices[row.voice]) for row in rows]))
    spoken_s = sum(len(result.waveform) / result.sampling_rate for result in results)
    if not spoken_s:
        raise ValueError(
            "Bark generated no speech in the first rows, so its speed is unknown. Give --real-time-factor."
        )
    return Speed((time.monotonic() - start) / spoken_s, f"measured on {len(rows)} rows, on a {device}")


def describe_cost(
    folder: Path, plan: CorpusPlan, speed: Speed, *, with_audio: bool, num_processes: int, device: str
) -> str:
    """A few lines on the size of a planned corpus, and the time and disk space that it takes.

    Args:
        folder (`Path`): the corpus; finished shards show how much space a row takes.
        speed (`Speed`): the speed of one process.
        device (`str`): the device of each process, `"CPU"` or `"GPU"`.
    """
    made, languages, speech_s = summarize_records(shard_records(folder)), Counter(), 0.0
    for row in map(plan.row, range(plan.num_rows)):
        speech_s += estimate_duration_s(row.text)
        languages[row.language or "unknown"] += 1
    hours, made_hours = speech_s / 3600, sum(made["speech_s"].values()) / 3600
    bytes_per_hour = CODES_BYTES_PER_HOUR + AUDIO_BYTES_PER_HOUR * with_audio
    if made_hours:
        bytes_per_hour = made["bytes"] / made_hours
    existing = next(place for place in [folder, *folder.resolve().parents] if place.exists())
    device_hours = hours * speed.real_time_factor
    rejected = f"; {made['rejected_rows'] / made['planned_rows']:.1%} failed so far" if made["planned_rows"] else ""
    return "\n".join(
        [
            f"rows        {plan.num_rows:,} before filters{rejected}",
            f"shards      {plan.num_shards:,} of {plan.rows_per_shard} rows; {made['planned_rows']:,} rows finished",
            f"texts       {len(plan.sentences):,}: {', '.join(f'{k} {v:,}' for k, v in sorted(languages.items()))}",
            f"voices      {len(plan.voices):,}",
            f"speech      about {hours:.2f} hours, estimated from the texts",
            f"computing   about {device_hours:.2f} {device} hours: {speed.real_time_factor:.2f} s for a second of "
            f"speech, {speed.origin}",
            f"time        about {device_hours / num_processes:.2f} hours on {num_processes} "
            f"process{'es' * (num_processes > 1)}",
            f"disk        about {hours * bytes_per_hour / 1e6:,.1f} MB {'with' if with_audio else 'without'} audio; "
            f"{shutil.disk_usage(existing).free / 1e6:,.0f} MB are free",
        ]
    )


__all__ = ["Speed", "describe_cost", "measured_speed", "recorded_speed"]
