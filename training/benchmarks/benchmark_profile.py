"""`benchmark.py profile`: the time of the parts of Bark's stages, compared with the machine's roofline.

Each stage is run on random weights at its real lengths, for a short while: the text stage with its 256 positions, one
window of the coarse stage with the history of a voice, one codebook of the fine stage, and the codec. The functions
between which a stage divides its work are timed where they are called:

    linear       the linear layers of the blocks and the heads
    attention    `attend`
    elementwise  the rest of a block: its norms, GELU, sums and transposed copies
    sampling     `pick_tokens`
    rest         embeddings, masks, the writing of keys and values, and Python between all these

A part's roofline is its share of the longer of two times: its arithmetic at the measured rate of large products, and
the reading and writing of its operands, each once, at the measured bandwidth. Elementwise work and the rest need none:
they could be part of what is before or behind them. The packing of weights and the allocation of keys and values, once
per call of a stage, are left out. Page faults are those of memory that the process has not touched before or has given
back. With `--threads 1` the time is that of the CPU, so that other programs hardly count. Prints columns and rows as
`training/results/result_tables.py` reads them.
"""

import contextlib
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest import mock

import torch

from benchmark_synthesis import STAGES, TEXT_IDS, machine_rates, random_bark, random_prompt
from hf_bark_semantic.bark import stages, steps, transformer
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.setup import BarkSetup
from hf_bark_semantic.bark.stages import StageItem, run_stage
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames

PARTS = ("linear", "attention", "elementwise", "sampling", "rest")
PHASES = ("text prefill", "text step", "coarse prefill", "coarse step", "fine codebook", "codec")
NUM_TOKENS = 150  # 3 s, which the codec decodes


def add_arguments(parser):
    parser.add_argument("--shape", default="small", choices=["tiny", "small", "large"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--steps", type=int, default=32, help="of the text and the coarse stage")
    parser.set_defaults(dtype=None)


def benchmark_profile(args) -> dict:
    rows, machine = [], {}
    for dtype in args.dtypes:
        bark = random_bark(args.shape, getattr(torch, dtype))
        rates = machine_rates(getattr(torch, dtype))
        machine[dtype] = {name: round(value / 1e9, 1) for name, value in rates.items()}
        for batch_size in args.batch_sizes:
            meter = profile_stages(bark, batch_size, args.steps, rates)
            rows += [[dtype, str(batch_size), *phase_row(meter, phase)] for phase in PHASES]
    shares = [{"name": part, "unit": "%"} for part in PARTS]
    rooflines = [{"name": f"roofline of {name}", "unit": "%"} for name in ("linear", "attention", "all")]
    return {
        "what": f"bark-{args.shape} shapes, random weights",
        "threads": torch.get_num_threads(),
        "machine": machine,
        "columns": [
            *({"name": name} for name in ("precision", "rows", "phase")),
            {"name": "ms", "digits": 1},
            *shares,
            *rooflines,
            {"name": "GB moved at least", "digits": 2},
            {"name": "page faults"},
        ],
        "rows": rows,
    }


class Work(NamedTuple):
    """What a call must do at least."""

    operations: float = 0.0
    bytes: float = 0.0


class Meter:
    """Sums of seconds, page faults and least work, by phase and part; a call within another counts for itself alone.

    Args:
        rates (`dict[str, float]`): see [`machine_rates`].
    """

    def __init__(self, rates: dict[str, float]):
        self.rates, self.phase = rates, ""
        self.clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        self.seconds, self.faults = defaultdict(float), defaultdict(int)
        self.bound_s, self.bytes = defaultdict(float), defaultdict(float)
        self.calls = defaultdict(int)  # of a phase
        self._since: tuple[float, int] = (0.0, 0)
        self._parts: list[tuple[str, str]] = []

    def __call__(self, part: str, function: Callable, work: Callable[..., Work] = lambda *args, **options: Work()):
        """The function, measured as this part; `work` receives its arguments."""

        def measured(*args, **options):
            with self.measuring(part):
                result = function(*args, **options)
            self.count(part, work(*args, **options))
            return result

        return measured

    @contextlib.contextmanager
    def measuring(self, part: str) -> Iterator[None]:
        self._settle()
        self._parts.append((self.phase, part))
        try:
            yield
        finally:
            self._settle()
            self._parts.pop()

    def count(self, part: str, work: Work) -> None:
        key = self.phase, part
        seconds = work.operations / self.rates["flop_per_second"], work.bytes / self.rates["byte_per_second"]
        self.bound_s[key] += max(seconds)
        self.bytes[key] += work.bytes

    def forget(self, phase: str) -> None:
        """Begin this phase again: its first call was slow, as kernels were compiled."""
        for sums in (self.seconds, self.faults, self.bound_s, self.bytes):
            for part in PARTS:
                sums.pop((phase, part), None)

    def _settle(self) -> None:
        """Count what has passed since the last change for the part that was running."""
        now = self.clock(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        if self._parts:
            key = self._parts[-1]
            self.seconds[key] += now[0] - self._since[0]
            self.faults[key] += now[1] - self._since[1]
        self._since = self.clock(), now[1]


def phase_row(meter: Meter, phase: str) -> list:
    """Milliseconds of a call, shares of parts, shares of the roofline, gigabytes and page faults."""
    calls = max(1, meter.calls[phase])

    def total(sums, *parts):
        return sum(sums[phase, part] for part in parts or PARTS)

    seconds = total(meter.seconds)
    shares = [100 * total(meter.seconds, part) / seconds for part in PARTS]
    rooflines = [
        100 * total(meter.bound_s, *parts) / total(meter.seconds, *parts) if total(meter.bound_s, *parts) else None
        for parts in (("linear",), ("attention",), ())
    ]
    if phase == "codec":  # it has no such parts
        shares, rooflines = [None] * len(PARTS), [None] * 3
    numbers = [1e3 * seconds / calls, *shares, *rooflines]
    figures = [None if number is None else round(number, 1) for number in numbers]
    gigabytes = round(total(meter.bytes) / calls / 1e9, 2) if phase != "codec" else None
    return [phase, *figures, gigabytes, round(total(meter.faults) / calls)]


class _Enough(Exception):
    """A stage has run for so long as was asked."""


def profile_stages(bark, batch_size: int, num_steps: int, rates: dict[str, float]) -> Meter:
    """Run every stage for a short while."""
    meter = Meter(rates)
    most_steps = {"semantic": num_steps + 1, "coarse": num_steps + 1, "fine": 1, "codec": None}
    names = dict(zip(STAGES, ("text step", "coarse step", "fine codebook", "codec"), strict=True))

    def on_step(stage: str) -> None:
        meter.calls[meter.phase] += 1
        if meter.phase.endswith("step") and meter.calls[meter.phase] == 2:
            meter.forget(meter.phase)
        if most_steps[stage] and meter.calls[meter.phase] > most_steps[stage]:
            raise _Enough

    requests = [
        SynthesisRequest("random", voice_prompt=random_prompt(bark, seed), seed=seed) for seed in range(batch_size)
    ]
    rng = torch.Generator().manual_seed(0)
    frames = num_codec_frames(NUM_TOKENS)
    sizes = {"semantic": ((TEXT_IDS,), 100), "coarse": ((NUM_TOKENS,), 10_000), "fine": ((2, frames), 1_024)}
    sizes["codec"] = (8, frames), 1_024
    setup = BarkSetup(bark, batch_size, on_step=on_step)
    for stage in STAGES:
        shape, num_ids = sizes[stage]
        values = torch.randint(num_ids, (batch_size, *shape), generator=rng).numpy()
        items = [
            StageItem(index, request, value)
            for index, (request, value) in enumerate(zip(requests, values, strict=True))
        ]
        meter.phase = names[stage]
        with measured_parts(meter), meter.measuring("rest"), contextlib.suppress(_Enough):
            for _ in run_stage(stage, setup, items):
                pass
        if meter.phase.endswith("step"):
            meter.calls[meter.phase] = num_steps
    return meter


@contextlib.contextmanager
def measured_parts(meter: Meter) -> Iterator[None]:
    """Measure the functions between which a stage divides its work."""
    layer_of, head_of = transformer._linear, transformer.legal_head
    block, batch = transformer.Block, transformer.DecodingBatch
    prefill, allocate = batch.prefill, batch.__init__

    def measured_layer(module, savings):
        with meter.measuring("packing"):
            linear = layer_of(module, savings)
        return meter("linear", linear, lambda inputs, *more: linear_work(inputs, module.weight))

    def measured_head(head, columns, savings):
        with meter.measuring("packing"):
            linear = head_of(head, columns, savings)
            weight = head.weight[columns]
        return meter("linear", linear, lambda inputs: linear_work(inputs, weight))

    def measured_allocation(*args):
        with meter.measuring("packing"):
            allocate(*args)

    def measured_prefill(*args):
        step = meter.phase
        meter.phase = step.replace("step", "prefill")
        meter.calls[meter.phase] += 1
        with meter.measuring("rest"):
            prefill(*args)
        meter.phase = step

    with contextlib.ExitStack() as replaced:
        for owner, name, function in (
            (transformer, "_linear", measured_layer),
            (transformer, "legal_head", measured_head),
            (stages, "legal_head", measured_head),
            (transformer, "attend", meter("attention", transformer.attend, attention_work)),
            (block, "heads", meter("elementwise", block.heads)),
            (block, "finish", meter("elementwise", block.finish)),
            (batch, "__init__", measured_allocation),
            (batch, "prefill", measured_prefill),
            (stages, "pick_tokens", meter("sampling", stages.pick_tokens, sampling_work)),
            (steps, "pick_tokens", meter("sampling", steps.pick_tokens, sampling_work)),
        ):
            replaced.enter_context(mock.patch.object(owner, name, function))
        yield


def linear_work(inputs: torch.Tensor, weight: torch.Tensor) -> Work:
    rows = inputs.numel() // inputs.shape[-1]
    moved = weight.numel() + rows * sum(weight.shape)
    return Work(2.0 * rows * weight.numel(), moved * weight.element_size())


def attention_work(query, key, value, *, causal: bool = False, **options) -> Work:
    num_rows, num_heads, num_queries, head_dim = query.shape
    pairs = num_queries * (num_queries + 1) / 2 if causal else num_queries * key.shape[2]
    moved = (2 * query.numel() + key.numel() + value.numel()) * query.element_size()
    return Work(4.0 * num_rows * num_heads * pairs * head_dim, moved)


def sampling_work(logits: torch.Tensor, *_, **options) -> Work:
    return Work(0.0, logits.numel() * logits.element_size())
