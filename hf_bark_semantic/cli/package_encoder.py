"""Stage 4. Write the folder that is published: a trained encoder with its measured accuracy.

    python training/package_encoder.py outputs/my-encoder --scores scores.json --output my-encoder --license mit

Writes float16 weights, config, processor, `evaluation.json` (with the line that `bark-semantic encode` prints) and the
model card. All figures of the card, and of its metadata, come from the scores that `evaluate_encoder.py` wrote.
`publish.py` uploads the folder. The model's code is stored beside its weights, so that `AutoModel`, `AutoProcessor`
and `pipeline` work with `trust_remote_code=True` without this package; --no-remote-code leaves the code out.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..evaluation.packaging import package_encoder
from ..files import read_json
from .console import errors_as_one_sentence
from .processes import only_run_in
from .route import say_next, script


@errors_as_one_sentence
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of train_encoder.py, trained without a fold held out")
    parser.add_argument("--scores", type=Path, required=True, help="--json of evaluate_encoder.py over the folds")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    shown = "add the model's code to the folder"
    parser.add_argument("--remote-code", action=argparse.BooleanOptionalAction, default=True, help=shown)
    parser.add_argument("--license", help="for the card, such as mit or cc-by-4.0")
    args = parser.parse_args(arguments)
    options = {"remote_code": args.remote_code, "license_id": args.license}
    scores = read_scores(args.scores)
    with only_run_in(args.output):
        print(package_encoder(args.run, scores, args.output, **options))
    say_next(*script("publish", args.output, f"me/{args.output.resolve().name}", "--dry-run"))


def read_scores(file: Path) -> dict:
    """Read the figures of `evaluate_encoder`.

    Raises:
        ValueError: the file is missing, or has other contents.
    """
    cure = f"Write it with evaluate_encoder ... --json {file}."
    try:
        return read_json(file, cure=cure)
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error}). {cure}") from error


if __name__ == "__main__":
    main()
