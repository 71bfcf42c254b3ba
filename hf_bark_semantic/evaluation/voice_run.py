"""Run trials: each is synthesized, scored, saved and recorded once, also by several processes and after a kill.

run_trials      run a list of trials in batches
write_roles     write the roles of the recordings of each voice
results_of      the trials of a plan in the journal, and their figures
age_of_weights  the date of a model's weights, for the settings of a journal
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
    """Synthesize, score, save and record trials in batches.

    Args:
        trials (sequence of `Trial`): trials that are not in the journal.
        maker (`Maker`), scorers (`Scorers`), enrolment (`Enrolment`): make the waveforms, and score them.
        journal (`Journal`): for the scores; waveforms are written to `audio/` in its folder.
        batch_size (`int`): utterances in a batch of the synthesis.
    """
    trials = sorted(trials, key=lambda trial: trial.part in SPOKEN)  # so that batches of the synthesis are full
    for start in range(0, len(trials), batch_size):
        batch = trials[start : start + batch_size]
        for trial, waveform, facts in maker.make(batch):
            original = load_audio(trial.clip.audio, CODEC_SAMPLING_RATE) if trial.part == "codec" else None
            scores = score_trial(trial, waveform, scorers, enrolment, original=original)
            audio = _save(journal.folder, trial, waveform)
            journal.add(trial_record(trial, {"audio": audio, **facts, **scores}))
        print(f"{min(start + batch_size, len(trials))} of {len(trials)} trials", file=sys.stderr, flush=True)


def _save(folder: Path, trial: Trial, waveform: np.ndarray) -> str | None:
    """Write the waveform of a trial, except for recordings; return its path relative to the folder."""
    if trial.part == "original":
        return str(trial.clip.audio.resolve())
    if not len(waveform):
        return None
    name = re.sub(r"[^A-Za-z0-9_.@+-]", "_", trial.id)
    path = folder / "audio" / f"{name[:100]}-{zlib.crc32(trial.id.encode()):08x}.wav"  # unique names
    path.parent.mkdir(exist_ok=True)
    save_audio(path, waveform, CODEC_SAMPLING_RATE)
    return str(path.relative_to(folder))


def write_roles(file: Path, voices: Sequence[CastVoice]) -> None:
    """Write the roles of the recordings of each voice; `#t=` gives the part of a recording, in seconds."""
    roles = ("prompt", "enrolment", "tests")
    write_json(file, {v.name: {role: [_place(clip) for clip in getattr(v, role)] for role in roles} for v in voices})


def _place(clip: VoiceClip) -> str:
    if clip.audio is None:
        return f"text: {clip.text}"
    part = "" if clip.text else f"#t={clip.start_s:.2f},{clip.start_s + clip.seconds:.2f}"
    return f"{clip.audio.resolve()}{part}"


def results_of(trials: Sequence[Trial], journal: Journal, *, seed: int = 0) -> dict[str, Any]:
    """The numbers of `planned` and of scored `trials`, the `rows` of [`summarize`] and their `records`."""
    known = journal.records()
    records = [known[trial.id] for trial in trials if trial.id in known]
    rows = summarize(records, seed=seed)
    return {"planned": len(trials), "trials": len(records), "rows": rows, "records": records}


def age_of_weights(folder: str | os.PathLike | None) -> str | None:
    """The modification date of the newest weights in a folder, in UTC; `None` for a Hub id."""
    ages = [file.stat().st_mtime_ns for file in Path(folder).glob("*.safetensors")] if folder else []
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(max(ages) / 1e9)) if ages else None


__all__ = ["age_of_weights", "results_of", "run_trials", "write_roles"]
