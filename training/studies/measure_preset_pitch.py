"""Measure the median pitch of voice presets, for `bark/preset_pitches.json`.

    python training/studies/measure_preset_pitch.py shared/data/bark_presets

Suno's presets are measured on recordings (`en_speaker_9.flac`, ...), nano's on the audio that its codec decodes from
their codes. Needs praat-parselmouth, of the extra `test`.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import parselmouth
from transformers import pipeline

from hf_bark_semantic import save_audio
from hf_bark_semantic.bark.presets import PITCHES
from hf_bark_semantic.configuration_bark_semantic import CODEC_SAMPLING_RATE
from hf_bark_semantic.packaged import NANO
from hf_bark_semantic.pipelines.cloning import VOICE_CLONING_TASK
from hf_bark_semantic.voices.cloning import decode_codes

FLOOR_HZ, CEILING_HZ = 75, 500


def median_pitch_hz(recording: Path) -> float:
    """Median of Praat's autocorrelation pitch over the voiced frames of a recording, in Hz.

    Raises:
        ValueError: no frame is voiced.
    """
    pitch = parselmouth.Sound(str(recording)).to_pitch_ac(pitch_floor=FLOOR_HZ, pitch_ceiling=CEILING_HZ)
    voiced = pitch.selected_array["frequency"]
    voiced = voiced[voiced > 0]
    if not len(voiced):
        raise ValueError(f"{recording.name!r} has no voiced frame. Leave it out.")
    return float(np.median(voiced))


def nano_pitches(folder: Path) -> dict[str, int]:
    """The median pitches of nano's presets, whose audio is written to a folder."""
    speak = pipeline(VOICE_CLONING_TASK, bark=NANO)
    pitches = {}
    for name in speak.voice_presets:
        codes = speak(name)["voice_prompt"].audio_codes.copy()
        file = save_audio(folder / f"{name}.wav", decode_codes(codes, speak.bark.codec_model), CODEC_SAMPLING_RATE)
        pitches[name] = round(median_pitch_hz(file))
    return pitches


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder of Suno's presets as en_speaker_9.flac")
    args = parser.parse_args(arguments)
    suno = {
        f"v2/{file.stem}": round(median_pitch_hz(file)) for file in sorted(args.recordings.glob("*_speaker_*.flac"))
    }
    with tempfile.TemporaryDirectory() as folder:
        nano = nano_pitches(Path(folder))
    table = {"what": __doc__.splitlines()[0], "suno": suno, "nano": nano}
    PITCHES.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
