"""A corpus with folds that share neither voice nor text, for `train_encoder.py --fold`.

    python -m hf_bark_semantic.cli.fold_corpus outputs/corpus --folds 5 --output outputs/corpus_folds

    after: outputs/corpus_folds/   the same rows, with the columns `fold` and `in_folds` (`datasets`, save_to_disk)

The same corpus gives the same folds. Where everybody says the same texts, a clip whose voice is held out in one fold
and whose text in another is in no fold (`in_folds` is false): it is trained on only where nothing is held out.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from datasets import concatenate_datasets

from ..corpus.rows import checked_corpus, dataset_parts
from ..trainers.folds import NO_VOICE, choose_folds
from .console import errors_as_one_sentence


@errors_as_one_sentence
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="folder or Hub id")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    args = parser.parse_args(arguments)
    if args.output.exists():
        parser.error(f"{args.output} exists already; name a new folder.")
    corpus = concatenate_datasets([checked_corpus(part, args.corpus) for part in dataset_parts(args.corpus)])
    voices = [voice or "" for voice in corpus["voice"]]
    texts = [text or "" for text in corpus["text"]] if "text" in corpus.column_names else [""] * len(corpus)
    folds = choose_folds(voices, texts, args.folds)
    corpus = corpus.remove_columns([name for name in ("fold", "in_folds") if name in corpus.column_names])
    corpus = corpus.add_column("fold", [-1 if fold is None else fold for fold in folds])
    corpus.add_column("in_folds", [fold is not None for fold in folds]).save_to_disk(args.output)
    for fold, count in sorted(Counter(fold for fold in folds if fold is not None).items()):
        print(f"fold {fold}: {count} clips")
    notes = {
        "share a voice with one fold and a text with another, so they are in none": sum(f is None for f in folds),
        "name no voice, and each counts as a voice of its own": sum(voice in NO_VOICE for voice in voices),
        "have no text, so a sentence may be in several folds": sum(not text for text in texts),
    }
    for note, count in notes.items():
        if count:
            print(f"{count} clips {note}.")
    print(
        f"Next, for each fold: accelerate launch -m hf_bark_semantic.cli.train_encoder CONFIG --corpus {args.output} "
        "--fold N --output outputs/cv/foldN"
    )


if __name__ == "__main__":
    main()
