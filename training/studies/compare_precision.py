"""Measure how lower precision changes the speech of a Bark: tokens, words and voice.

    python training/studies/compare_precision.py outputs/nano/speech --bark outputs/nano/bark \\
        --encoder outputs/nano/encoder --output outputs/nano/precision
    python training/studies/compare_precision.py ... --conditions int8 window=90 window=120 --token-requests 32

Conditions, each compared with float32:

    bfloat16     the three models in bfloat16, the codec in float32
    int8         linear layers with int8 weights and dynamically quantized activations (torch.ao), only on a CPU
    window=N     the coarse stage generates N ids before it moves its window (60 in Suno's Bark, 90 in nano). If the
                 model lacks positions, the history is shortened

Tokens: every model runs greedily on float32's output of the model before it, so that a difference is counted once: the
share of equal tokens, and the seconds until the first difference. Within a sequence, a difference still causes others.
Times are from the same runs, with conditions in turn for `--rounds`; a speedup is float32's time divided by the
condition's, per token for the text model. Words and voice: every held-out voice is cloned and speaks its test texts,
with the voices, options, journal and table of evaluate_voice.py; the similarity is to recordings of the voice that are
not in the prompt. Differences to float32 are on the same texts and seeds.

    output/trials-0.jsonl audio/ settings.json voices.json     every scored trial
           tokens.json                                         tokens and times
           summary.json report.html ...                        as from evaluate_voice.py

A killed command continues when it is started again.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import nn
from transformers import BarkModel

from hf_bark_semantic.bark.configs import STAGES, bark_generation_configs, with_coarse_window
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.sampling import Sampling
from hf_bark_semantic.bark.setup import BarkSetup
from hf_bark_semantic.bark.stages import StageItem, run_stage
from hf_bark_semantic.bark.synthesis import text_to_semantic
from hf_bark_semantic.cli.console import errors_as_one_sentence
from hf_bark_semantic.cli.evaluate_voice import (
    SHOWN,
    argument_parser,
    cast,
    load_maker,
    load_scorers,
    seeds_of,
    settings_of,
    summary_of,
)
from hf_bark_semantic.evaluation.journal import Journal
from hf_bark_semantic.evaluation.report import how_made, required_packages
from hf_bark_semantic.evaluation.significance import ratio_estimate
from hf_bark_semantic.evaluation.voice_figures import compare_pairs, comparisons_table, format_table
from hf_bark_semantic.evaluation.voice_report import write_voice_results
from hf_bark_semantic.evaluation.voice_run import run_trials, write_roles
from hf_bark_semantic.evaluation.voice_scores import Enrolment, Scorers
from hf_bark_semantic.evaluation.voice_trials import Trial, plan_trials
from hf_bark_semantic.evaluation.voice_waveforms import Maker
from hf_bark_semantic.files import write_json
from hf_bark_semantic.publishing import markdown_table

REFERENCE = "float32"
DEFAULT_CONDITIONS = ("bfloat16", "int8", "window=120")
MODELS = ("semantic", "coarse_acoustics", "fine_acoustics")
GREEDY = Sampling(0.0, min_eos_p=None)


@errors_as_one_sentence
def main(arguments: Sequence[str] | None = None, scorers: Scorers | None = None) -> dict:
    """Run the command; `scorers` replaces the models of the options."""
    args = parse(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    required_packages()
    voices, left_out = cast(args)
    journal = Journal(args.output, settings_of(args, voices))
    write_roles(args.output / "voices.json", voices)
    conditions = list(dict.fromkeys([REFERENCE, *args.conditions]))
    options = {"parts": ["original", "clone"], "seeds": args.seeds, "limit": args.limit, "seed": args.seed}
    trials = plan_trials(voices, conditions=conditions, **options)
    reference = load_maker(args, voices, ["clone"], device, VariantMaker)
    variants = {name: variant_of(reference.bark, name) for name in conditions}

    tokens = measured_tokens(args, reference, variants, trials)
    done = journal.records()
    missing = [trial for trial in trials if trial.id not in done]
    if missing:
        scorers = load_scorers(args, device) if scorers is None else scorers
        made_with = {"scorers": scorers, "enrolment": Enrolment(voices, scorers.embedders), "journal": journal}
        for name in conditions:
            part = [trial for trial in missing if (trial.condition if trial.part == "clone" else REFERENCE) == name]
            run_trials(part, reference.with_bark(variants[name]), **made_with, batch_size=args.batch_size)

    summary = {**summary_of(args, journal, trials), "voices": voices, "left_out": left_out, "tokens": tokens}
    pairs = [(name, REFERENCE) for name in conditions[1:]]
    summary["comparisons"] = compare_pairs(summary["rows"], summary["records"], pairs, seed=args.seed)
    made = how_made("training/studies/compare_precision.py", arguments, seeds=seeds_of(args))
    write_voice_results(args.output, "What precision changes in a Bark's voices", made, summary, columns=SHOWN)
    print(format_table(summary["rows"], SHOWN))
    print("\n" + tokens_table(tokens))
    print("\n" + comparisons_table(summary["comparisons"]))
    return summary


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[argument_parser("")],
        conflict_handler="resolve",
    )
    parser.add_argument(
        "--conditions",
        nargs="+",
        type=condition_of,
        default=list(DEFAULT_CONDITIONS),
        help="bfloat16, int8, window=N; float32 is always there",
    )
    parser.add_argument("--token-requests", type=int, default=16, help="texts whose tokens are compared, and timed")
    parser.add_argument("--rounds", type=int, default=2, help="that these are timed")
    return parser.parse_args(arguments)


def condition_of(name: str) -> str:
    kind, _, length = name.partition("=")
    if name in (REFERENCE, "bfloat16", "int8") or (kind == "window" and length.isdecimal() and int(length) > 0):
        return name
    raise argparse.ArgumentTypeError(f"{name!r} is none of {REFERENCE}, bfloat16, int8 and window=N.")


def variant_of(bark: BarkModel, name: str) -> BarkModel:
    """A Bark for a condition; `bark` is not changed.

    Raises:
        SystemExit: int8 off the CPU, or a window that does not fit.
    """
    if name == REFERENCE:
        return bark
    variant = deepcopy(bark)
    if name == "bfloat16":
        for model in MODELS:
            getattr(variant, model).to(torch.bfloat16)
    elif name == "int8":
        if bark.device.type != "cpu":
            raise SystemExit(f"int8 layers run on a CPU only, and the Bark is on {bark.device}. Leave int8 out.")
        for model in MODELS:
            setattr(variant, model, quantized(getattr(variant, model)))
    else:
        try:
            variant.generation_config = with_coarse_window(bark, int(name.partition("=")[2]))
        except ValueError as error:
            raise SystemExit(f"{name}: {error}") from error
    return variant.eval()


def quantized(model: nn.Module) -> nn.Module:
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError as error:
        raise SystemExit(f"This torch has no dynamic quantization any more ({error}). Leave int8 out.") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will move to torchao
        return quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


class VariantMaker(Maker):
    """A [`Maker`] whose conditions are Barks; every clone has the full prompt."""

    def condition(self, trial: Trial):
        return self.cloned(trial.voice), "full"

    def with_bark(self, bark: BarkModel) -> "VariantMaker":
        """A copy with another Bark and the same prompts."""
        maker = VariantMaker(self.codec, [], bark=bark, processor=self.processor, encoder=self.encoder)
        maker.cloned = self.cloned
        return maker


# ---- tokens and times


def measured_tokens(args, maker: VariantMaker, variants: dict[str, BarkModel], trials: Sequence[Trial]) -> list[dict]:
    """Equal tokens, first differences and times of each condition and model, from tokens.json if they are there."""
    clones = [t for t in trials if t.condition == REFERENCE and t.id.endswith("/0")][: args.token_requests]
    plan = {"conditions": list(variants), "requests": [trial.id for trial in clones], "rounds": args.rounds}
    file = args.output / "tokens.json"
    if file.exists() and (known := json.loads(file.read_text()))["plan"] == plan:
        return known["rows"]
    requests = [replace(maker.request(trial), semantic=GREEDY, coarse=GREEDY, fine=GREEDY) for trial in clones]
    for bark in variants.values():  # what is slow but once
        greedy_stages(bark, requests[:1], None, maker.processor.tokenizer, args.batch_size)
    inputs, runs = None, {name: [] for name in variants}
    for number in range(args.rounds):
        for name, bark in variants.items():
            outputs, seconds = greedy_stages(bark, requests, inputs, maker.processor.tokenizer, args.batch_size)
            inputs = inputs or outputs  # of float32, which comes first
            runs[name].append((outputs, seconds))
            print(f"tokens of {name}, round {number + 1} of {args.rounds}", flush=True)
    rows = [
        {"condition": name, **token_figures(runs[name], runs[REFERENCE], clones, maker.bark, args.seed)}
        for name in list(variants)[1:]
    ]
    write_json(file, {"plan": plan, "rows": rows})
    return rows


def greedy_stages(
    bark: BarkModel, requests: Sequence[SynthesisRequest], inputs: dict | None, tokenizer, batch_size: int
) -> tuple[dict[str, list[np.ndarray]], dict[str, float]]:
    """The output of each model, by request, and its seconds.

    Args:
        inputs (`dict`, *optional*): an earlier output as input of the coarse and the fine model; by default, the new
            one.
    """
    seconds, start = {}, time.perf_counter()
    semantic = [tokens for tokens, _ in text_to_semantic(bark, requests, tokenizer=tokenizer, batch_size=batch_size)]
    seconds["semantic"], outputs = time.perf_counter() - start, {"semantic": semantic}
    setup = BarkSetup(bark, batch_size=batch_size)
    for before, stage in zip(STAGES, STAGES[1:], strict=False):
        values = (inputs or outputs)[before]
        items = [StageItem(i, request, value) for i, (request, value) in enumerate(zip(requests, values, strict=True))]
        start = time.perf_counter()
        made = {
            item.index: item.value for item in run_stage(stage, setup, [item for item in items if item.value.size])
        }
        seconds[stage] = time.perf_counter() - start
        outputs[stage] = [made.get(item.index, item.value) for item in items]
    return outputs, seconds


def token_figures(runs: list, reference: list, trials: Sequence[Trial], bark: BarkModel, seed: int) -> dict:
    """Figures by model: equal tokens with an interval, first difference, speedup; and the speedup of all together."""
    configs = bark_generation_configs(bark)
    num_coarse = configs.coarse.n_coarse_codebooks
    per_second = {
        "semantic": configs.semantic.semantic_rate_hz,
        "coarse": configs.coarse.coarse_rate_hz * num_coarse,
        "fine": configs.coarse.coarse_rate_hz * (configs.fine.n_fine_codebooks - num_coarse),
    }
    figures, times = {}, {"own": 0.0, "reference": 0.0}
    for stage in STAGES:
        own, theirs = (
            [in_order(value, stage, num_coarse) for value in side[0][0][stage]] for side in (runs, reference)
        )
        equal, longest, firsts = zip(*(agreement(a, b) for a, b in zip(own, theirs, strict=True)), strict=True)
        differing = [first / per_second[stage] for first in firsts if first is not None]
        sides = [statistics.median(seconds[stage] for _, seconds in side) for side in (runs, reference)]
        if stage == "semantic":  # of as many tokens
            sides[0] *= sum(map(len, theirs)) / max(1, sum(map(len, own)))
        times = {"own": times["own"] + sides[0], "reference": times["reference"] + sides[1]}
        figures[stage] = {
            "equal": asdict(ratio_estimate(equal, longest, groups=[trial.voice for trial in trials], seed=seed)),
            "requests_without_difference": sum(first is None for first in firsts),
            "requests": len(firsts),
            "first_difference_s": round(statistics.median(differing), 3) if differing else None,
            "speedup": round(sides[1] / sides[0], 3),
        }
    return {"models": figures, "speedup": round(times["reference"] / times["own"], 3)}


def in_order(value: np.ndarray, stage: str, num_coarse: int) -> np.ndarray:
    """Tokens of a stage in the order of time."""
    if stage == "semantic":
        return value
    return (value if stage == "coarse" else value[num_coarse:]).T.reshape(-1)


def agreement(first: np.ndarray, second: np.ndarray) -> tuple[int, int, int | None]:
    """Number of equal tokens, length of the longer sequence, and index of the first difference."""
    shorter, longer = sorted((len(first), len(second)))
    equal = first[:shorter] == second[:shorter]
    different = np.flatnonzero(~equal)
    where = int(different[0]) if len(different) else shorter if shorter < longer else None
    return int(equal.sum()), longer, where


# ---- results


def tokens_table(rows: Sequence[dict]) -> str:
    cells = []
    for row in rows:
        for stage, figures in row["models"].items():
            equal, first = figures["equal"], figures["first_difference_s"]
            share = f"{equal['value']:.1%} [{100 * equal['low']:.1f}, {100 * equal['high']:.1f}]"
            same = f"{figures['requests_without_difference']} of {figures['requests']}"
            cells.append([row["condition"], stage, share, same, "" if first is None else first, figures["speedup"]])
        cells.append([row["condition"], "all", "", "", "", row["speedup"]])
    heads = ["condition", "model", "equal greedy tokens", "without a difference", "first difference, s", "speedup"]
    return markdown_table(heads, cells)


if __name__ == "__main__":
    main()
