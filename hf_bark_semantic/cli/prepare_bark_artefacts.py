"""Make one labelled corpus of real artefacts of Bark, in folds that share neither voice nor sentence.

    python -m hf_bark_semantic.cli.prepare_bark_artefacts data outputs/bark_artefacts

    before                    after
    data/bark_pairs/          outputs/bark_artefacts/     a `datasets` folder with one row per clip:
    data/bark_presets/            id, source, kind, language, voice, fold, in_folds, semantic_tokens,
    data/bark_prompts.npz         community_tokens (or empty), audio_codes (1024: unknown; or empty),
    data/bark_token_sweep/        audio (16 kHz; or empty)
    data/encodec_pairs/       Tokens are -100 where only audio and codes are known.

With --download, the command first downloads what is missing in `data`; without an output folder, it only downloads. If
a source no longer exists, the command names it with its number of tokens, and uses the others:

    python -m hf_bark_semantic.cli.prepare_bark_artefacts --download data outputs/bark_artefacts

With --by-voice, the folds may share sentences of pairs, but no voices; RESULTS.md has the effect on the accuracy.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from ..corpus.bark_artefacts import (
    natural_codec_rows,
    pair_rows,
    preset_codec_rows,
    preset_rows,
    prompt_rows,
    sweep_rows,
)
from ..corpus.bark_sources import Missing, fetch_artefacts
from .console import errors_as_one_sentence

REASONS_SHOWN = 5  # per part


@errors_as_one_sentence
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data",
        type=Path,
        help="folder with bark_pairs/, bark_presets/, bark_prompts.npz, bark_token_sweep/ and encodec_pairs/",
    )
    parser.add_argument("output", type=Path, nargs="?", help="folder to write; may be left out with --download")
    parser.add_argument("--download", action="store_true", help="first download missing data")
    parser.add_argument("--by-voice", action="store_true", help="folds may share sentences of pairs, not voices")
    args = parser.parse_args(arguments)
    if args.output is None and not args.download:
        parser.error("name the folder to write, or download the data with --download")
    if args.download:
        print_missing(fetch_artefacts(args.data))
    if args.output is None:
        return
    parts = {
        "pairs": ("bark_pairs", lambda path: pair_rows(path, by_voice=args.by_voice)),
        "presets": ("bark_presets", preset_rows),
        "prompts": ("bark_prompts.npz", lambda path: prompt_rows(path, tokens_of(rows["pairs"]))),
        "sweep": ("bark_token_sweep", sweep_rows),
        "codes of presets": ("bark_presets", preset_codec_rows),
        "codes of people": ("encodec_pairs", natural_codec_rows),
    }
    rows = {}
    for part, (name, read) in parts.items():
        gone = args.download and not (args.data / name).exists()
        rows[part] = [] if gone else list(read(args.data / name))
    Dataset.from_list([row for part in rows.values() for row in part]).save_to_disk(args.output)
    for part, found in rows.items():
        print(f"{part}: {len(found)} clips, {sum(len(row['semantic_tokens']) for row in found)} tokens")
    print(f"prompts in the folds: {sum(row['in_folds'] for row in rows['prompts'])}")


def print_missing(missing: Sequence[Missing]) -> None:
    """Print the artefacts that could not be downloaded; a few of each part with the reason."""
    of_parts: dict[str, list[Missing]] = {}
    for item in missing:
        of_parts.setdefault(item.part, []).append(item)
    for part, items in of_parts.items():
        for item in items[:REASONS_SHOWN]:
            print(f"! {part}, {item.name}: {item.reason}")
        others = ", ".join(item.name for item in items[REASONS_SHOWN:])
        if others:
            print(f"! {part}, also missing: {others}")


def tokens_of(rows: Sequence[dict]) -> set[tuple[int, ...]]:
    return {tuple(row["semantic_tokens"]) for row in rows}


if __name__ == "__main__":
    main()
