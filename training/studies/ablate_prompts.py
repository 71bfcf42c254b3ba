"""What makes a clone: Bark's voice prompt with and without its semantic and its acoustic tokens.

    python training/studies/ablate_prompts.py outputs/nano/speech --bark nano --output outputs/nano/ablation --seeds 2
    torchrun --nproc-per-node 2 training/studies/ablate_prompts.py (the same)
    python training/studies/ablate_prompts.py outputs/nano/speech people.csv --voices-per-source 12 --texts FILE ...

Every held-out voice says every text with every seed in every condition:

    full       semantic and acoustic tokens of the reference
    acoustic   its acoustic tokens alone
    semantic   its semantic tokens alone
    random     its acoustic tokens with the semantic tokens of another voice, which is among the distractors
    shuffled   its acoustic tokens with its own semantic tokens in random order (on demand)
    none       no prompt: a voice of Bark's own choice

Conditions are compared on the same voice, text, seed and distractors: the table, then the difference of every pair of
conditions with its interval, its p-value (whole voices swapped) and Holm's, which allows for the number of pairs.
Voices, options, trials and resumption are those of evaluate_voice.py, and so are the files that it writes; the
differences are under `comparisons` in summary.json. Claims need 20 voices or more: name several sources of them.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations

from hf_bark_semantic.cli.evaluate_voice import SHOWN, argument_parser, evaluate, seeds_of
from hf_bark_semantic.evaluation.report import how_made
from hf_bark_semantic.evaluation.voice_figures import compare, format_estimate, format_table
from hf_bark_semantic.evaluation.voice_report import write_voice_results
from hf_bark_semantic.evaluation.voice_scores import Scorers

CONDITIONS = ("full", "acoustic", "semantic", "random", "none")
COMPARED = ("identified", "similarity", "wer", "mos")


def main(arguments: Sequence[str] | None = None, scorers: Scorers | None = None) -> dict:
    """Run the command; `scorers` replaces the models that the options name."""
    parser = argument_parser(__doc__)
    parser.set_defaults(conditions=list(CONDITIONS), presets=[])
    args = parser.parse_args(arguments)
    summary = evaluate(args, ("original", "clone"), args.conditions, scorers)
    if not summary:
        return {}
    comparisons = compare_conditions(summary, args.conditions, seed=args.seed)
    summary["comparisons"] = comparisons
    made = how_made([__file__, *(sys.argv[1:] if arguments is None else arguments)], seeds=seeds_of(args))
    write_voice_results(args.output, "What of a prompt carries the voice", made, summary, columns=SHOWN)
    print(format_table(summary["rows"], SHOWN))
    print()
    for row in comparisons:
        pair = f"{row['figure']:35s} {row['first']:>8s} - {row['second']:8s}"
        print(f"{pair} {row['shown']:28s} p = {row['p_value']:.4f}, Holm {row['p_holm']:.4f}")
    print(f"\n{args.output / 'report.html'}")
    return summary


def compare_conditions(summary: dict, conditions: Sequence[str], *, seed: int) -> list[dict]:
    """Differences of every figure that clones have between every two conditions.

    `p_holm` is Holm's (1979) step-down p-value over the pairs of conditions of one figure.
    """
    names = dict.fromkeys(name for row in summary["rows"] if row["part"] == "clone" for name in row["figures"])
    rows = []
    for name in names:
        if name.partition("/")[0] not in COMPARED:
            continue
        pairs = {pair: compare(summary["records"], *pair, name, seed=seed) for pair in combinations(conditions, 2)}
        pairs = {pair: difference for pair, difference in pairs.items() if difference is not None}
        adjusted = holm([difference.p_value for difference in pairs.values()])
        for ((first, second), difference), p_holm in zip(pairs.items(), adjusted, strict=True):
            row = {"figure": name, "first": first, "second": second, "shown": format_estimate(name, difference)}
            rows.append({**row, **asdict(difference), "p_holm": p_holm})
    return rows


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment: the smallest of n p-values times n, the next times n - 1, ..., never falling, at most 1."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


if __name__ == "__main__":
    main()
