"""`bark-semantic clone`: make a voice prompt for Bark from recordings of a speaker."""

import argparse
from typing import Any

from .console import (
    OK,
    WORDS,
    UsageError,
    add_encoder_arguments,
    add_transcript_arguments,
    check_places,
    load_encoder,
    load_transcriber,
    local_path,
    prepare_output,
    usage_errors,
    words_behind_encoder,
)


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "clone", help="turn recordings of a speaker into a voice prompt for Bark",
        description="Make a voice prompt, in the format of Bark programs, from recordings of one speaker.",
        examples=[
            "bark-semantic clone me.wav --bark nano --output me.npz",
            "bark-semantic clone me.m4a me_again.m4a --bark suno/bark-small --output me.npz",
            "bark-semantic clone me.wav --transcribe --bark suno/bark-small --output me.npz",
        ],
    )  # fmt: skip
    parser.add_argument("files", nargs="*", metavar="FILE", help="recordings of one speaker; the last one counts most")
    parser.add_argument(
        "--output", type=local_path, required=True, metavar="VOICE.npz", help="the voice prompt to write"
    )
    codec = parser.add_mutually_exclusive_group()
    codec.add_argument("--codec", metavar="ID", help="EnCodec: Hub id or folder (default: facebook/encodec_24khz)")
    codec.add_argument("--bark", metavar="ID", help="clone for this Bark, with its codec: Hub id, folder or nano")
    add_transcript_arguments(parser.add_argument_group(*WORDS))
    add_encoder_arguments(parser)
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from .records import failure, input_files, print_record

    files = input_files(arguments.files or words_behind_encoder(arguments))
    problems = [(file, problem) for file, problem in files.items() if problem is not None]
    for file, problem in problems:
        print_record(failure(file, problem))
    if problems or not files:
        raise UsageError("some recordings do not exist" if problems else "name recordings of one speaker")

    prepare_output(arguments.output, [".npz"], overwrite=True, inputs=files)
    if arguments.transcribe and arguments.bark is None:
        raise UsageError("--transcribe needs --bark, the Bark that uses the words")
    check_places(arguments.bark, arguments.codec)

    from ..voices.cloning import clone_voice

    transcribe = load_transcriber(arguments)
    encoder = load_encoder(arguments)
    voice = clone_voice(list(files), encoder, transcribe=transcribe, **_load_bark(arguments, encoder))
    voice.prompt.save(arguments.output)
    texts = [f": {text}" if text else ", no words were recognized" for text in voice.texts] or [""] * len(files)
    for file, window, report, text in zip(files, voice.windows, voice.reports, texts, strict=True):
        print(f"{file}: {window.start_s:.2f} s to {window.end_s:.2f} s{text}")
        if len(files) > 1 and report.sound is not None:
            for warning in report.sound.warnings():
                print(f"  ! {warning}")
    print(voice.report)
    print(f"  the encoder's mean confidence is {voice.confidence:.0%}")
    print(arguments.output)
    return OK


def _load_bark(arguments: argparse.Namespace, encoder: Any) -> dict[str, Any]:
    """The arguments of `clone_voice` for the chosen Bark or for Suno's; all of its weights only for transcripts."""
    from ..bark.configs import SUNO_HISTORIES, bark_generation_configs
    from ..bark.loading import DEFAULT_CODEC, check_encoder, load_bark, load_codec, load_configs
    from ..bark.text_informed import TextInformedDecoder

    with usage_errors("", arguments.bark):
        if arguments.bark is None:
            codec = load_codec(arguments.codec or DEFAULT_CODEC)
            return {"codec": codec.to(encoder.device), "histories": SUNO_HISTORIES}
        if arguments.transcribe:
            bark, processor = load_bark(arguments.bark)
            bark.to(encoder.device)
            configs, codec = bark_generation_configs(bark), bark.codec_model
            words = {"bark": TextInformedDecoder(bark, processor)}
        else:
            configs, codec, words = load_configs(arguments.bark), load_codec(arguments.bark).to(encoder.device), {}
        check_encoder(encoder.model, configs.semantic.semantic_vocab_size)
    return {"codec": codec, "histories": configs.history_lengths, **words}


__all__ = ["add_parser", "run"]
