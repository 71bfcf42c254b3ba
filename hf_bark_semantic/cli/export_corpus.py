"""Export a corpus in fairseq's layout, for the first repositories for Bark's tokens.

python -m hf_bark_semantic.cli.export_corpus outputs/corpus outputs/fairseq --codec suno/bark

after: outputs/fairseq/   wav/*.wav (16 kHz)  manifest.tsv  labels.txt  manifest.km  dict.km.txt
"""

import argparse
from functools import partial
from pathlib import Path

from ..bark.loading import load_codec
from ..corpus.formats import export_fairseq
from ..voices.cloning import decode_codes
from .console import errors_as_one_sentence


@errors_as_one_sentence
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="folder or Hub id")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--codec", help="for rows without audio: a Bark or an EnCodec, folder or Hub id, or nano")
    args = parser.parse_args(arguments)
    codes_to_waveform = partial(decode_codes, codec=load_codec(args.codec)) if args.codec else None
    count = export_fairseq(args.corpus, args.output, codes_to_waveform=codes_to_waveform)
    print(f"{args.output}: {count:,} rows")


if __name__ == "__main__":
    main()
