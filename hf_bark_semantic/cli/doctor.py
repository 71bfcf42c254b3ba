"""`bark-semantic doctor`: check the installation."""

import argparse
import json
from dataclasses import replace

from ..environment import inspect_environment
from ..packaged import BUILTIN_ENCODER, changed_files
from .console import FAILED, OK


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "doctor", help="check the installation",
        description="Check what is installed, and how to repair problems.",
        examples=["bark-semantic doctor", "bark-semantic doctor --verify", "bark-semantic doctor --online --json"],
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--online", action="store_true", help="also ask the Hub whether it answers")
    parser.add_argument(
        "--verify", action="store_true", help="also read the packaged models and compare their SHA-256 with the list"
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    environment = inspect_environment(BUILTIN_ENCODER, online=arguments.online)
    if arguments.verify:
        environment = replace(environment, problems=(*environment.problems, *changed_files()))
    if arguments.json:
        print(json.dumps({**vars(environment), "healthy": not environment.problems}))
        return FAILED if environment.problems else OK
    hub = {None: "not asked (--online asks)", True: "answers", False: "does not answer"}[environment.hub_reachable]
    rows = [*environment.versions.items(), *environment.devices.items()]
    rows += [(f"training on {device}", choice) for device, choice in environment.precision.items()]
    rows += [("built-in encoder", environment.builtin_encoder)]
    rows += [("Hub", "offline (HF_HUB_OFFLINE is set)" if environment.offline else hub)]
    rows += [("cached models", environment.cached_models or "none")]
    if arguments.verify:
        rows += [("packaged files", "compared with their SHA-256; what differs is below")]
    for name, value in rows:
        value = ", ".join(value) if isinstance(value, list) else value
        print(f"{name:20} {'-' if value is None else value}")
    for note in environment.notes:
        print(f"note: {note}")
    for problem in environment.problems:
        print(f"BROKEN: {problem}")
    print("something is broken" if environment.problems else "all is well")
    return FAILED if environment.problems else OK


__all__ = ["add_parser", "run"]
