"""Running trials: each is made, scored, saved and noted once, also by several processes and after a kill.

run_trials      a list of trials, batch by batch
write_roles     which recording prompted, enrolled and tested each voice
results_of      the trials of a plan in the journal, and their figures
age_of_weights  part of the settings of a journal: other weights of the same name make other trials
"""

import os
import re
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import load_audio, save_audio
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..files import write_json
from .journal import Journal
from .voice_casting import CastVoice
from .voice_clips import VoiceClip
from .voice_figures import summarize
from .voice_scores import Enrolment, Scorers, score_trial
from .voice_trials import Trial, trial_record
from .voice_waveforms import SPOKEN, Maker


def run_trials(
    trials: Sequence[Trial],
    maker: Maker,
    *,
    scorers: Scorers,
    enrolment: Enrolment,
    journal: Journal,
    batch_size: int = 8,
) -> None:
    """Make, score, save and note trials, one batch after the other.

    Args:
        trials (sequence of `Trial`): those that the journal lacks.
        maker (`Maker`), scorers (`Scorers`), enrolment (`Enrolment`): what they are made and scored with.
        journal (`Journal`): takes the scores; sounds go to `audio/` in its folder.
        batch_size (`int`): utterances that are synthesized at once.
    """
    trials = sorted(trials, key=lambda trial: trial.part in SPOKEN)  # so that batches of syntheses are full
    for start in range(0, len(trials), batch_size):
        batch = trials[start : start + batch_size]
        for trial, waveform, facts in maker.make(batch):
            original = load_audio(trial.clip.audio, CODEC_SAMPLING_RATE) if trial.part == "codec" else None
            scores = score_trial(trial, waveform, scorers, enrolment, original=original)
            audio = _save(journal.folder, trial, waveform)
            journal.add(trial_record(trial, {"audio": audio, **facts, **scores}))
        print(f"{min(start + batch_size, len(trials))} of {len(trials)} trials", file=sys.stderr, flush=True)


def _save(folder: Path, trial: Trial, waveform: np.ndarray) -> str | None:
    """Write the sound of a trial; its path relative to the folder. Recordings stay where they are."""
    if trial.part == "original":
        return str(trial.clip.audio.resolve())
    if not len(waveform):
        return None
    name = re.sub(r"[^A-Za-z0-9_.@+-]", "_", trial.id)
    path = folder / "audio" / f"{name[:100]}-{zlib.crc32(trial.id.encode()):08x}.wav"  # other trials, other names
    path.parent.mkdir(exist_ok=True)
    save_audio(path, waveform, CODEC_SAMPLING_RATE)
    return str(path.relative_to(folder))


def write_roles(file: Path, voices: Sequence[CastVoice]) -> None:
    """Which recordings prompted, enrolled and tested each voice; `#t=` names a part of one, in seconds."""
    roles = ("prompt", "enrolment", "tests")
    write_json(file, {v.name: {role: [_place(clip) for clip in getattr(v, role)] for role in roles} for v in voices})


def _place(clip: VoiceClip) -> str:
    if clip.audio is None:
        return f"text: {clip.text}"
    part = "" if clip.text else f"#t={clip.start_s:.2f},{clip.start_s + clip.seconds:.2f}"
    return f"{clip.audio.resolve()}{part}"


def results_of(trials: Sequence[Trial], journal: Journal, *, seed: int = 0) -> dict[str, Any]:
    """How many `trials` are `planned` and scored, the `rows` of [`summarize`] and the `records` behind them."""
    known = journal.records()
    records = [known[trial.id] for trial in trials if trial.id in known]
    rows = summarize(records, seed=seed)
    return {"planned": len(trials), "trials": len(records), "rows": rows, "records": records}


def age_of_weights(folder: str | os.PathLike | None) -> str | None:
    """When the newest weights in a folder were written, in UTC; `None` where it is no folder, as with a Hub id."""
    ages = [file.stat().st_mtime_ns for file in Path(folder).glob("*.safetensors")] if folder else []
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(max(ages) / 1e9)) if ages else None


__all__ = ["age_of_weights", "results_of", "run_trials", "write_roles"]
