"""`benchmark.py synthesis`: Bark on random weights, ours against transformers or bark.cpp, in one process, A B A B.

Cases: `prompts` (eight voices, which transformers runs one by one), `batch` (eight without a voice), `single` (one
with a voice), `mixed` (ours: 2 to 14 s against as much speech in equal lengths), `scaling` (ours: 8 to 512 requests).
The last two also take `--shape nano`, the packaged Bark itself, which says no more than 9 s at once. With
`--coarse-window N`, ours generates N coarse ids before it moves the window (Suno's Bark 60): other tokens, less work.
`--beside bark.cpp FOLDER`, for `single`, without a voice: `beside_bark_cpp.py` says how that is built.
"""

import contextlib
import statistics
import time
from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import (
    BarkCoarseConfig,
    BarkConfig,
    BarkFineConfig,
    BarkModel,
    BarkSemanticConfig,
    EncodecConfig,
    GenerationConfig,
)
from transformers.models.bark.generation_configuration_bark import (
    BarkCoarseGenerationConfig,
    BarkFineGenerationConfig,
    BarkSemanticGenerationConfig,
)

from hf_bark_semantic.bark import transformer
from hf_bark_semantic.bark.configs import SUNO_HISTORIES, with_coarse_window
from hf_bark_semantic.bark.loading import load_bark
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.sampling import Sampling
from hf_bark_semantic.bark.setup import BarkSetup
from hf_bark_semantic.bark.stages import StageItem, run_stage
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.bark.voice_prompt import VoicePrompt
from hf_bark_semantic.configuration_bark_semantic import SEMANTIC_RATE_HZ, num_codec_frames
from hf_bark_semantic.packaged import NANO

SHAPES = {"tiny": (4, 256, 4), "small": (12, 768, 12), "large": (24, 1_024, 16)}  # layers, width, heads
STAGES = ("semantic", "coarse", "fine", "codec")
CASES = ("prompts", "batch", "single", "mixed", "scaling")
TEXT_IDS = 24


def benchmark_synthesis(args) -> dict:
    if args.shape == NANO:
        if args.case not in ("mixed", "scaling"):
            raise SystemExit("`--shape nano` is for `--case mixed` and `scaling`; the others compare Suno's shapes.")
        bark = load_bark(NANO, dtype=getattr(torch, args.dtype))[0]
    else:
        bark = random_bark(args.shape, getattr(torch, args.dtype))
    ours = bark
    if args.coarse_window:
        ours = copy(bark)  # the same weights
        ours.generation_config = with_coarse_window(bark, args.coarse_window)
    if args.case == "mixed":
        return mixed_lengths(ours, args)
    if args.case == "scaling":
        return scaling(ours, args)
    other, their_side, theirs_count, prompts = other_side(bark, args)
    num_tokens = round(args.seconds * SEMANTIC_RATE_HZ)
    rates = machine_rates(bark.dtype)
    runs = {other: [], "ours": []}
    for _ in range(args.rounds):
        runs[other].append(measured(lambda: their_side(num_tokens)))
        with counted_work(rates) as work:
            runs["ours"].append(measured(lambda: our_stages(ours, prompts, num_tokens)))
    audio = {other: theirs_count * args.seconds, "ours": len(prompts) * args.seconds}
    medians = {side: statistics.median(run["seconds"] for run in side_runs) for side, side_runs in runs.items()}
    speed = {side: audio[side] / medians[side] for side in runs}
    real_time_factor = {
        side: {stage: run_median(runs[side], stage) / audio[side] for stage in (*STAGES, "seconds")} for side in runs
    }
    return {
        "what": f"{args.case}, bark-{args.shape} shapes, random weights, {args.dtype}, {args.seconds:g} s, no end",
        "coarse_window": ours.generation_config.coarse_acoustics_config["sliding_window_len"],
        "threads": torch.get_num_threads(),
        "utterances": {other: theirs_count, "ours": len(prompts)},
        "audio_per_second": {side: round(value, 4) for side, value in speed.items()},
        "speedup": round(speed["ours"] / speed[other], 2),
        "speedup_by_stage": {
            stage: round(real_time_factor[other][stage] / real_time_factor["ours"][stage], 2) for stage in STAGES
        },
        "real_time_factor": {
            side: {stage: round(value, 3) for stage, value in factors.items()}
            for side, factors in real_time_factor.items()
        },
        "peak_memory_gb": {side: max(run["peak_memory_gb"] for run in runs[side]) for side in runs},
        "machine": {name: round(value / 1e9, 1) for name, value in rates.items()},
        "share_of_roofline": round(work["bound_s"] / runs["ours"][-1]["seconds"], 3),
        "times": {side: [round(run["seconds"], 1) for run in runs[side]] for side in runs},
    }


def other_side(bark, args) -> tuple[str, Callable[[int], dict[str, float]], int, list[VoicePrompt | None]]:
    """What ours is set beside: its name, seconds by stage for a number of tokens, its utterances; and our prompts."""
    name, *folder = args.beside
    if name == "bark.cpp":
        if len(folder) != 1 or args.case != "single" or args.shape != "small":
            raise SystemExit("`--beside bark.cpp FOLDER` takes a folder, and goes with `--case single --shape small`.")
        from beside_bark_cpp import bark_cpp_stages

        return name, partial(bark_cpp_stages, Path(folder[0]), num_threads=torch.get_num_threads()), 1, [None]
    if name != "transformers" or folder:
        raise SystemExit(f"`--beside` is {' '.join(args.beside)!r}; it must be transformers or bark.cpp FOLDER.")
    count = 1 if args.case == "single" else args.utterances
    prompts = [None if args.case == "batch" else random_prompt(bark, seed) for seed in range(count)]
    theirs_count = min(count, args.their_utterances or count) if args.case == "prompts" else count
    return name, partial(their_stages, bark, prompts[:theirs_count]), theirs_count, prompts


def run_median(runs, stage: str) -> float:
    return statistics.median(run[stage] for run in runs)


# ---- the model


def random_bark(shape: str, dtype) -> BarkModel:
    """A Bark of Suno's ids and windows with random weights; the codec stays in float32."""
    torch.manual_seed(0)
    layers, width, heads = SHAPES[shape]
    size = {"num_layers": layers, "hidden_size": width, "num_heads": heads, "dropout": 0.0, "bias": False}
    bark = BarkModel(
        BarkConfig(
            semantic_config=BarkSemanticConfig(**size, input_vocab_size=129_600, output_vocab_size=10_048).to_dict(),
            coarse_acoustics_config=BarkCoarseConfig(
                **size, input_vocab_size=12_096, output_vocab_size=12_096
            ).to_dict(),
            fine_acoustics_config=BarkFineConfig(**size, input_vocab_size=1_056, output_vocab_size=1_056).to_dict(),
            codec_config=EncodecConfig().to_dict(),
        )
    )
    sampled = {"do_sample": True, "temperature": 0.7, "top_k": 0}
    bark.generation_config = GenerationConfig(
        semantic_config=BarkSemanticGenerationConfig(**sampled).to_dict(),
        coarse_acoustics_config=BarkCoarseGenerationConfig(**sampled).to_dict(),
        fine_acoustics_config=BarkFineGenerationConfig(temperature=0.5).to_dict(),
        codebook_size=1_024,
        sample_rate=24_000,
    )
    for part in (bark.semantic, bark.coarse_acoustics, bark.fine_acoustics):
        part.to(dtype)
    return bark.eval()


def random_prompt(bark, seed: int) -> VoicePrompt:
    rng = np.random.default_rng(seed)
    vocab_size = bark.generation_config.semantic_config["semantic_vocab_size"]
    codes = rng.integers(0, bark.generation_config.codebook_size, (8, SUNO_HISTORIES.fine_frames))
    tokens = rng.integers(0, vocab_size, SUNO_HISTORIES.most_tokens)
    return VoicePrompt(tokens, codes[:, : num_codec_frames(SUNO_HISTORIES.most_tokens)])


# ---- the two sides: seconds by stage


def our_stages(bark, prompts, num_tokens: int) -> dict[str, float]:
    setup = BarkSetup(bark, batch_size=len(prompts))
    items = []
    for index, prompt in enumerate(prompts):
        request = SynthesisRequest(
            text="random", voice_prompt=prompt, seed=index, min_semantic_tokens=num_tokens,
            max_semantic_tokens=num_tokens, prompt_mode="none" if prompt is None else "full",
        )  # fmt: skip
        items.append(StageItem(index, request, np.arange(TEXT_IDS) + index))
    seconds = {}
    for stage in STAGES:
        start = time.perf_counter()
        items = sorted(run_stage(stage, setup, items), key=lambda item: item.index)
        seconds[stage] = time.perf_counter() - start
    return seconds


@torch.inference_mode()
def their_stages(bark, prompts, num_tokens: int) -> dict[str, float]:
    """`BarkModel.generate`, stage by stage; without prompts in one batch, else one by one."""
    config = bark.generation_config
    typed = {
        "semantic_generation_config": BarkSemanticGenerationConfig(**config.semantic_config),
        "coarse_generation_config": BarkCoarseGenerationConfig(**config.coarse_acoustics_config),
        "fine_generation_config": BarkFineGenerationConfig(**config.fine_acoustics_config),
    }
    batches = [prompts] if prompts[0] is None else [[prompt] for prompt in prompts]
    seconds = dict.fromkeys(STAGES, 0.0)

    def timed(stage, call, *arguments, names, **options):
        start = time.perf_counter()
        result = call(*arguments, **{name: typed[name] for name in names}, **options)
        seconds[stage] += time.perf_counter() - start
        return result

    names = list(typed)
    for batch in batches:
        ids = torch.arange(TEXT_IDS).repeat(len(batch), 1)
        ids = torch.nn.functional.pad(ids, (0, 256 - TEXT_IDS))
        mask = (torch.arange(256) < TEXT_IDS).long().repeat(len(batch), 1)
        history = None if batch[0] is None else {k: torch.from_numpy(v.copy()) for k, v in batch[0].to_dict().items()}
        length = {"min_new_tokens": num_tokens, "max_new_tokens": num_tokens}
        tokens = timed(
            "semantic",
            bark.semantic.generate,
            ids,
            attention_mask=mask,
            history_prompt=history,
            names=names[:1],
            **length,
        )
        coarse = timed(
            "coarse",
            bark.coarse_acoustics.generate,
            tokens,
            history_prompt=history,
            names=names[:2],
            codebook_size=1_024,
        )
        codes = timed(
            "fine", bark.fine_acoustics.generate, coarse, history_prompt=history, names=names, codebook_size=1_024
        )
        timed("codec", bark.codec_decode, codes, names=[])
    return seconds


def measured(side) -> dict:
    """Seconds by stage and in all, and the peak of the process' memory (Linux) while it ran."""
    clear = Path("/proc/self/clear_refs")
    with contextlib.suppress(OSError):
        clear.write_text("5")
    start = time.perf_counter()
    stages = side()
    seconds = time.perf_counter() - start
    return {**stages, "seconds": seconds, "peak_memory_gb": peak_memory_gb()}


def peak_memory_gb() -> float | None:
    with contextlib.suppress(OSError, IndexError):
        return round(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e6, 2)
    return None


# ---- the roofline


def machine_rates(dtype) -> dict[str, float]:
    """Floating-point operations and bytes per second, measured."""
    a, b = torch.randn(2_048, 2_048).to(dtype), torch.randn(2_048, 2_048).to(dtype)
    source, target = torch.zeros(2**27, dtype=torch.uint8), torch.zeros(2**27, dtype=torch.uint8)
    best = {}
    for name, work, call in (
        ("flop_per_second", 2 * 2_048**3, lambda: a @ b),
        ("byte_per_second", 2 * 2**27, lambda: target.copy_(source)),
    ):
        times = []
        for _ in range(8):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        best[name] = work / min(times)
    return best


@contextlib.contextmanager
def counted_work(rates):
    """Sum up how long the linear layers of blocks must take: the longer of their arithmetic and the reading of their
    weights."""
    work, layer_of = {"bound_s": 0.0}, transformer._linear

    def counted_layer(module, savings):
        linear, size = layer_of(module, savings), module.weight.numel()
        reading = size * module.weight.element_size() / rates["byte_per_second"]

        def run(inputs):
            rows = inputs.numel() // inputs.shape[-1]
            work["bound_s"] += max(2 * rows * size / rates["flop_per_second"], reading)
            return linear(inputs)

        return run

    transformer._linear = counted_layer
    try:
        yield work
    finally:
        transformer._linear = layer_of


# ---- ours alone


def mixed_lengths(bark, args) -> dict:
    longest = min(14, int(bark.generation_config.semantic_config["max_new_tokens"] / SEMANTIC_RATE_HZ))
    lengths = np.linspace(2, longest, args.utterances)
    mixed = np.random.default_rng(0).permutation(lengths)
    equal = np.full(args.utterances, lengths.mean())
    times = {"mixed": [], "equal": []}
    for _ in range(args.rounds):
        for name, durations in (("equal", equal), ("mixed", mixed)):
            times[name].append(speak_seconds(bark, durations, args.batch_size))
    medians = {name: statistics.median(values) for name, values in times.items()}
    audio = float(lengths.sum())
    return {
        "what": f"{args.utterances} utterances of 2 to {longest} s, bark-{args.shape} shapes, {args.dtype}",
        "audio_per_second": {name: round(audio / value, 3) for name, value in medians.items()},
        "throughput_of_mixed": round(medians["equal"] / medians["mixed"], 3),
        "times": {name: [round(value, 1) for value in values] for name, values in times.items()},
    }


def scaling(bark, args) -> dict:
    rows = []
    for count in (8, 32, 128, 512):
        seconds = speak_seconds(bark, np.full(count, args.seconds), args.batch_size)
        rows.append({"requests": count, "seconds_each": round(seconds / count, 3), "peak_memory_gb": peak_memory_gb()})
    return {"what": f"{args.seconds:g} s each, bark-{args.shape} shapes, {args.dtype}", "rows": rows}


def speak_seconds(bark, durations, batch_size: int) -> float:
    tokens = bark.generation_config.semantic_config["semantic_vocab_size"]
    requests = (
        SynthesisRequest(
            text="random", seed=index, prompt_mode="none", min_semantic_tokens=round(duration * SEMANTIC_RATE_HZ),
            max_semantic_tokens=round(duration * SEMANTIC_RATE_HZ), semantic=Sampling(0.7, min_eos_p=None),
        )
        for index, duration in enumerate(durations)
    )  # fmt: skip
    start = time.perf_counter()
    for result in synthesize(bark, requests, tokenizer=RandomTokenizer(), batch_size=batch_size):
        assert result.semantic_tokens.max() < tokens
    return time.perf_counter() - start


class RandomTokenizer:
    def __call__(self, text, **options):
        return {"input_ids": list(range(TEXT_IDS))}
