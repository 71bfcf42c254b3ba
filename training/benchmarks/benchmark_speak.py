"""`benchmark.py speak`: the waiting time for one utterance of a loaded Bark, in a cloned voice.

With `--lines 8`, also for this number of lines, one by one and in a batch, in turn.
"""

import statistics
import time

import torch
from transformers import pipeline

from hf_bark_semantic.packaged import NANO, nano_recording

TEXTS = (
    "one seven three nine.",
    "The old farmer sells a red chair.",
    "There are three dogs in the kitchen. Good morning, Anna, how are you today?",
)


def add_arguments(parser):
    parser.add_argument("--bark", default=NANO, help="Hub id, folder or 'nano'")
    parser.add_argument("--voice", help="a recording or an .npz; by default the packaged one for nano")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=0, help="lines that are spoken one by one and at once")


def benchmark_speak(args) -> dict:
    started = time.perf_counter()
    speak = pipeline("voice-cloning", bark=args.bark, dtype=args.dtype)
    loaded = time.perf_counter()
    prompt = speak(args.voice or str(nano_recording()))["voice_prompt"]
    cloned = time.perf_counter()
    factors = []
    for seed in range(args.rounds):
        for text in TEXTS:
            start = time.perf_counter()
            speech = speak(prompt, text, seed=seed)
            factors.append((time.perf_counter() - start) * speech["sampling_rate"] / len(speech["audio"]))
    return {
        "what": f"one utterance at a time, {args.bark} in {args.dtype}",
        "threads": torch.get_num_threads(),
        "load_s": round(loaded - started, 2),
        "clone_s": round(cloned - loaded, 2),
        "real_time_factor": round(statistics.median(factors), 3),
        "real_time_factors": [round(factor, 3) for factor in factors],
        **(at_once_and_one_by_one(speak, prompt, args.lines, args.rounds) if args.lines else {}),
    }


def at_once_and_one_by_one(speak, prompt, num_lines: int, rounds: int) -> dict:
    """Wall-clock and CPU seconds for some lines, one by one and in a batch, and their ratio."""
    lines = [TEXTS[number % len(TEXTS)] for number in range(num_lines)]
    ways = {
        "one_by_one": lambda: [speak(prompt, line) for line in lines],
        "at_once": lambda: list(speak.speak_texts(prompt, lines)),
    }
    clock, cpu = {way: [] for way in ways}, {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            start = time.perf_counter(), time.process_time()
            run()
            clock[way].append(time.perf_counter() - start[0])
            cpu[way].append(time.process_time() - start[1])
    found = {"lines": num_lines}
    for name, seconds in (("clock", clock), ("cpu", cpu)):
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        found |= {f"{name}_s_{way}": round(value, 2) for way, value in medians.items()}
        found[f"{name}_ratio"] = round(medians["one_by_one"] / medians["at_once"], 2)
    return found
