"""`bark-semantic`: the library on the command line.

    encode     recordings, voice prompts and code files -> semantic tokens
    clone      recordings of a speaker -> a voice prompt for Bark (.npz)
    speak      a text, or a recording, and a voice -> speech
    demo       encodes, clones and speaks with what the package carries
    app        clones, speaks and converts on a page in the browser
    convert    an encoder in a foreign format -> a folder for from_pretrained
    doctor     what is installed, and what is wrong with it

Results go to stdout, everything else to stderr. Exit codes: 0 all is well, 1 some files failed or something is broken,
2 wrong usage, nothing to do or a model that cannot be loaded, 130 interrupted.
"""

import argparse
import json
import os
import shlex
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from ..audio import SAVED_FORMATS, AudioError, list_audio_files, load_audio, save_audio
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE, SAMPLING_RATE
from ..environment import inspect_environment, installed_version
from ..files import atomic_write
from ..packaged import BUILTIN_ENCODER, NANO, default_encoder, encoder_for, example_recording, nano_recording
from ..pipelines.encoding import TASK
from ..voices.provenance import Provenance

OK, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
BUILTIN = "builtin"
DTYPES = ("auto", "float32", "bfloat16", "float16")
CODE_EXTENSIONS = (".npy", ".npz")
MAX_GROUP_S = 600  # of audio that is in memory at once: 38 MB
GROUP_SIZE = 32  # enough recordings to sort by length, few enough to lose little at Ctrl-C
MAX_NAME_BYTES = 200  # file systems stop at 255, and an unfinished file has a longer name
SHOWN_TOKENS = 10
DEMO_TEXT = "The train to the airport leaves at seven. The young queen walks to the castle."  # new to nano

# what a file or a model can be guilty of
_FAILURES = (ValueError, TypeError, OSError, RuntimeError, ImportError, EOFError, MemoryError)
_FAILURES += (SafetensorError, zipfile.BadZipFile, zlib.error)


class UsageError(Exception):
    """What was asked for cannot be done at all."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a file name may hold what the terminal's encoding lacks
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return arguments.command(arguments)
    except UsageError as error:
        _say(f"bark-semantic: {error}")
        return UNUSABLE
    except KeyboardInterrupt:
        _say("bark-semantic: interrupted; what was finished is kept")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bark-semantic", description="Audio to the semantic tokens of Suno's Bark.")
    release = installed_version("hf-bark-semantic") or "not installed"
    parser.add_argument("--version", action="version", version=f"bark-semantic {release}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    encode = commands.add_parser("encode", help="recordings to semantic tokens")
    encode.add_argument(
        "files", nargs="*", metavar="FILE", help="recordings, folders of them, .npz prompts, .npy codes"
    )
    encode.add_argument("--example", action="store_true", help="encode the recording that the package carries")
    _add_encoder_arguments(encode)
    encode.add_argument("--output", type=Path, metavar="DIR", help="write one .npz per file into this folder")
    encode.add_argument("--top-k", type=_positive, metavar="K", help="also give the K most probable tokens")
    encode.add_argument("--json", action="store_true", help="one JSON object per file and line on stdout")
    encode.add_argument("--text", metavar="TEXT", help="what is said in the one FILE; needs --bark")
    encode.add_argument("--bark", metavar="ID", help="with --text, Bark that expects it: Hub id, folder or nano")
    encode.add_argument("--batch-size", type=_positive, metavar="N", help="computed at once (default: as fits)")
    encode.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="progress bar (default: on a terminal)"
    )
    encode.set_defaults(command=run_encode)

    clone = commands.add_parser("clone", help="recordings of a speaker to a voice prompt for Bark")
    clone.add_argument("files", nargs="+", metavar="FILE", help="recordings of one speaker; the last one weighs most")
    clone.add_argument("--output", type=Path, required=True, metavar="VOICE.npz", help="the voice prompt to write")
    codec = clone.add_mutually_exclusive_group()
    codec.add_argument("--codec", metavar="ID", help="EnCodec: Hub id or folder (default: facebook/encodec_24khz)")
    codec.add_argument("--bark", metavar="ID", help="clone for this Bark, with its codec: Hub id, folder or nano")
    _add_encoder_arguments(clone)
    clone.set_defaults(command=run_clone)
    _add_speak_parser(commands)
    _add_app_parser(commands)

    demo = commands.add_parser("demo", help="encode, clone and speak with what the package carries; no network")
    demo.add_argument(
        "--output", type=Path, default=Path("bark-semantic-demo"), metavar="DIR",
        help="folder for the results (default: bark-semantic-demo)",
    )  # fmt: skip
    demo.set_defaults(command=run_demo)

    convert = commands.add_parser("convert", help="an encoder in a foreign format to a folder for from_pretrained")
    convert.add_argument("path", type=Path, metavar="PATH", help="the file to convert, such as a quantizer's .pth")
    convert.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to write")
    convert.add_argument("--backbone", metavar="ID", help="speech model that the file belongs to: Hub id or folder")
    convert.add_argument("--layer", type=int, metavar="N", help="its layer that the file reads")
    convert.add_argument("--overwrite", action="store_true", help="replace the folder's files")
    convert.set_defaults(command=run_convert)

    doctor = commands.add_parser("doctor", help="what is installed, and what is wrong with it")
    doctor.add_argument("--json", action="store_true", help="one JSON object on stdout")
    doctor.add_argument("--online", action="store_true", help="also ask the Hub whether it answers")
    doctor.set_defaults(command=run_doctor)
    return parser


def _add_speak_parser(commands) -> None:
    speak = commands.add_parser("speak", help="a text, or a recording, spoken in a voice")
    speak.add_argument("text", nargs="?", metavar="TEXT", help="what to say, of any length; - reads it from stdin")
    speak.add_argument("--file", type=Path, metavar="PATH", help="say the text of this file (UTF-8)")
    speak.add_argument("--convert", metavar="FILE", help="say what this recording says")
    speak.add_argument(
        "--voice", action="append", metavar="VOICE",
        help="a voice prompt (.npz), a preset of the Bark or a recording; several recordings: --voice A --voice B",
    )  # fmt: skip
    speak.add_argument("--output", type=Path, required=True, metavar="FILE.wav", help="where to write the speech")
    speak.add_argument("--bark", default=NANO, metavar="ID", help="Bark: Hub id or folder (default: nano, packaged)")
    _add_encoder_arguments(speak)
    speak.add_argument(
        "--prompt-mode", choices=("full", "acoustic", "semantic", "none"),
        help="the stages of Bark that hear the voice: all (default), coarse and fine, text, or no one",
    )  # fmt: skip
    speak.add_argument("--adapter", metavar="ID", help="speak with this fine-tuned adapter: Hub id or folder")
    speak.add_argument("--reference-text", metavar="TEXT", help="what the recording says; for --prompt-mode acoustic")
    speak.add_argument("--seed", type=_not_negative, metavar="N", help="another seed, another take (default: 0)")
    speak.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="of the text and the coarse stage (default: the Bark's, Suno's 0.7); 0 for none",
    )
    speak.add_argument(
        "--guidance-scale", type=float, metavar="S",
        help="above 1: the words count for more, and speaking takes longer (default: what the Bark's config says)",
    )  # fmt: skip
    speak.add_argument(
        "--voice-guidance-scale", type=float, metavar="S", help="above 1: the voice prompt counts for more, likewise"
    )
    speak.add_argument(
        "--long-form", choices=("fixed", "rolling"),
        help="prompt each piece of a long text with the voice (default), or with the end of the piece before",
    )  # fmt: skip
    speak.add_argument("--batch-size", type=_positive, metavar="N", help="pieces computed at once (default: 8)")
    speak.add_argument(
        "--provenance", action=argparse.BooleanOptionalAction, default=True,
        help="say in the file's comment that it is synthetic, by which model and when (default: yes)",
    )  # fmt: skip
    speak.set_defaults(command=run_speak)


def _add_app_parser(commands) -> None:
    app = commands.add_parser("app", help="a page on this machine: clone, speak, convert (needs the extra app)")
    app.add_argument("--bark", default=NANO, metavar="ID", help="Bark: Hub id or folder (default: nano, packaged)")
    app.add_argument(
        "--adapter", action="append", type=_named_place, default=[], metavar="NAME=ID",
        help="offer this fine-tuned adapter, a Hub id or folder, under a name; may be repeated",
    )  # fmt: skip
    app.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    app.add_argument("--port", type=_port, default=7860, help="(default: 7860)")
    _add_encoder_arguments(app)
    app.set_defaults(command=run_app)


def _add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder", default=BUILTIN, metavar="ID", help="encoder: Hub id or folder (default: the packaged one)"
    )
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps, ... (default: the fastest)")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="numbers to compute in (default: as saved)")


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65_535:
        raise argparse.ArgumentTypeError(f"{value} is no port; ports are 1 to 65535")
    return value


def _named_place(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FOLDER")
    return name, place


# ---- encode


def run_encode(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    if not arguments.files and not arguments.example:
        raise UsageError("name recordings to encode, or try --example")
    paths = [*arguments.files, *([str(example_recording())] if arguments.example else [])]
    files, failures = _input_files(paths)
    if not files and not failures:
        raise UsageError("there is no audio file in " + ", ".join(paths))
    with_text = arguments.text is not None
    if with_text != (arguments.bark is not None) or (with_text and len(files) + len(failures) != 1):
        raise UsageError(
            "--text and --bark go together, and with one FILE: what is said in it, and Bark's id or folder"
        )
    if arguments.output is not None:
        _make_folder(arguments.output)
    targets = _output_paths(files, arguments.output)
    encoder = _load_encoder(arguments)
    if arguments.top_k is not None and arguments.top_k > encoder.model.config.vocab_size:
        raise UsageError(
            f"--top-k {arguments.top_k} is more than the {encoder.model.config.vocab_size} tokens there are"
        )
    num_failed = len(failures)
    for record in failures:
        _print_record(record, arguments.json)
    disable = None if arguments.progress is None else not arguments.progress
    with tqdm(total=len(files), unit="file", file=sys.stderr, disable=disable) as progress:
        if with_text:
            records = [_encode_with_text(file, encoder, arguments) for file in files]
        else:
            records = _encode_files(files, encoder, top_k=arguments.top_k, batch_size=arguments.batch_size)
        for record in records:
            target = targets.get(record["file"])
            if target is not None and "error" not in record:
                record = _save_record(record, target)
            num_failed += "error" in record
            with tqdm.external_write_mode(file=sys.stdout):
                _print_record(record, arguments.json)
            progress.update()
    accuracy = _accuracy_line(encoder.model.config.name_or_path)
    if accuracy is not None:
        _say(accuracy)
    return FAILED if num_failed else OK


def _input_files(paths: list[str]) -> tuple[list[Path], list[dict]]:
    """The files behind files and folders, each once, and a record of every path that isn't there."""
    files, failures = {}, []
    for path in paths:
        if os.path.isdir(path):
            try:
                files.update(dict.fromkeys(list_audio_files(path)))
            except AudioError as error:
                _say(f"bark-semantic: {error}")
        elif os.path.exists(path):
            files[Path(path)] = None
        else:
            failures.append(
                {"file": path, "error": "No such file or folder. Check the spelling and the folder you are in."}
            )
    return list(files), failures


def _encode_files(files: list[Path], encoder, *, top_k: int | None, batch_size: int) -> Iterator[dict[str, Any]]:
    """Give one record per file, in order; the audio of at most one group is in memory."""
    group, seconds = [], 0.0  # [(file, model inputs or the error)]
    for file in files:
        try:
            inputs = encoder.preprocess(_source(file))
            seconds += 0 if inputs["audio"] is None else len(inputs["audio"]) / SAMPLING_RATE
        except _FAILURES as error:
            inputs = error
        group.append((file, inputs))
        if seconds >= MAX_GROUP_S or len(group) >= GROUP_SIZE:
            yield from _encode_group(group, encoder, top_k=top_k, batch_size=batch_size)
            group, seconds = [], 0.0
    yield from _encode_group(group, encoder, top_k=top_k, batch_size=batch_size)


def _encode_with_text(file: Path, encoder, arguments: argparse.Namespace) -> dict[str, Any]:
    """The record of a file whose text is known."""
    from ..bark.loading import load_bark

    try:
        bark, processor = load_bark(arguments.bark)
    except _FAILURES as error:
        raise UsageError(_message(error)) from error
    options = {
        "batch_size": arguments.batch_size,
        "text": arguments.text,
        "bark": (bark.to(encoder.device), processor),
    }
    try:
        return _record(file, encoder(_source(file), top_k=arguments.top_k, **options))
    except _FAILURES as error:
        return _record(file, error)


def _encode_group(group: list[tuple[Path, Any]], encoder, *, top_k, batch_size) -> list[dict[str, Any]]:
    """Encode what could be read, recordings of like length together; where that fails, one by one."""
    params = {name: value for name, value in (("batch_size", batch_size), ("top_k", top_k)) if value is not None}
    readable = [i for i, (_, inputs) in enumerate(group) if not isinstance(inputs, Exception)]
    columns = {name: [group[i][1][name] for i in readable] for name in ("audio", "audio_codes")}
    results: list[Any] = [inputs for _, inputs in group]
    try:
        encoded = encoder.forward(columns, **params)["results"]
    except _FAILURES:
        encoded = []
        for i in readable:
            try:
                encoded.append(encoder.postprocess(encoder.forward(group[i][1], **params)))
            except _FAILURES as error:
                encoded.append(error)
    for i, result in zip(readable, encoded, strict=True):
        results[i] = result
    return [_record(file, result) for (file, _), result in zip(group, results, strict=True)]


def _source(file: Path) -> Any:
    """What the pipeline shall read: voice prompts and codes by their arrays, anything else as audio."""
    if file.suffix.lower() not in CODE_EXTENSIONS:
        return file
    with open(file, "rb") as opened:
        is_array = opened.read(6) == b"\x93NUMPY"
    if is_array:
        return {"audio_codes": np.load(file, allow_pickle=False)}
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            has_codes = "audio_codes.npy" in archive.namelist()
        if has_codes:
            with np.load(file, allow_pickle=False) as arrays:
                return {"audio_codes": arrays["audio_codes"]}
    return file


def _record(file: Path, result: dict | Exception) -> dict[str, Any]:
    if isinstance(result, Exception):
        return {"file": str(file), "error": _message(result)}
    return {"file": str(file), **result}


def _save_record(record: dict, target: Path) -> dict:
    """Write the arrays of a record to `target` and name it in the record."""
    arrays = {name: value for name, value in record.items() if isinstance(value, np.ndarray)}
    try:
        with atomic_write(target, error_class=AudioError) as opened:
            np.savez(opened, **arrays)
    except (OSError, ValueError) as error:
        return {"file": record["file"], "error": _message(error)}
    return {**record, "output": str(target)}


def _print_record(record: dict, as_json: bool) -> None:
    if as_json:
        record = {name: _plain(value) for name, value in record.items()}
        print(json.dumps(record), flush=True)
    elif "error" in record:
        _say(f"{record['file']}: {record['error']}")
    else:
        tokens, confidence = record["semantic_tokens"], record["confidence"]
        shown = " ".join(map(str, tokens[:SHOWN_TOKENS])) + (" ..." if len(tokens) > SHOWN_TOKENS else "")
        mean = f"{confidence.mean():.0%}" if len(confidence) else "-"
        print(
            f"{record['file']}: {record['num_tokens']} tokens, {record['seconds']:.2f} s, confidence {mean}: {shown}"
        )
        sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind in "iu" else np.round(value.astype(np.float64), 4).tolist()
    return round(value, 4) if isinstance(value, float) else value


def _output_paths(files: list[Path], folder: Path | None) -> dict[str, Path]:
    """A place in `folder` for every file: its name, numbered where two would share it or an input lies there."""
    if folder is None:
        return {}
    inputs = {os.path.normcase(os.path.realpath(file)) for file in files}
    taken, targets = set(), {}
    for file in files:
        stem = file.stem.encode("utf-8", "surrogateescape")[:MAX_NAME_BYTES].decode("utf-8", "ignore") or "audio"
        number, name = 1, f"{stem}.npz"
        while name.casefold() in taken or os.path.normcase(os.path.realpath(folder / name)) in inputs:
            number += 1
            name = f"{stem}-{number}.npz"
        taken.add(name.casefold())
        targets[str(file)] = folder / name
    return targets


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {str(folder)!r}: {error.strerror}") from error


def _accuracy_line(folder: str) -> str | None:
    """The one line of the encoder's evaluation.json that says how often it is right."""
    try:
        with open(os.path.join(folder, "evaluation.json"), encoding="utf-8") as file:
            line = json.load(file).get("accuracy_line")
    except (OSError, ValueError, AttributeError):  # an encoder without one, or with another file of that name
        return None
    return line if isinstance(line, str) else None


# ---- clone, speak, demo


def run_clone(arguments: argparse.Namespace) -> int:
    from ..bark.loading import DEFAULT_CODEC, check_encoder, load_codec, load_configs
    from ..bark.voice_prompt import SUNO
    from ..voices.cloning import clone_voice

    if arguments.output.suffix.lower() != ".npz":
        raise UsageError(f"--output {str(arguments.output)!r} must end in .npz, as Bark reads it")
    files, failures = _input_files(arguments.files)
    for record in failures:
        _print_record(record, as_json=False)
    if failures or not files:
        raise UsageError("not every recording is there")
    encoder = _load_encoder(arguments)
    histories = SUNO
    try:
        if arguments.bark is not None:
            configs = load_configs(arguments.bark)
            check_encoder(encoder.model, configs.semantic.semantic_vocab_size)
            histories = configs.history_lengths
        codec = load_codec(arguments.bark or arguments.codec or DEFAULT_CODEC).to(encoder.device)
    except _FAILURES as error:
        raise UsageError(_message(error)) from error
    try:
        voice = clone_voice(files, encoder, codec=codec, histories=histories)
        _make_folder(arguments.output.parent)
        voice.prompt.save(arguments.output)
    except _FAILURES as error:
        _say(f"bark-semantic: {_message(error)}")
        return FAILED
    for file, window, report in zip(files, voice.windows, voice.reports, strict=True):
        print(f"{file}: {window.start_s:.2f} s to {window.end_s:.2f} s")
        if len(files) > 1:
            for warning in report.sound.warnings():
                print(f"  ! {warning}")
    print(voice.report)
    print(f"  the encoder's mean confidence is {voice.confidence:.0%}")
    print(arguments.output)
    return OK


def run_speak(arguments: argparse.Namespace) -> int:
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
    temperatures = {"semantic_temperature": arguments.temperature, "coarse_temperature": arguments.temperature}
    names = ("prompt_mode", "reference_text", "guidance_scale", "voice_guidance_scale", "seed", "long_form")
    options = {name: getattr(arguments, name) for name in names}
    options = {**options, **temperatures, "batch_size": arguments.batch_size}
    options = {name: value for name, value in options.items() if value is not None}
    try:
        speech = speak(voices[0] if len(voices) == 1 else voices, text, convert=arguments.convert, **options)
        _make_folder(arguments.output.parent)
        provenance = None
        if arguments.provenance:
            provenance = Provenance.of_speech(speak.bark, speech["voice_prompt"], adapter=speak.adapter_name)
        save_audio(arguments.output, speech["audio"], speech["sampling_rate"], provenance=provenance)
    except _FAILURES as error:
        _say(f"bark-semantic: {_message(error)}")
        return FAILED
    print(f"{len(speech['audio']) / speech['sampling_rate']:.2f} s of speech")
    print(arguments.output)
    return OK


def _text(arguments: argparse.Namespace) -> str | None:
    try:
        if arguments.file is not None:
            return arguments.file.read_text(encoding="utf-8-sig")
        return sys.stdin.read() if arguments.text == "-" else arguments.text
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the text: {_message(error)}") from error


def run_demo(arguments: argparse.Namespace) -> int:
    """Type the commands that a newcomer would."""
    from ..bark.loading import load_bark_processor

    folder = arguments.output
    try:
        reference, presets = nano_recording(), load_bark_processor(NANO).available_voice_presets
    except _FAILURES as error:
        raise UsageError(_message(error)) from error
    _make_folder(folder)
    voice, copy = str(folder / "voice.npz"), str(folder / "reference.wav")
    save_audio(copy, load_audio(reference, CODEC_SAMPLING_RATE), CODEC_SAMPLING_RATE)
    steps = [
        ("Bark's tokens of a real recording, by the encoder for Suno's Bark:", ["encode", "--example"]),
        (
            "A voice prompt for nano, of a voice that it has never heard:",
            ["clone", copy, "--bark", NANO, "--output", voice],
        ),
        ("nano speaks in that voice:", ["speak", DEMO_TEXT, "--voice", voice, "--output", str(folder / "clone.wav")]),
    ]
    if presets:
        preset = ["speak", DEMO_TEXT, "--voice", presets[0], "--output", str(folder / "preset.wav")]
        steps.append(("The same words in a voice that nano brings along:", preset))
    for number, (explanation, command) in enumerate(steps, 1):
        print(f"\n{number}. {explanation}\n$ {shlex.join(['bark-semantic', *command])}", flush=True)
        if code := main(command):
            return code
    print(
        f"\nListen to {folder}: reference.wav is the recording, clone.wav nano in its voice. nano is a miniature that "
        "knows some 500 words.\nWith a network, Suno's Bark speaks any text in the voice of your own recording:\n"
        '$ bark-semantic speak "Hello, my dog is cute." --voice MINE.wav --bark suno/bark-small --output hello.wav'
    )
    return OK


# ---- app


def run_app(arguments: argparse.Namespace) -> int:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported
    try:
        from ..app.page import serve
    except ImportError as error:
        raise UsageError(str(error)) from error
    from ..app.studio import Studio

    studio = Studio(
        arguments.bark,
        encoder=None if arguments.encoder == BUILTIN else arguments.encoder,
        adapters=dict(arguments.adapter),
        device=arguments.device,
        dtype=arguments.dtype,
    )
    try:
        serve(studio, host=arguments.host, port=arguments.port)
    except (*_FAILURES, KeyError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise UsageError(_message(error)) from error
    return OK


# ---- convert, doctor


def run_convert(arguments: argparse.Namespace) -> int:
    from ..conversion.formats import convert

    options = {"backbone": arguments.backbone, "layer": arguments.layer}
    options = {name: value for name, value in options.items() if value is not None}
    try:
        convert(arguments.path, arguments.output, overwrite=arguments.overwrite, **options)
    except _FAILURES as error:
        raise UsageError(_message(error)) from error
    print(arguments.output)
    return OK


def run_doctor(arguments: argparse.Namespace) -> int:
    environment = inspect_environment(BUILTIN_ENCODER, online=arguments.online)
    if arguments.json:
        print(json.dumps({**vars(environment), "healthy": not environment.problems}))
        return FAILED if environment.problems else OK
    hub = {None: "not asked (--online asks)", True: "answers", False: "does not answer"}[environment.hub_reachable]
    rows = [*environment.versions.items(), *environment.devices.items()]
    rows += [("built-in encoder", environment.builtin_encoder)]
    rows += [("Hub", "offline (HF_HUB_OFFLINE is set)" if environment.offline else hub)]
    rows += [("cached models", environment.cached_models or "none")]
    for name, value in rows:
        value = ", ".join(value) if isinstance(value, list) else value
        print(f"{name:20} {'-' if value is None else value}")
    for note in environment.notes:
        print(f"note: {note}")
    for problem in environment.problems:
        print(f"BROKEN: {problem}")
    print("something is broken" if environment.problems else "all is well")
    return FAILED if environment.problems else OK


def _load_encoder(arguments: argparse.Namespace):
    """The pipeline of the encoder that was asked for."""
    return _load_pipeline(arguments, TASK, f"cannot load the encoder {arguments.encoder!r}")


def _load_speaker(arguments: argparse.Namespace):
    """The pipeline of the Bark that was asked for."""
    from ..pipelines.cloning import VOICE_CLONING_TASK

    what = f"cannot load the Bark {arguments.bark!r} and the encoder {arguments.encoder!r}"
    options = {} if arguments.adapter is None else {"adapter": arguments.adapter}
    return _load_pipeline(arguments, VOICE_CLONING_TASK, what, bark=arguments.bark, **options)


def _load_pipeline(arguments: argparse.Namespace, task: str, failure: str, **options):
    from transformers import pipeline
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    if arguments.device is not None:
        options["device"] = arguments.device
    bark = getattr(arguments, "bark", None)
    try:
        name = arguments.encoder
        if name == BUILTIN:
            name = default_encoder() if bark is None else encoder_for(bark)
        return pipeline(task, model=str(name), dtype=arguments.dtype, **options)
    except (*_FAILURES, KeyError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise UsageError(f"{failure}: {_message(error)}") from error


def _message(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    sys.exit(main())
