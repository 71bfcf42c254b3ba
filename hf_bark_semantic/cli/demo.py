"""`bark-semantic demo`: encode, clone and speak with the models of the package."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

from ..packaged import NANO, nano_recording
from .console import OK, local_path, make_folder, usage_errors

TEXT = "The train to the airport leaves at seven. The young queen walks to the castle."  # not in nano's training data


def add_parser(commands, *, type_command: Callable[[list[str]], int]) -> None:
    """`type_command` runs a command and returns its exit code."""
    parser = commands.add_parser(
        "demo", help="encode, clone and speak with the models of the package; no network",
        description="Encode, clone and speak with the models of the package, without a network.",
        examples=["bark-semantic demo", "bark-semantic demo --output first_try"],
    )  # fmt: skip
    parser.add_argument(
        "--output", type=local_path, default=Path("bark-semantic-demo"), metavar="DIR",
        help="folder for the results (default: bark-semantic-demo)",
    )  # fmt: skip
    parser.set_defaults(command=run, type_command=type_command)


def run(arguments: argparse.Namespace) -> int:
    """Run the commands that a new user would type."""
    from ..audio import load_audio, save_audio
    from ..bark.loading import load_bark_processor
    from ..configuration_bark_semantic import CODEC_SAMPLING_RATE

    folder = arguments.output
    with usage_errors():
        reference, presets = nano_recording(), load_bark_processor(NANO).available_voice_presets
    make_folder(folder)
    voice, copy = str(folder / "voice.npz"), str(folder / "reference.wav")
    save_audio(copy, load_audio(reference, CODEC_SAMPLING_RATE), CODEC_SAMPLING_RATE)
    steps = [
        ("Bark's tokens of a real recording, by the encoder for Suno's Bark:", ["encode", "--example"]),
        (
            "A voice prompt for nano, of a voice that it was not trained on:",
            ["clone", copy, "--bark", NANO, "--output", voice],
        ),
        ("nano speaks in that voice:", _speak(voice, folder / "clone.wav")),
    ]
    if presets:
        steps.append(("The same words in a preset voice of nano:", _speak(presets[0], folder / "preset.wav")))
    for number, (explanation, command) in enumerate(steps, 1):
        print(f"\n{number}. {explanation}\n$ {shlex.join(['bark-semantic', *command])}", flush=True)
        if code := arguments.type_command(command):
            return code
    print(
        f"\nListen to {folder}: reference.wav is the recording, clone.wav nano in its voice. nano is a miniature Bark "
        "for about 500 words.\nWith a network, Suno's Bark speaks any text in the voice of your own recording:\n"
        '$ bark-semantic speak "Hello, my dog is cute." --voice MINE.wav --bark suno/bark-small --output hello.wav'
    )
    return OK


def _speak(voice: str, output: Path) -> list[str]:
    again = ["--overwrite"] if output.exists() else []
    return ["speak", TEXT, "--voice", voice, "--output", str(output), *again]


__all__ = ["add_parser", "run"]
