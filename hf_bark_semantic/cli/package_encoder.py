"""Stage 4. A trained encoder and its measured accuracy to the folder that is published.

    python training/package_encoder.py outputs/builtin --scores outputs/cv.json --output
    hf_bark_semantic/checkpoints/bark-encoder

Writes float16 weights, config, processor, `evaluation.json` (with the line that `bark-semantic encode` prints) and the
model card, in which every number comes from the scores that `evaluate_encoder.py` wrote; its metadata have them, too.
`publish.py` uploads the folder.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ..evaluation.packaging import package_encoder


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of train_encoder.py, trained without a fold held out")
    parser.add_argument("--scores", type=Path, required=True, help="--json of evaluate_encoder.py over the folds")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(arguments)
    try:
        print(package_encoder(args.run, json.loads(args.scores.read_text()), args.output))
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
