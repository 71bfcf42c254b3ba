"""`bark-semantic speak`: a text, or a recording, spoken in a voice."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..packaged import NANO
from .console import (
    OK,
    UsageError,
    add_encoder_arguments,
    load_pipeline,
    make_folder,
    not_negative,
    positive,
    usage_errors,
)


def add_parser(commands) -> None:
    parser = commands.add_parser("speak", help="a text, or a recording, spoken in a voice")
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what to say, of any length; - reads it from stdin")
    parser.add_argument("--file", type=Path, metavar="PATH", help="say the text of this file (UTF-8)")
    parser.add_argument("--convert", metavar="FILE", help="say what this recording says")
    parser.add_argument(
        "--voice", action="append", metavar="VOICE",
        help="a voice prompt (.npz), a preset of the Bark or a recording; several recordings: --voice A --voice B",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.wav", help="where to write the speech")
    parser.add_argument("--bark", default=NANO, metavar="ID", help="Bark: Hub id or folder (default: nano, packaged)")
    add_encoder_arguments(parser)
    parser.add_argument(
        "--prompt-mode", choices=("full", "acoustic", "semantic", "none"),
        help="the stages of Bark that receive the voice: all (default), coarse and fine, text, or none",
    )  # fmt: skip
    parser.add_argument("--adapter", metavar="ID", help="speak with this fine-tuned adapter: Hub id or folder")
    parser.add_argument("--reference-text", metavar="TEXT", help="what the recording says; for --prompt-mode acoustic")
    parser.add_argument("--seed", type=not_negative, metavar="N", help="another seed, another take (default: 0)")
    parser.add_argument(
        "--temperature", type=float, metavar="T",
        help="of the text and the coarse stage (default: the Bark's, Suno's 0.7); 0 for none",
    )  # fmt: skip
    parser.add_argument(
        "--guidance-scale", type=float, metavar="S",
        help="above 1: the words count for more, and speaking takes longer (default: what the Bark's config says)",
    )  # fmt: skip
    parser.add_argument(
        "--voice-guidance-scale", type=float, metavar="S", help="above 1: the voice prompt counts for more, likewise"
    )
    parser.add_argument(
        "--long-form", choices=("fixed", "rolling"),
        help="prompt each piece of a long text with the voice (default), or with the end of the piece before",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=positive, metavar="N", help="pieces computed at once (default: 8)")
    parser.add_argument(
        "--provenance", action=argparse.BooleanOptionalAction, default=True,
        help="say in the file's comment that it is synthetic, by which model and when (default: yes)",
    )  # fmt: skip
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from ..audio import SAVED_FORMATS, save_audio
    from ..voices.provenance import Provenance

    if arguments.text is arguments.file is arguments.convert is None and len(arguments.encoder) > 1:
        arguments.text = arguments.encoder.pop()  # `--encoder ID TEXT`
    sources = [source for source in (arguments.text, arguments.file, arguments.convert) if source is not None]
    if len(sources) != 1:
        raise UsageError("say what to speak: a TEXT, - for stdin, --file PATH or --convert FILE, and one of them only")
    if arguments.output.suffix.lower() not in SAVED_FORMATS:
        raise UsageError(f"--output {str(arguments.output)!r} must end in {' or '.join(SAVED_FORMATS)}")
    if not arguments.voice and not arguments.adapter and arguments.prompt_mode != "none":
        raise UsageError("name a --voice: a voice prompt (.npz), a preset of the Bark or a recording")
    text = _text(arguments)
    speak = _load_speaker(arguments)
    voices = arguments.voice or [None]
    voice = voices[0] if len(voices) == 1 else voices
    speech = speak(voice, text, convert=arguments.convert, **_options(arguments))
    make_folder(arguments.output.parent)
    provenance = None
    if arguments.provenance:
        provenance = Provenance.of_speech(speak.bark, speech["voice_prompt"], adapter=speak.adapter_name)
    save_audio(arguments.output, speech["audio"], speech["sampling_rate"], provenance=provenance)
    print(f"{len(speech['audio']) / speech['sampling_rate']:.2f} s of speech")
    print(arguments.output)
    return OK


def _text(arguments: argparse.Namespace) -> str | None:
    with usage_errors("cannot read the text: "):
        if arguments.file is not None:
            return arguments.file.read_text(encoding="utf-8-sig")
        return sys.stdin.read() if arguments.text == "-" else arguments.text


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those of the pipeline that were given."""
    names = ("prompt_mode", "reference_text", "guidance_scale", "voice_guidance_scale", "seed", "long_form")
    options = {name: getattr(arguments, name) for name in (*names, "batch_size")}
    options |= {"semantic_temperature": arguments.temperature, "coarse_temperature": arguments.temperature}
    return {name: value for name, value in options.items() if value is not None}


def _load_speaker(arguments: argparse.Namespace):
    """The pipeline of the Bark that was asked for."""
    from ..pipelines.cloning import VOICE_CLONING_TASK

    what = f"cannot load the Bark {arguments.bark!r} and the encoder {' '.join(arguments.encoder)!r}"
    options = {} if arguments.adapter is None else {"adapter": arguments.adapter}
    return load_pipeline(arguments, VOICE_CLONING_TASK, what, bark=arguments.bark, **options)


__all__ = ["add_parser", "run"]
