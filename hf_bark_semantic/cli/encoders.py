"""`bark-semantic encoders`: list the encoders that have a name, with origin and accuracy."""

import argparse
import json

from ..packaged import BUILTIN, BUILTIN_ENCODER, COMMUNITY_PREFIX, NANO_ENCODER, NANOS
from .console import OK
from .encode import accuracy_line


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "encoders", help="list the encoders that have a name",
        description="List the encoders that have a name for --encoder, with their measured accuracy.",
        examples=["bark-semantic encoders", "bark-semantic encoders --json"],
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object per encoder and line on stdout")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    for row in named_encoders():
        if arguments.json:
            print(json.dumps(row))
            continue
        print(f"{row['name']}\n    {row['language']}; {row['source']}")
        if row["fetched"]:
            fetched = row["fetched"]
            print(f"    fetched: revision {fetched['revision']}, HuBERT's {fetched['backbone_revision']}")
        print(f"    {row['measured'] or 'not measured'}")
    return OK


def named_encoders() -> list[dict]:
    """A row for each encoder: `name`, `language`, `source`, `measured` accuracy and `fetched` revisions."""
    from ..conversion.community import COMMUNITY, community_source

    rows: list[dict] = [
        {"name": BUILTIN, "language": "13 languages, for Suno's Bark", "measured": accuracy_line(BUILTIN_ENCODER)},
        {"name": NANOS, "language": "English, for nano", "measured": accuracy_line(NANO_ENCODER)},
    ]
    rows = [{**row, "source": "in this package", "fetched": None} for row in rows]
    for name, encoder in COMMUNITY.items():
        revision = f" at {encoder.revision}" if encoder.revision else ""
        source = f"huggingface.co/{encoder.repository}, {encoder.file}{revision}"
        row = {"name": COMMUNITY_PREFIX + name, "language": f"{encoder.language}, for Suno's Bark", "source": source}
        rows.append({**row, "measured": encoder.measured, "fetched": community_source(name)})
    return rows


__all__ = ["add_parser", "named_encoders", "run"]
