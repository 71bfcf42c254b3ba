"""`bark-semantic speak`: speak a text, or the words of a recording, in a voice."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from ..files import read_text
from ..packaged import NANO
from .console import (
    OK,
    UsageError,
    add_encoder_arguments,
    at_least,
    load_pipeline,
    local_path,
    prepare_output,
    usage_errors,
)


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "speak", help="speak a text, or the words of a recording, in a voice",
        description="Speak a text of any length, or the words of a recording, in a voice.",
        examples=[
            'bark-semantic speak "The young queen walks to the castle." --voice sara --output castle.wav',
            'bark-semantic speak "Hello, my dog is cute." --voice me.wav --bark suno/bark-small --output hello.flac',
            "bark-semantic speak --file book.txt --voice me.npz --bark suno/bark-small --output - | aplay",
            "bark-semantic speak --convert someone.wav --voice me.wav --bark suno/bark-small --output me_too.wav",
        ],
    )  # fmt: skip
    words = parser.add_argument_group("text", "one of these")
    words.add_argument("text", nargs="?", metavar="TEXT", help="a text of any length; - reads it from stdin")
    words.add_argument("--file", type=local_path, metavar="PATH", help="the text of this file (UTF-8)")
    words.add_argument("--convert", metavar="FILE", help="speak the words of this recording")
    _add_voice_arguments(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", type=local_path, required=True, metavar="FILE",
        help="the .wav, .flac, .mp3 or .ogg to write; - streams a WAV to stdout, each piece as soon as it is spoken",
    )  # fmt: skip
    output.add_argument("--overwrite", action="store_true", help="replace the file of --output")
    output.add_argument(
        "--provenance", action=argparse.BooleanOptionalAction, default=True,
        help="label the file as synthetic, with model and date, in its comment (default: yes)",
    )  # fmt: skip
    output.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="progress bar, by piece (default: on a terminal)"
    )
    _add_sampling_arguments(parser)
    add_encoder_arguments(parser)
    parser.set_defaults(command=run)


def _add_voice_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("voice")
    group.add_argument(
        "--voice", action="append", metavar="VOICE",
        help="a voice prompt (.npz), a preset of the Bark or a recording; several recordings: --voice A --voice B",
    )  # fmt: skip
    group.add_argument("--bark", default=NANO, metavar="ID", help="Bark: Hub id or folder (default: nano, packaged)")
    group.add_argument("--adapter", metavar="ID", help="speak with this fine-tuned adapter: Hub id or folder")
    group.add_argument(
        "--prompt-mode", choices=("full", "acoustic", "semantic", "none"),
        help="the stages of Bark that receive the voice: full, all (default); coarse and fine; text; or none",
    )  # fmt: skip
    group.add_argument(
        "--reference-text", metavar="TEXT", help="the full transcript of a single recording of at most 14 s"
    )


def _add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument("--seed", type=at_least(0), metavar="N", help="seed of the random numbers (default: 0)")
    group.add_argument(
        "--temperature", type=at_least(0, float), metavar="T",
        help="of the text and the coarse stage (default: the Bark's, Suno's 0.7); 0 for none",
    )  # fmt: skip
    group.add_argument(
        "--guidance-scale", type=at_least(1, float), metavar="S",
        help="guidance by the text; above 1, words are clearer and speaking slower (default: the Bark's)",
    )  # fmt: skip
    group.add_argument(
        "--voice-guidance-scale",
        type=at_least(1, float),
        metavar="S",
        help="guidance by the voice; above 1, the voice is closer and speaking slower (default: the Bark's)",
    )
    group.add_argument(
        "--long-form", choices=("fixed", "rolling"),
        help="prompt each piece of a long text with the voice (fixed, default) or with the preceding piece (rolling)",
    )  # fmt: skip
    group.add_argument("--batch-size", type=at_least(1), metavar="N", help="pieces computed at once (default: 8)")


def run(arguments: argparse.Namespace) -> int:
    from ..audio import SAVED_FORMATS

    if arguments.text is arguments.file is arguments.convert is None and len(arguments.encoder) > 1:
        arguments.text = arguments.encoder.pop()  # `--encoder ID TEXT`
    sources = [source for source in (arguments.text, arguments.file, arguments.convert) if source is not None]
    if len(sources) != 1:
        raise UsageError("name exactly one of TEXT, - for stdin, --file PATH and --convert FILE")
    voices = arguments.voice or [None]
    if voices == [None] and not arguments.adapter and arguments.prompt_mode != "none":
        raise UsageError("name a --voice: a voice prompt (.npz), a preset of the Bark or a recording")
    text, to_stdout = _text(arguments), str(arguments.output) == "-"
    if to_stdout and sys.stdout.isatty():
        raise UsageError("--output - writes a WAV to stdout, which is a terminal here; pipe it, as in ... | aplay")
    if not to_stdout:
        inputs = [path for path in (arguments.file, arguments.convert, *voices) if path is not None]
        prepare_output(arguments.output, SAVED_FORMATS, overwrite=arguments.overwrite, inputs=inputs)

    from ..voices.provenance import Provenance
    from . import speech

    speak = _load_speaker(arguments)
    pieces = _speak(speak, voices[0] if len(voices) == 1 else voices, text, arguments)

    def note(piece: dict[str, Any]) -> Provenance | None:
        if not arguments.provenance:
            return None
        return Provenance.of_speech(speak.bark, piece["voice_prompt"], adapter=speak.adapter_name)

    if to_stdout:
        speech.write_to_stdout(pieces, note)
        return OK
    seconds = speech.write_file(pieces, arguments.output, note)
    print(f"{seconds:.2f} s of speech")
    print(arguments.output)
    return OK


def _speak(speak: Any, voice: Any, text: str | None, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the pieces of the speech as they are spoken, with a progress bar."""
    from tqdm import tqdm

    disable = None if arguments.progress is None else not arguments.progress
    with tqdm(unit="piece", file=sys.stderr, disable=disable) as bar:
        stages = [""]

        def show(stage: str) -> None:
            if stage != stages[-1]:
                stages.append(stage)
                bar.set_postfix_str(stage)

        for piece in speak.stream(voice, text, convert=arguments.convert, on_step=show, **_options(arguments)):
            bar.total = piece["num_pieces"]
            bar.update()
            yield piece


def _text(arguments: argparse.Namespace) -> str | None:
    if arguments.file is not None and not arguments.file.exists():
        raise UsageError(f"there is no file {str(arguments.file)!r}; check the spelling and the folder you are in")
    with usage_errors("cannot read the text: "):
        text = arguments.text if arguments.file is None else read_text(arguments.file)
        text = sys.stdin.read() if arguments.text == "-" else text
    if text is not None and not text.strip():
        raise UsageError("the text is empty; write a text to speak")
    return text


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the pipeline that were given."""
    names = ("prompt_mode", "reference_text", "guidance_scale", "voice_guidance_scale", "seed", "long_form")
    options = {name: getattr(arguments, name) for name in (*names, "batch_size")}
    options |= {"semantic_temperature": arguments.temperature, "coarse_temperature": arguments.temperature}
    return {name: value for name, value in options.items() if value is not None}


def _load_speaker(arguments: argparse.Namespace):
    """The pipeline of the chosen Bark."""
    from ..pipelines.cloning import VOICE_CLONING_TASK

    what = f"cannot load the Bark {arguments.bark!r} and the encoder {' '.join(arguments.encoder)!r}"
    options = {} if arguments.adapter is None else {"adapter": arguments.adapter}
    return load_pipeline(arguments, VOICE_CLONING_TASK, what, bark=arguments.bark, **options)


__all__ = ["add_parser", "run"]
