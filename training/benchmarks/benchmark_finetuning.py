"""Time and peak memory of one training step of each of Bark's models, on random weights.

    python training/benchmarks/benchmark_finetuning.py                             bark-small shapes, every case
    python training/benchmarks/benchmark_finetuning.py --shape large --stages fine --dtypes bfloat16
    python training/benchmarks/benchmark_finetuning.py --methods full --checkpointing off on --num-positions 4096

A case is a model (semantic, coarse, fine), a method (all weights or LoRA), gradient checkpointing on or off, and
float32 or autocast to bfloat16 (weights and optimizer stay in float32). Each case runs in a separate process with only
that model, so the peak memory is that of the case; on a CPU, it is that of the process, including libraries
(`idle_memory_gb`). A step is the same as in `trainers.loop.train`: forward, backward, clipping, AdamW, on batches of
`UtteranceBatches`. The cases alternate for `--rounds`; a case's time is the median of all its steps. `speedup` and
`memory_ratio` are relative to the first case of the same model: by default all weights in float32 without
checkpointing. By default, bfloat16 is left out if the device does not support it: it takes about 60 times as long.
Prints one JSON object.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import BarkModel

from benchmark_synthesis import SHAPES, peak_memory_gb, random_bark
from hf_bark_semantic.bark.adapters import add_adapters, lora_config
from hf_bark_semantic.bark.configs import STAGES, BarkGenerationConfigs, bark_generation_configs, bark_stage
from hf_bark_semantic.bark.examples import Utterance
from hf_bark_semantic.bark.losses import LOSSES
from hf_bark_semantic.precision import choose_precision
from hf_bark_semantic.trainers.bark_batches import UtteranceBatches
from hf_bark_semantic.trainers.loop import TrainingArguments, parameter_groups

METHODS = ("full", "lora")
CHECKPOINTING = ("off", "on")
DTYPES = ("float32", "bfloat16")
UTTERANCES, TEXT_IDS = 16, 24
ROW = "row: "  # before the line that a case prints


@dataclass(frozen=True)
class Case:
    stage: str
    method: str
    checkpointing: str
    dtype: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", default="small", choices=list(SHAPES))
    parser.add_argument("--large", dest="shape", action="store_const", const="large")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--checkpointing", nargs="+", default=list(CHECKPOINTING), choices=CHECKPOINTING)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="by default those that the device multiplies in")
    parser.add_argument("--rank", type=int, default=16, help="of LoRA")
    parser.add_argument("--num-positions", type=int, default=2_048, help="of a batch")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each utterance")
    parser.add_argument("--steps", type=int, default=3, help="that are timed, after one that is not")
    parser.add_argument("--rounds", type=int, default=2, help="that the cases take turns")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a case as JSON: run it in this process


def benchmark_finetuning(args) -> dict:
    """Run the cases of the options, each in its own process."""
    precision, reason = choose_precision(args.device)
    dtypes = args.dtypes or DTYPES[: 1 + (precision == "bf16")]
    cases = [Case(*values) for values in product(args.stages, args.methods, args.checkpointing, dtypes)]
    runs = {case: [] for case in cases}
    for _ in range(args.rounds):
        for case in cases:
            runs[case].append(_in_own_process(case, args))
            print(json.dumps({**asdict(case), **runs[case][-1]}), file=sys.stderr, flush=True)
    rows = [{**asdict(case), **_pooled(runs[case])} for case in cases]
    baselines = {}
    for row in rows:
        if "error" not in row:
            baseline = baselines.setdefault(row["stage"], row)
            row["speedup"] = round(baseline["seconds_per_step"] / row["seconds_per_step"], 2)
            if row["peak_memory_gb"] and baseline["peak_memory_gb"]:
                row["memory_ratio"] = round(row["peak_memory_gb"] / baseline["peak_memory_gb"], 3)
    return {
        "what": f"a training step of {args.num_positions} positions, bark-{args.shape} shapes, random weights, "
        f"utterances of {args.seconds:g} s, LoRA of rank {args.rank}, {args.device}",
        "threads": args.threads or torch.get_num_threads(),
        "precision": reason,
        "rows": rows,
    }


def _pooled(runs: list[dict]) -> dict:
    """A case's rounds as one row; its first failure, if any failed."""
    failed = [run for run in runs if "error" in run]
    if failed:
        return failed[0]
    times = [seconds for run in runs for seconds in run["times"]]
    peaks = [run["peak_memory_gb"] for run in runs]
    row = {"seconds_per_step": round(statistics.median(times), 4), **runs[-1], "times": times}
    return {**row, "peak_memory_gb": None if None in peaks else max(peaks)}


def _in_own_process(case: Case, args) -> dict:
    """The result of [`run_case`] in its own process; `{"error": ...}` if the process fails, as without memory."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(asdict(case))]
    for name in ("shape", "rank", "num_positions", "seconds", "steps", "device", "threads"):
        if getattr(args, name) is not None:
            command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    rows = [line.removeprefix(ROW) for line in done.stdout.splitlines() if line.startswith(ROW)]
    if done.returncode or not rows:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"exit code {done.returncode}: {last}"}
    return json.loads(rows[-1])


def run_case(case: Case, args) -> dict:
    """Train for some steps in this process: seconds of each step, peak memory, parameters and the last loss."""
    idle_memory_gb = peak_memory_gb()
    bark = bark_with_one_stage(case.stage, args.shape)
    configs, model = bark_generation_configs(bark), bark_stage(bark, case.stage)
    model.to(args.device)
    if case.method == "lora":
        add_adapters(bark, {case.stage: lora_config(rank=args.rank)})
    loss = LOSSES[case.stage](model, configs, gradient_checkpointing=case.checkpointing == "on").train()
    arguments = TrainingArguments(output_dir="", learning_rate=1e-5)
    optimizer = torch.optim.AdamW(parameter_groups(loss, arguments))
    utterances = random_utterances(configs, args.seconds)
    batches = UtteranceBatches(utterances, configs, case.stage, num_positions=args.num_positions, steps=args.steps + 1)
    times, targets = [], []
    for step in range(args.steps + 1):
        batch = {name: tensor.to(args.device) for name, tensor in batches[step][0].items()}
        start = time.perf_counter()
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            output = loss(**batch)
        output.loss.backward()
        nn.utils.clip_grad_norm_(loss.parameters(), arguments.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = output.loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
        targets.append(int(output.num_targets))
    on_gpu = torch.device(args.device).type == "cuda"
    return {
        "times": [round(value, 4) for value in times[1:]],
        "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 3) if on_gpu else peak_memory_gb(),
        "idle_memory_gb": idle_memory_gb,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "targets": targets[1:],
        "loss": round(value, 4),
    }


def bark_with_one_stage(stage: str, shape: str) -> BarkModel:
    """A Bark with random weights in which only one model takes memory."""
    with torch.device("meta"):
        bark = random_bark(shape, torch.float32)
    torch.manual_seed(0)
    model = bark_stage(bark, stage).to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(float(name.endswith("weight")))  # of a layer norm
            else:
                parameter.normal_(std=0.02)
        for buffer in model.buffers():
            buffer.zero_()  # transformers' causal masks, which the losses don't use
    gc.collect()
    return bark


def random_utterances(configs: BarkGenerationConfigs, seconds: float) -> list[Utterance]:
    """As many as [`UTTERANCES`], of one voice."""
    rng = np.random.default_rng(0)
    num_text_ids = configs.semantic.text_pad_token - configs.semantic.text_encoding_offset  # of the vocabulary
    num_tokens = min(round(seconds * configs.semantic.semantic_rate_hz), configs.semantic.max_new_tokens - 1)
    return [
        Utterance(
            text_ids=rng.integers(0, num_text_ids, TEXT_IDS),
            semantic_tokens=rng.integers(0, configs.semantic.semantic_vocab_size, num_tokens),
            audio_codes=rng.integers(
                0, configs.codebook_size, (configs.fine.n_fine_codebooks, configs.num_frames(num_tokens))
            ),
            voice="random",
            id=str(number),
        )
        for number in range(UTTERANCES)
    ]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.one:
        print(ROW + json.dumps(run_case(Case(**json.loads(args.one)), args)))
    else:
        print(json.dumps(benchmark_finetuning(args), indent=1))


if __name__ == "__main__":
    main()
