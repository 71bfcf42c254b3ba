"""`benchmark.py commands`: the waiting time of the commands, alone and beside busy programs."""

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_bark_semantic.audio import load_audio, save_audio
from hf_bark_semantic.configuration_bark_semantic import SAMPLING_RATE
from hf_bark_semantic.packaged import NANO, example_recording, nano_recording

COMMAND = [sys.executable, "-m", "hf_bark_semantic.cli.main"]
IMPORTS = ("import transformers", "import torch", "from transformers import pipeline")  # the first imports little
SECONDS = 10  # length of the recording to encode
TEXT = "The old farmer sells a red chair. There are three dogs in the kitchen. Good morning, Anna, how are you today?"
LOADED = """
import sys, time
import hf_bark_semantic.cli
from transformers import pipeline
speak = pipeline("voice-cloning", bark="nano")
start = time.perf_counter()
next(speak.stream(speak.voice_presets[0], sys.argv[1]))
print(time.perf_counter() - start)
"""
BUSY = [sys.executable, "-c", "while True: pass"]
LONGEST_S = 600


def add_arguments(parser):
    parser.add_argument("--busy", type=int, default=2, help="programs that use the same cores, in a second series")
    parser.add_argument("--rounds", type=int, default=5)
    parser.set_defaults(dtype=None, threads=None)  # as chosen by the commands


def benchmark_commands(args) -> dict:
    """Wall-clock and CPU seconds, medians of the rounds."""
    waits = {}
    with tempfile.TemporaryDirectory() as folder:
        recording = save_audio(
            Path(folder) / "speech.wav", load_audio(example_recording())[: SECONDS * SAMPLING_RATE], SAMPLING_RATE
        )
        for busy in dict.fromkeys((0, args.busy)):
            with busy_processes(busy):
                rounds = [dict(one_round(recording)) for _ in range(args.rounds)]
            waits[f"beside {busy} busy processes" if busy else "alone"] = {
                name: {
                    "seconds": round(statistics.median(taken[name][0] for taken in rounds), 2),
                    "cpu_seconds": round(statistics.median(taken[name][1] for taken in rounds), 2),
                }
                for name in rounds[0]
            }
    return {"what": "the commands", "cores": os.cpu_count(), "rounds": args.rounds, "waits": waits}


def one_round(recording: Path) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield the name of each wait with its wall-clock and CPU seconds."""
    voice = recording.with_name("voice.npz")
    for statement in IMPORTS:
        yield statement, timed([sys.executable, "-c", statement])
    yield "--help", timed([*COMMAND, "--help"])
    yield f"encode, {SECONDS} s", timed([*COMMAND, "encode", recording])
    yield "clone, nano", timed([*COMMAND, "clone", nano_recording(), "--bark", NANO, "--output", voice])
    yield (
        "speak, nano, until its first audio",
        first_audio([*COMMAND, "speak", TEXT, "--voice", voice, "--output", "-"]),
    )
    yield "first audio of nano, loaded", first_audio_when_loaded()
    yield "app, nano, until it answers", answer_of_the_page()


def timed(command: list) -> tuple[float, float]:
    start, used = time.perf_counter(), _cpu_s()
    subprocess.run(command, check=True, capture_output=True, timeout=LONGEST_S)
    return time.perf_counter() - start, _cpu_s() - used


def first_audio(command: list) -> tuple[float, float]:
    """The time until the header of the WAV arrives with its first samples; the CPU time is that of the whole run."""
    start, used = time.perf_counter(), _cpu_s()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        if not process.stdout.read(1):
            raise RuntimeError("No speech came.")
        seconds = time.perf_counter() - start
        process.stdout.read()
    return seconds, _cpu_s() - used


def first_audio_when_loaded() -> tuple[float, float]:
    """The time until the first audio of a loaded nano; the CPU time includes loading."""
    used = _cpu_s()
    command = [sys.executable, "-c", LOADED, TEXT]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONGEST_S)
    return float(json.loads(result.stdout)), _cpu_s() - used


def answer_of_the_page() -> tuple[float, float]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    start, used = time.perf_counter(), _cpu_s()
    process = subprocess.Popen(
        [*COMMAND, "app", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _answers(f"http://127.0.0.1:{port}"):
            if process.poll() is not None or time.perf_counter() - start > LONGEST_S:
                raise RuntimeError("The page did not answer.")
            time.sleep(0.05)
        seconds = time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()
    return seconds, _cpu_s() - used


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10):
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _cpu_s() -> float:
    """CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen]]:
    processes = [subprocess.Popen(BUSY) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
