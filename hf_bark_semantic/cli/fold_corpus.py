"""Divide a corpus into folds that share neither voice nor text, for `train_encoder.py --fold`.

    python -m hf_bark_semantic.cli.fold_corpus outputs/corpus --folds 5 --output outputs/corpus_folds

    after: outputs/corpus_folds/   the same rows, with the columns `fold` and `in_folds` (`datasets`, save_to_disk)

The same corpus gives the same folds. If all voices say the same texts, a clip whose voice is in one fold and whose
text is in another is in no fold (`in_folds` is false). It is used for training only if nothing is held out.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from datasets import concatenate_datasets

from ..corpus.rows import FOLD_COLUMNS, checked_corpus, dataset_parts, stored_fold
from ..trainers.folds import choose_folds, folds_in_words
from .console import errors_as_one_sentence
from .route import NUM_FOLDS, first_training, say_next


@errors_as_one_sentence
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="folder or Hub id")
    parser.add_argument("--folds", type=int, default=NUM_FOLDS, help=f"number of folds (default: {NUM_FOLDS})")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    args = parser.parse_args(arguments)
    if args.output.exists():
        parser.error(f"{args.output} exists already; name a new folder.")
    corpus = concatenate_datasets([checked_corpus(part, args.corpus) for part in dataset_parts(args.corpus)])
    voices = [voice or "" for voice in corpus["voice"]]
    texts = [text or "" for text in corpus["text"]] if "text" in corpus.column_names else [""] * len(corpus)
    folds = choose_folds(voices, texts, args.folds)
    corpus = corpus.remove_columns([name for name in corpus.column_names if name in FOLD_COLUMNS])
    for name in stored_fold(None):
        corpus = corpus.add_column(name, [stored_fold(fold)[name] for fold in folds])
    corpus.save_to_disk(args.output)
    print(*folds_in_words(folds, voices, texts), sep="\n")
    model = corpus[0].get("model") or ""
    say_next(*first_training(args.output, model))


if __name__ == "__main__":
    main()
