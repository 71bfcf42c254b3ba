"""Ablation of voice prompts: clones with and without the semantic and the acoustic tokens of the prompt.

    python training/studies/ablate_prompts.py outputs/nano/speech --bark nano --output outputs/nano/ablation --seeds 2
    torchrun --nproc-per-node 2 training/studies/ablate_prompts.py (the same)
    python training/studies/ablate_prompts.py outputs/nano/speech people.csv --voices-per-source 12 --texts FILE ...

Every held-out voice speaks every text with every seed in every condition:

    full       semantic and acoustic tokens of the reference
    acoustic   only its acoustic tokens
    semantic   only its semantic tokens
    random     its acoustic tokens with the semantic tokens of another voice, which is among the distractors
    shuffled   its acoustic tokens with its own semantic tokens in random order (optional)
    none       no prompt: Bark chooses a voice

Conditions are compared on the same voice, text, seed and distractors: a table, then the difference of every pair of
conditions with its interval, p-value (sign flips of whole voices) and Holm's correction for the number of pairs.
Voices, options, trials, resumption and files are those of evaluate_voice.py; the differences are in `comparisons` of
summary.json. Claims need 20 voices or more: name several sources of voices.
"""

from collections.abc import Sequence
from itertools import combinations

from hf_bark_semantic.cli.console import errors_as_one_sentence
from hf_bark_semantic.cli.evaluate_voice import SHOWN, argument_parser, evaluate, seeds_of
from hf_bark_semantic.evaluation.report import how_made
from hf_bark_semantic.evaluation.voice_figures import compare_pairs, format_table
from hf_bark_semantic.evaluation.voice_report import write_voice_results
from hf_bark_semantic.evaluation.voice_scores import Scorers

CONDITIONS = ("full", "acoustic", "semantic", "random", "none")


@errors_as_one_sentence
def main(arguments: Sequence[str] | None = None, scorers: Scorers | None = None) -> dict:
    """Run the command; `scorers` replaces the models of the options."""
    parser = argument_parser(__doc__)
    parser.set_defaults(conditions=list(CONDITIONS), presets=[])
    args = parser.parse_args(arguments)
    summary = evaluate(args, ("original", "clone"), args.conditions, scorers)
    if not summary:
        return {}
    pairs = list(combinations(args.conditions, 2))
    comparisons = compare_pairs(summary["rows"], summary["records"], pairs, seed=args.seed)
    summary["comparisons"] = comparisons
    made = how_made("training/studies/ablate_prompts.py", arguments, seeds=seeds_of(args))
    write_voice_results(args.output, "Which part of a prompt carries the voice", made, summary, columns=SHOWN)
    print(format_table(summary["rows"], SHOWN))
    print()
    for row in comparisons:
        pair = f"{row['figure']:35s} {row['first']:>8s} - {row['second']:8s}"
        print(f"{pair} {row['shown']:28s} p = {row['p_value']:.4f}, Holm {row['p_holm']:.4f}")
    print(f"\n{args.output / 'report.html'}")
    return summary


if __name__ == "__main__":
    main()
