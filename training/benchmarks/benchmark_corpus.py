"""`benchmark.py corpus`: what the generation of a corpus costs beside the synthesis of its rows.

The two sides, in turn: `generate_corpus` into an empty folder, with its plan, measures, filters, shards and audio; and
`synthesize` alone, with the requests of all rows at once. Both have the loaded Bark and the same batch size.
"""

import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hf_bark_semantic.bark.loading import load_bark_processor
from hf_bark_semantic.cli import generate_corpus as stage
from hf_bark_semantic.corpus.generation import generate_corpus
from hf_bark_semantic.corpus.shards import open_corpus
from hf_bark_semantic.packaged import NANO, bark_folder

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def add_arguments(parser):
    parser.add_argument("--bark", default=NANO, help="Hub id, folder or 'nano'")
    parser.add_argument("--lines", type=int, default=128, help="texts of two to eight words")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=2)


def benchmark_corpus(args) -> dict:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(DIGITS, k=rng.randint(2, 8))) + "." for _ in range(args.lines)]
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder, "lines.txt")
        lines.write_text("\n".join(texts))
        options = ["--texts", str(lines), "--bark", args.bark, "--dtype", args.dtype, "--audio", "--output", folder]
        given = stage.parse_arguments([*options, "--language", "en", "--batch-size", str(args.batch_size)])
        place = str(bark_folder(args.bark))
        processor = load_bark_processor(place)
        plan = stage.make_plan(given, place, processor, log=lambda line: None)
        recipe = stage.make_recipe(given, place, torch.device("cpu"), None)
        speak = stage.make_speaker(given, processor, torch.device("cpu"))
        numbers = itertools.count()

        def corpus():
            output = Path(folder, f"corpus {next(numbers)}")
            open_corpus(output, {"plan": plan.description(), "recipe": recipe.description()})
            generate_corpus(output, plan, recipe, load_speaker=lambda: speak)

        def synthesis():
            rows = map(plan.row, range(plan.num_rows))
            for _ in speak([row.request(plan.voices[row.voice]) for row in rows]):
                pass

        sides = {"synthesis alone": synthesis, "corpus": corpus}
        clock, cpu = timed_in_turn(sides, args.rounds)
    return {
        "what": f"{plan.num_rows} rows of {args.bark} in {args.dtype}, batches of {args.batch_size}",
        "threads": torch.get_num_threads(),
        "seconds": clock,
        "cpu_seconds": cpu,
        "corpus_over_synthesis": round(ratio(clock), 3),
        "corpus_over_synthesis_in_cpu_time": round(ratio(cpu), 3),
    }


def timed_in_turn(sides: dict[str, Callable[[], None]], rounds: int) -> tuple[dict, dict]:
    """Seconds by the clock and of the processors, of each side and round."""
    clock, cpu = {name: [] for name in sides}, {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            side()
            clock[name].append(round(time.perf_counter() - start, 2))
            cpu[name].append(round(time.process_time() - cpu_start, 2))
    return clock, cpu


def ratio(seconds: dict[str, list[float]]) -> float:
    return statistics.median(seconds["corpus"]) / statistics.median(seconds["synthesis alone"])
