"""What makes a clone: Bark's voice prompt with and without its semantic and its acoustic tokens.

    python training/ablate_prompts.py outputs/nano/speech --bark nano --output outputs/nano/ablation --seeds 2
    torchrun --nproc-per-node 2 training/ablate_prompts.py (the same)

Every held-out voice says every text with every seed in every condition:

    full       semantic and acoustic tokens of the reference
    acoustic   its acoustic tokens alone
    semantic   its semantic tokens alone
    random     its acoustic tokens with the semantic tokens of another voice, which is among the distractors
    shuffled   its acoustic tokens with its own semantic tokens in random order (on demand)
    none       no prompt: a voice of Bark's own choice

Conditions are compared on the same voice, text, seed and distractors: the table, then the difference of every pair of
conditions with its interval and p-value (whole voices swapped). Voices, options, trials and resumption are those of
evaluate_voice.py, and so is the folder's layout; the differences are under `comparisons` in summary.json.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations

from evaluate_voice import SHOWN, argument_parser, evaluate

from hf_bark_semantic.voice_evaluation import Scorers, compare, format_estimate, format_table

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
    file = args.output / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "comparisons": comparisons}, indent=1))
    print(format_table(summary["rows"], SHOWN))
    print()
    for row in comparisons:
        print(
            f"{row['figure']:35s} {row['first']:>8s} - {row['second']:8s} {row['shown']:28s} p = {row['p_value']:.4f}"
        )
    return {**summary, "comparisons": comparisons}


def compare_conditions(summary: dict, conditions: Sequence[str], *, seed: int) -> list[dict]:
    """Differences of every figure that clones have between every two conditions."""
    names = dict.fromkeys(name for row in summary["rows"] if row["part"] == "clone" for name in row["figures"])
    rows = []
    for name in names:
        if name.partition("/")[0] not in COMPARED:
            continue
        for first, second in combinations(conditions, 2):
            difference = compare(summary["records"], first, second, name, seed=seed)
            if difference is not None:
                shown = format_estimate(name, difference)
                rows.append({"figure": name, "first": first, "second": second, "shown": shown, **asdict(difference)})
    return rows


if __name__ == "__main__":
    main()
