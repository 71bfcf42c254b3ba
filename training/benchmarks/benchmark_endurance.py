"""Long runs: whether memory, threads, open files and temporary files stay flat.

    python training/benchmarks/benchmark_endurance.py --output outputs/endurance
    python training/benchmarks/benchmark_endurance.py --runs encode page --files 500 --requests 20 --output short

    encode      `bark-semantic encode` of 10,000 recordings of 1 to 3 s by nano's encoder
    generate    `generate_corpus`: nano speaks 2,000 lines of four words
    train       `train_encoder`: 5,000 steps of nano's recipe on two short crops, with a checkpoint every 100 steps
    page        `bark-semantic app`: 200 texts spoken one after the other in a cloned voice

Each runs in a process of its own, which is looked at once a second. The first fifth of its time is its warm-up; growth
is the mean resident memory of the last fifth over that of the second.

    output/ endurance.json     figures at a twentieth, a fifth and half of the time, and at the end; all of memory
            encode.log ...     what the processes printed
"""

import argparse
import contextlib
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from datasets import Dataset

from benchmark_page import RATE, WORDS, Visitor, state_of, wait_until_open
from hf_bark_semantic import load_audio, nano_recording, save_audio
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.files import write_json
from hf_bark_semantic.publishing import markdown_table

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_RECORDINGS = 20  # which the files of `encode` are links to
CROPS = ("batches.crops.synthetic=2", "batches.num_tokens=64")
SHOWN = ("resident_mb", "threads", "open_files", "temporary_files")


@dataclass(frozen=True)
class Run:
    """A module of the package with its arguments; a server also has visits, after which it is ended."""

    module: str
    arguments: Sequence[str]
    visit: Callable[[psutil.Process], None] | None = None


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--files", type=int, default=10_000, help="of encode")
    parser.add_argument("--lines", type=int, default=2_000, help="of generate")
    parser.add_argument("--steps", type=int, default=5_000, help="of train")
    parser.add_argument("--requests", type=int, default=200, help="of page")
    parser.add_argument("--port", type=int, default=7898, help="of page")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="how often a process is looked at")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in args.runs:
        with tempfile.TemporaryDirectory() as folder:
            run = RUNS[name](Path(folder), args)
            results[name] = watched(run, Path(folder, "temporary"), args.output / f"{name}.log", args.every)
        write_json(args.output / "endurance.json", results)
    names = [key.replace("_", " ") for key in SHOWN]
    rows = [
        [name, *(" / ".join(map(str, result[key])) for key in SHOWN), f"{result['growth']:+.1%}"]
        for name, result in results.items()
    ]
    print(markdown_table(["run", *names, "growth after warm-up"], rows))
    return results


# ---- what runs


def encode(folder: Path, args: argparse.Namespace) -> Run:
    rng, recording = random.Random(0), load_audio(nano_recording(), RATE)
    (folder / "files").mkdir()
    for number in range(NUM_RECORDINGS):
        length = rng.randrange(RATE, 3 * RATE)
        start = rng.randrange(len(recording) - length)
        save_audio(folder / f"{number}.wav", recording[start : start + length], RATE)
    for number in range(args.files):
        os.link(folder / f"{number % NUM_RECORDINGS}.wav", folder / "files" / f"{number:06d}.wav")
    options = ["--encoder", "nano-encoder", "--output", str(folder / "tokens"), "--device", "cpu"]
    return Run("main", ["encode", str(folder / "files"), *options])


def generate(folder: Path, args: argparse.Namespace) -> Run:
    lines = [f"{' '.join(words)}." for words in itertools.product(DIGITS, repeat=4)]
    chosen = random.Random(0).sample(lines, args.lines)
    (folder / "lines.txt").write_text("\n".join(chosen))
    options = ["--bark", "nano", "--output", str(folder / "corpus"), "--license", "cc0-1.0"]
    return Run("generate_corpus", ["--texts", str(folder / "lines.txt"), *options])


def train(folder: Path, args: argparse.Namespace) -> Run:
    """On random tokens and codes: what is learnt does not matter here."""
    rng, rows = np.random.default_rng(0), []
    for number in range(60):
        num_tokens = 150 + number
        row = {"id": str(number), "source": "synthetic", "voice": f"v{number % 6}", "text": f"Text {number}."}
        row["semantic_tokens"] = rng.integers(0, 500, num_tokens).tolist()
        row["audio_codes"] = rng.integers(0, 1_024, (8, num_codec_frames(num_tokens))).tolist()
        rows.append(row)
    Dataset.from_list(rows).save_to_disk(folder / "corpus")
    options = ["--corpus", str(folder / "corpus"), "--output", str(folder / "run"), "--steps", str(args.steps)]
    return Run("train_encoder", ["nano_corpus", *options, "--set", *CROPS])


def page(folder: Path, args: argparse.Namespace) -> Run:
    address = f"http://127.0.0.1:{args.port}/"

    def visit(server: psutil.Process) -> None:
        wait_until_open(address, server)
        rng, recording = random.Random(0), load_audio(nano_recording(), RATE)
        save_audio(folder / "voice.wav", recording, RATE)
        visitor = Visitor(address, "visitor", folder / "voice.wav", [])
        visitor.clone(rng)
        for number in range(args.requests):
            visitor.submit("/speak", WORDS[number % len(WORDS)]).result()

    return Run("main", ["app", "--host", "0.0.0.0", "--port", str(args.port), "--device", "cpu"], visit)


RUNS: dict[str, Callable[[Path, argparse.Namespace], Run]] = {
    "encode": encode,
    "generate": generate,
    "train": train,
    "page": page,
}


# ---- what is measured of it


def watched(run: Run, temporary: Path, log: Path, every_s: float) -> dict[str, Any]:
    """Start a run and look at it until it ends; a server ends with its visits.

    Raises:
        RuntimeError: it failed.
    """
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "GRADIO_TEMP_DIR": str(temporary / "gradio")}
    command = [sys.executable, "-m", f"hf_bark_semantic.cli.{run.module}", *run.arguments]
    samples, started = [], time.monotonic()
    with open(log, "wb") as printed, ThreadPoolExecutor() as pool:
        process = psutil.Popen(command, env=environment, stdout=printed, stderr=printed)
        visits = None if run.visit is None else pool.submit(run.visit, process)
        try:
            while process.poll() is None and not (visits and visits.done()):
                with contextlib.suppress(psutil.Error):  # it has just ended
                    samples.append(state_of(process, temporary))
                time.sleep(every_s)
        finally:
            if process.poll() is None:
                process.kill()
        if visits:
            visits.result()
        elif process.returncode:
            raise RuntimeError(f"{run.module} ended with {process.returncode}; see {log}")
    return {
        "seconds": round(time.monotonic() - started),
        **summary([sample for sample in samples if sample["resident_mb"]]),  # at its end it has no memory left
        "temporary_files_at_the_end": sum(path.is_file() for path in temporary.rglob("*")),
        "arguments": run.arguments,
    }


def summary(samples: Sequence[dict[str, float]]) -> dict[str, Any]:
    """What was seen of a run: at a twentieth, a fifth and half of its time, and at the end."""
    count, fifth = len(samples), max(1, len(samples) // 5)
    chosen = [samples[number] for number in (count // 20, fifth, count // 2, -1)]
    resident = [sample["resident_mb"] for sample in samples]
    before, after = np.mean(resident[fifth : 2 * fifth]), np.mean(resident[-fifth:])
    return {
        **{key: [sample[key] for sample in chosen] for key in SHOWN},
        "growth": round(float(after / before - 1), 4),
        "resident_mb_of_all": resident,
    }


if __name__ == "__main__":
    main()
