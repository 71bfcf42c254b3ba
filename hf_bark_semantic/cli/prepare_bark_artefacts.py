"""Stage 1. Real artefacts of Bark to one labelled corpus, in folds that share neither voice nor sentence.

    python -m hf_bark_semantic.cli.prepare_bark_artefacts data outputs/bark_artefacts

    before                    after
    data/bark_pairs/          outputs/bark_artefacts/     a `datasets` folder with one row per clip:
    data/bark_presets/            id, source, kind, language, voice, fold, in_folds, semantic_tokens,
    data/bark_prompts.npz         community_tokens (or empty), audio_codes (1024: unknown; or empty),
    data/bark_token_sweep/        audio (16 kHz; or empty)

With --by-voice, pairs that share a sentence but not a voice are dealt out to the folds one by one: how much those
sentences give away is one of the results.
"""

import argparse
from pathlib import Path

from datasets import Dataset

from ..corpus.bark_artefacts import pair_rows, preset_rows, prompt_rows, sweep_rows


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", type=Path, help="folder with bark_pairs/, bark_presets/, bark_prompts.npz and bark_token_sweep/"
    )
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--by-voice", action="store_true", help="folds may share sentences of pairs, not voices")
    args = parser.parse_args(arguments)
    pairs = list(pair_rows(args.data / "bark_pairs", by_voice=args.by_voice))
    presets = list(preset_rows(args.data / "bark_presets"))
    prompts = list(prompt_rows(args.data / "bark_prompts.npz", {tuple(row["semantic_tokens"]) for row in pairs}))
    sweep = list(sweep_rows(args.data / "bark_token_sweep"))
    Dataset.from_list(pairs + presets + prompts + sweep).save_to_disk(args.output)
    for name, rows in [("pairs", pairs), ("presets", presets), ("prompts", prompts), ("sweep", sweep)]:
        print(f"{name}: {len(rows)} clips, {sum(len(row['semantic_tokens']) for row in rows)} tokens")
    print(f"prompts in the folds: {sum(row['in_folds'] for row in prompts)}")


if __name__ == "__main__":
    main()
