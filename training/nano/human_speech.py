"""Make a human voice for compare_finetuning.py: Allison Smith's telephone prompts with texts, 16 kHz (CC BY-SA 3.0).

    apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-g722      of Debian
    for f in asterisk-core-sounds-en*.deb; do dpkg -x $f asterisk; done; pip install av
    python training/nano/human_speech.py asterisk outputs/nano/human

Writes FLAC files and `human.csv` (audio, text, speaker, held_out_text). The prompts are for training. `digits/` is for
tests: digit strings, concatenated from her digits, with texts that no stage of nano has seen.
"""

import argparse
import csv
import gzip
from pathlib import Path

import av
import numpy as np
import soundfile
from sentences import DIGITS, is_held_out, random_text

from hf_bark_semantic.configuration_bark_semantic import SAMPLING_RATE

STRINGS = 40  # digit strings
SHORTEST_S = 1.0  # of a prompt
SPEAKER = "allison"
TEXTS = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
SOUNDS = Path("usr/share/asterisk/sounds/en_US_f_Allison")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="folder of the unpacked packages")
    parser.add_argument("output", type=Path)
    args = parser.parse_args(arguments)
    (args.output / "digits").mkdir(parents=True, exist_ok=True)
    rows = []

    def add(name: str, waveform: np.ndarray, text: str, held_out_text: bool):
        soundfile.write(args.output / f"{name}.flac", waveform, SAMPLING_RATE)
        rows.append({"audio": f"{name}.flac", "text": text, "speaker": SPEAKER, "held_out_text": held_out_text})

    for name, text in spoken_prompts(args.packages / TEXTS).items():
        waveform = decoded(args.packages / SOUNDS / f"{name}.g722")
        if len(waveform) >= SHORTEST_S * SAMPLING_RATE:
            add(name.replace("/", "-"), waveform, text, False)
    digits = {word: decoded(args.packages / SOUNDS / "digits" / f"{i}.g722") for i, word in enumerate(DIGITS)}
    rng, texts = np.random.default_rng(0), []
    while len(texts) < STRINGS:
        text = random_text(rng, 1.0)
        if is_held_out(text) and text not in texts:
            texts.append(text)
            spoken = np.concatenate([digits[word] for word in text.strip(".").split()])
            add(f"digits/{len(texts):02d}", spoken, text, True)
    with (args.output / "human.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    seconds = sum(soundfile.info(args.output / row["audio"]).duration for row in rows)
    print(f"{len(rows)} recordings, {seconds / 60:.1f} minutes, {STRINGS} of them digit strings")


def spoken_prompts(table: Path) -> dict[str, str]:
    """Texts by file name, without tones, music and silence."""
    lines = gzip.decompress(table.read_bytes()).decode("utf-8").splitlines()
    pairs = (line.split(": ", 1) for line in lines if ": " in line and not line.startswith(";"))
    return {name.strip(): text.strip() for name, text in pairs if not set(text) & set("[](){}<>")}


def decoded(file: Path) -> np.ndarray:
    """A G.722 file as int16 samples at 16 kHz; empty if the package lacks it."""
    if not file.exists():
        return np.zeros(0, np.int16)
    with av.open(str(file), format="g722") as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


if __name__ == "__main__":
    main()
