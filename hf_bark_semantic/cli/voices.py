"""`bark-semantic voices`: list the voice presets of a Bark, for `speak --voice`."""

import argparse

from ..packaged import NANO
from .console import OK, check_places, say, usage_errors


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "voices", help="list the voice presets of a Bark",
        description="List the presets of a Bark, for speak --voice, with language and sex where known; sex by pitch.",
        examples=["bark-semantic voices", "bark-semantic voices --bark suno/bark-small"],
    )  # fmt: skip
    parser.add_argument("--bark", default=NANO, metavar="ID", help="Bark: Hub id or folder (default: nano, packaged)")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    check_places(arguments.bark)

    from ..bark.presets import preset_language, preset_sex, voice_presets

    with usage_errors("", arguments.bark):
        presets = voice_presets(arguments.bark)
    if not presets:
        say(f"bark-semantic: {arguments.bark} has no voice presets; use --voice FILE, a recording")
    for name in presets:
        known = (preset_language(name, arguments.bark), preset_sex(name, arguments.bark))
        print(f"{name:20} {', '.join(word for word in known if word)}".rstrip())
    return OK


__all__ = ["add_parser", "run"]
