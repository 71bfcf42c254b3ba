"""Import a corpus of Bark's tokens from another program, for `train_encoder.py`.

    python -m hf_bark_semantic.cli.import_corpus fairseq manifest.tsv labels.txt --output outputs/imported
    python -m hf_bark_semantic.cli.import_corpus archives folder_of_zips --output outputs/imported
    python -m hf_bark_semantic.cli.import_corpus npz folder_of_npz_and_wav --output outputs/imported

    after: outputs/imported/   data/train-*.parquet  shards/*.json  corpus.json

Pairs whose tokens and audio do not match are left out and named. A killed import continues when it is started again.
"""

import argparse
from pathlib import Path

from accelerate import PartialState

from ..corpus.formats import read_archives, read_fairseq, read_npz_folder
from ..corpus.pairs import import_pairs
from ..corpus.shards import shard_records, summarize_records
from .console import errors_as_one_sentence
from .processes import only_run_in


@errors_as_one_sentence
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    layouts = parser.add_subparsers(dest="layout", required=True)
    fairseq = layouts.add_parser("fairseq", help="manifest.tsv and labels.txt or .km")
    fairseq.add_argument("path", type=Path, metavar="manifest")
    fairseq.add_argument("labels", type=Path)
    fairseq.add_argument("--root", type=Path, help="folder of the recordings (default: as in the manifest)")
    archives = layouts.add_parser("archives", help="zips or folders of semantic/0.npy and wav/0.wav")
    npz = layouts.add_parser("npz", help="0.npz (a voice prompt) beside 0.wav")
    for layout in (archives, npz):
        layout.add_argument("path", type=Path, metavar="folder")
    for layout in (fairseq, archives, npz):
        layout.add_argument("--output", type=Path, required=True, help="folder of the corpus")
        layout.add_argument("--source", default="pair", help="column by which a batch plan selects rows")
    args = parser.parse_args(arguments)
    if not args.path.exists():
        parser.error(f"there is no {args.path}")
    if args.layout == "fairseq":
        pairs = read_fairseq(args.path, args.labels, args.root)
    else:
        pairs = {"archives": read_archives, "npz": read_npz_folder}[args.layout](args.path)
    with only_run_in(args.output, PartialState()):
        refused = import_pairs(pairs, args.output, source=args.source, origin=f"{args.layout}: {args.path.name}")
    for name, flaw in refused:
        print(f"left out: {name}: {flaw}")
    total = summarize_records(shard_records(args.output))
    hours = sum(total["speech_s"].values()) / 3600
    print(f"{args.output}: {total['rows']:,} pairs, {hours:.2f} hours; {len(refused):,} left out")


if __name__ == "__main__":
    main()
