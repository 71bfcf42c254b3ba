"""Stage 5. Publish an encoder, a corpus or adapters on the Hub, in one commit with their card.

    python training/publish.py hf_bark_semantic/checkpoints/bark-encoder me/bark-encoder --dry-run
    python training/publish.py outputs/my_voice_lora/adapter me/my-voice --license cc-by-4.0 --private
    python training/publish.py outputs/corpus me/bark-corpus --license cc0-1.0

The files in the folder show which of the three it is. First, the card's metadata gets the licence of --license, and
for adapters the losses in finetune_bark.py's `report.json` beside their folder (also with --dry-run). Then the folder
is checked: the card must have readable metadata, a licence and a note on consent, and the folder must have no pickle,
no link and no other file. --remote-code stores the code of an encoder beside its weights, if package_encoder.py did
not.
"""

import argparse
import contextlib
import os
from pathlib import Path

from huggingface_hub import RepoCard

from ..conversion.hub import hub_errors
from ..files import read_json, write_text
from ..publishing import CARD, REPORT, adapter_results, add_code, add_results, publish
from .console import errors_as_one_sentence
from .processes import only_run_in
from .route import say_next, script


@errors_as_one_sentence
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    run(parser.parse_args(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("repo_id", help="such as me/my-voice")
    parser.add_argument("--license", help="for the card, such as mit or cc-by-4.0")
    parser.add_argument("--private", action="store_true", help="create the repository for you alone")
    parser.add_argument("--dry-run", action="store_true", help="check, list the files to upload, and upload nothing")
    parser.add_argument("--remote-code", action="store_true", help="put an encoder's code beside its weights first")
    parser.add_argument("--leave-others", action="store_true", help="skip other files instead of refusing them")


def run(args: argparse.Namespace) -> None:
    may_change = args.folder.is_dir() and os.access(args.folder, os.W_OK) and not args.dry_run
    with only_run_in(args.folder) if may_change else contextlib.nullcontext():
        complete_card(args.folder, args.license)
        if args.remote_code:
            add_code(args.folder)
        options = {"private": args.private, "dry_run": args.dry_run, "leave_others": args.leave_others}
        publish_and_print(args.folder, args.repo_id, **options)
    if args.dry_run:
        flags = [name for name in ("private", "leave_others", "remote_code") if getattr(args, name)]
        say_next(*script("publish", args.folder, args.repo_id, *(f"--{name.replace('_', '-')}" for name in flags)))


def complete_card(folder: Path, license_id: str | None) -> None:
    """Write the licence, and for adapters the results of the report beside them, into the card's metadata."""
    path, report = folder / CARD, folder.resolve().parent / REPORT
    if not path.is_file() or path.is_symlink():
        return  # `publish` says so
    if license_id is not None:
        card = RepoCard.load(path)
        card.data["license"] = license_id
        write_text(path, str(card))
    if (folder / "bundle.json").is_file() and report.is_file():
        results = adapter_results(read_json(report))
        card = add_results(path.read_text(encoding="utf-8"), results, name=folder.resolve().parent.name)
        write_text(path, card)


def publish_and_print(folder: Path, repo_id: str, **options) -> None:
    """Publish, and print what was uploaded.

    Raises:
        PublishingError: the folder cannot be published.
        HubError: the Hub refused it, or the connection broke.
    """
    with hub_errors(f"Cannot publish to {repo_id}: ", connection=True):
        publication = publish(folder, repo_id, **options)
    print(publication)
    print(publication.url or f"Nothing was uploaded. Without --dry-run, these files go to {repo_id}.")


if __name__ == "__main__":
    main()
