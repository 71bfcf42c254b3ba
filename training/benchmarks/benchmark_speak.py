"""`benchmark.py speak`: how long people wait for one utterance of a Bark that is loaded, in a cloned voice."""

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
    }
