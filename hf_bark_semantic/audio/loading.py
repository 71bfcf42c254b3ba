"""Waveforms: read them from anywhere, resample them, write them.

    load_audio          path, bytes, file, array, tensor or `datasets` row  ->  float32 `(num_samples,)`
    save_audio          the way back, to .wav or .flac
    list_audio_files    the files behind a list of files and folders

soundfile decodes and torchaudio resamples; neither ffmpeg nor torchcodec is needed. Whatever cannot be a recording of
a voice is refused here with an `AudioError`, so that no other module has to check.
"""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from ..files import atomic_write, foreign_content

if TYPE_CHECKING:
    import soundfile

MIN_DURATION_S = 0.1  # shorter than a syllable, and fewer than five semantic tokens
MAX_SAMPLES = 2**29  # 3.1 hours of 48 kHz mono and 2 GiB as float32; a damaged header claims more
MIN_SAMPLING_RATE = 1_000  # below it no vowel survives, so the number is not a rate of speech
MAX_SAMPLING_RATE = 768_000  # the highest rate that audio hardware has
MAX_CHANNELS = 64  # more rows than this are a batch, not a microphone array
SILENCE_PEAK = 1e-4  # -80 dBFS: three steps of a 16-bit file
MAX_PEAK = 16.0  # 24 dB over full scale: beyond it floats hold integer samples
MAX_RATIO_DENOMINATOR = 500  # every pair of common rates needs at most 441; bounds the size of the resampling kernel

AUDIO_EXTENSIONS = (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
SAVED_FORMATS = {".wav": ("WAV", "FLOAT"), ".flac": ("FLAC", "PCM_16")}
READABLE = "wav, flac, ogg, opus, mp3, aiff, au and caf"


class AudioError(ValueError):
    """The audio cannot be used; the message says which rule it breaks and what to do."""


class FileNote(Protocol):
    """What a sound file says of itself, such as `Provenance`."""

    def write_to(self, sound: "soundfile.SoundFile") -> None:
        """Write into a file that is open for writing and has no samples yet."""


def load_audio(source: Any, sampling_rate: int = 16_000, *, source_sampling_rate: int | None = None) -> np.ndarray:
    """Read a recording as one channel of float32 samples at the rate that is asked for.

    Args:
        source (`str`, `Path`, `bytes`, binary file, `np.ndarray`, `torch.Tensor`, list of floats or `dict`):
            a file in one of the formats of `READABLE`, its content, its samples, or a `datasets` audio value:
            `{"array", "sampling_rate"}`, `{"bytes"}`, `{"path"}` or a torchcodec decoder. Samples are
            `(num_samples,)`, `(channels, num_samples)` or `(num_samples, channels)`: the shorter axis is taken for
            the channels, which are averaged. Floats have full scale at 1.0; int8, int16, int32 and uint8 are scaled
            to it.
        sampling_rate (`int`): rate of the result in Hz; 16,000 is the encoder's and 24,000 Bark's.
        source_sampling_rate (`int`, *optional*): rate of an array or a tensor in Hz; a file states its own.

    Returns:
        `np.ndarray`: float32 of shape `(num_samples,)`, with `ceil(num_source_samples * ratio)` samples. The ratio of
        the two rates is rounded to a fraction below `MAX_RATIO_DENOMINATOR`, which is exact for common rates and
        within 4 parts per million for any.

    Raises:
        AudioError: the source is missing, unreadable, silent, shorter than 0.1 s, not finite or not audio.
        TypeError: the source is of a kind that cannot hold audio.
        ImportError: the rates differ and torchaudio cannot be imported.
    """
    _check_rate(sampling_rate, "sampling_rate")
    if isinstance(source, Mapping):
        source, source_sampling_rate = _unwrap_row(source, source_sampling_rate)
    elif hasattr(source, "get_all_samples"):  # torchcodec's AudioDecoder, which `datasets` 4 returns
        samples = source.get_all_samples()
        source, source_sampling_rate = samples.data, int(samples.sample_rate)

    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(source, "read"):
        if source_sampling_rate is not None:
            raise AudioError(
                f"source_sampling_rate={source_sampling_rate} was given for a file, which states its own rate. "
                "Leave it out; it is for arrays."
            )
        samples, source_sampling_rate = _decode(source)
    else:
        samples = _array_to_samples(source)
        if source_sampling_rate is None:
            raise AudioError(
                "An array does not say how fast it was sampled. Pass source_sampling_rate=, e.g. 44_100 "
                '(or a dict {"array": ..., "sampling_rate": ...}).'
            )
        _check_rate(source_sampling_rate, "source_sampling_rate")

    waveform = _mix_to_mono(samples)
    _check_waveform(waveform, source_sampling_rate)
    return resample(waveform, source_sampling_rate, sampling_rate)


def resample(waveform: np.ndarray, source_sampling_rate: int, sampling_rate: int) -> np.ndarray:
    """Change the sampling rate of a waveform (band-limited interpolation of torchaudio).

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`): float32 samples.
        source_sampling_rate (`int`): its rate in Hz.
        sampling_rate (`int`): the wanted rate in Hz.

    Returns:
        `np.ndarray`: float32 of shape `(ceil(num_samples * ratio),)`; the argument itself where the rates are equal.

    Raises:
        ImportError: torchaudio is missing or does not fit the installed torch.
    """
    if source_sampling_rate == sampling_rate:
        return waveform
    try:
        import torch
        from torchaudio.functional import resample as torchaudio_resample
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ImportError(
            f"Resampling from {source_sampling_rate} to {sampling_rate} Hz needs torchaudio, whose import failed: "
            f"{error}. torch and torchaudio must come from one release and one index: install both at once with "
            "`pip install --upgrade torch torchaudio`, or pass audio that is already at the wanted rate."
        ) from error
    higher, lower = max(source_sampling_rate, sampling_rate), min(source_sampling_rate, sampling_rate)
    ratio = Fraction(int(higher), int(lower)).limit_denominator(MAX_RATIO_DENOMINATOR)
    source_steps, steps = ratio.denominator, ratio.numerator
    if source_sampling_rate > sampling_rate:
        source_steps, steps = steps, source_steps
    return torchaudio_resample(torch.tensor(waveform), source_steps, steps).numpy()


def is_silent(waveform: np.ndarray) -> bool:
    """Whether a waveform, `(num_samples,)`, holds no sound: its peak lies below -80 dB of full scale."""
    return float(np.abs(waveform).max(initial=0.0)) < SILENCE_PEAK


def save_audio(
    path: str | os.PathLike, waveform: Any, sampling_rate: int, *, provenance: FileNote | None = None
) -> Path:
    """Write a waveform as .wav (32-bit float, so nothing is clipped) or .flac (16 bit).

    The file appears complete or not at all: it is written beside its place and moved there.

    Args:
        path (`str` or `Path`): where to; the extension chooses the format, the folder must exist.
        waveform (`np.ndarray` or `torch.Tensor` of shape `(num_samples,)`): floats with full scale at 1.0.
        sampling_rate (`int`): rate in Hz; 24,000 for what Bark speaks.
        provenance (`Provenance`, *optional*): what the file shall say of its making; nothing by default.

    Returns:
        `Path`: the file.

    Raises:
        AudioError: unknown extension, missing folder, no samples, or samples that are not finite or that .flac would
            clip.
    """
    import soundfile

    path = Path(path)
    extension = path.suffix.lower()
    if extension not in SAVED_FORMATS:
        raise AudioError(f"Cannot write {path.name!r}: the extension must be one of {', '.join(SAVED_FORMATS)}.")
    _check_rate(sampling_rate, "sampling_rate")
    samples = _array_to_samples(waveform)
    if samples.ndim != 1 or samples.size == 0:
        raise AudioError(f"A waveform to save has shape (num_samples,) and at least one sample, not {samples.shape}.")
    if not np.isfinite(samples).all():
        raise AudioError(f"Cannot write {path.name!r}: the waveform holds NaN or infinite samples.")
    peak = float(np.abs(samples).max())
    if extension == ".flac" and peak > 1.0:
        raise AudioError(
            f"The waveform peaks at {peak:.3f} and 16-bit FLAC clips above 1.0. Divide it by {peak:.3f}, or save "
            "a .wav."
        )
    container, subtype = SAVED_FORMATS[extension]
    with atomic_write(path, error_class=AudioError) as file:
        options = {"channels": 1, "format": container, "subtype": subtype}
        with soundfile.SoundFile(file, "w", int(sampling_rate), **options) as sound:
            if provenance is not None:
                provenance.write_to(sound)
            sound.write(samples)
    return path


def list_audio_files(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """Find the recordings behind files and folders.

    Args:
        paths (`str`, `Path` or an iterable of them): a file stands for itself whatever its name; a folder for every
            file below it with one of `AUDIO_EXTENSIONS`, hidden ones left out, sorted by path.

    Returns:
        `list[Path]`: each file once, in the order of the arguments.

    Raises:
        AudioError: a path does not exist, or there is no audio file at all.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = (file for file in path.rglob("*") if file.suffix.lower() in AUDIO_EXTENSIONS and file.is_file())
            files.update(dict.fromkeys(sorted(file for file in found if not _is_hidden(file.relative_to(path)))))
        elif path.exists():
            files[path] = None
        else:
            raise AudioError(f"No such file or folder: {str(path)!r}. Check the spelling and the working directory.")
    if not files:
        searched = ", ".join(str(path) for path in paths) or "an empty list"
        raise AudioError(f"No audio file in {searched}: looked for {', '.join(AUDIO_EXTENSIONS)}.")
    return list(files)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _unwrap_row(row: Mapping, source_sampling_rate: int | None) -> tuple[Any, int | None]:
    """`datasets` keeps audio as samples, as the content of a file, or as a path."""
    for key in ("array", "raw"):
        if row.get(key) is not None:
            rate = row.get("sampling_rate", source_sampling_rate)
            if rate is None:
                raise AudioError(f"The dict has {key!r} but no 'sampling_rate'. Add the rate in Hz, e.g. 44_100.")
            return row[key], rate
    for key in ("bytes", "path"):
        if row.get(key) is not None:
            return row[key], None
    raise AudioError(
        "A dict of audio needs 'array' and 'sampling_rate', or 'bytes', or 'path'; this one has "
        f"{sorted(map(str, row))}."
    )


def _decode(source: Any) -> tuple[np.ndarray, int]:
    """Decode a file to `(num_samples, channels)` and its rate."""
    with open_sound(source) as (name, sound):
        num_samples, channels, rate = sound.frames, sound.channels, sound.samplerate
        is_mp3 = sound.format == "MP3"  # the length of an mp3 is an estimate
        _check_rate(rate, f"the rate of {name}")
        if num_samples * channels > MAX_SAMPLES:
            raise AudioError(
                f"{name} claims {num_samples:,} samples x {channels} channels; at most {MAX_SAMPLES:,} are "
                "read at once. If it is not damaged, split it into shorter files."
            )
        samples = sound.read(dtype="float32", always_2d=True)  # (num_samples, channels)
    if len(samples) < num_samples and not is_mp3:
        raise AudioError(
            f"{name} announces {num_samples:,} samples but holds only {len(samples):,}: it is cut off. "
            "Copy or download it again."
        )
    return samples, rate


@contextmanager
def open_sound(source: Any) -> Iterator[tuple[str, "soundfile.SoundFile"]]:
    """Open a path, bytes or a binary file with soundfile, and give its name for messages and the `SoundFile`.

    Raises:
        AudioError: the file is missing, no audio, or fails to be decoded, within the `with`, too.
        ImportError: soundfile cannot be imported.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise ImportError(
            f"Reading audio files needs soundfile, whose import failed: {error}. Run `pip install soundfile`."
        ) from error

    name, file, head = _open(source)
    with file:
        reason = foreign_content(head) or _unsupported_container(head) or _cut_off_wav(head, file)
        if reason is not None:
            raise AudioError(f"Cannot read {name} as audio: {reason}.")
        try:
            with soundfile.SoundFile(file) as sound:
                yield name, sound
        except (soundfile.LibsndfileError, RuntimeError, EOFError, TypeError) as error:
            cause = getattr(error, "error_string", str(error)).rstrip(".")  # without the file object's name
            raise AudioError(
                f"Cannot decode {name}: {cause}. It is damaged or in a format that is not supported "
                f"({READABLE} are). "
                "Convert it with `ffmpeg -i INPUT -ar 24000 output.wav`."
            ) from error


def _open(source: Any) -> tuple[str, BinaryIO, bytes]:
    """Give the name for messages, the opened file, and its first bytes."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if "\0" in str(path):
            raise AudioError(f"The path {str(path)!r} holds a zero byte. Pass the audio's bytes, or a clean path.")
        if path.is_dir():
            raise AudioError(f"{str(path)!r} is a folder. Name a file in it; `list_audio_files` finds them.")
        if not path.exists():
            raise AudioError(f"No such file: {str(path)!r}. Check the spelling and the working directory.")
        if not path.is_file():
            raise AudioError(f"{str(path)!r} is a device or a pipe, not a file. Save the recording to a file first.")
        try:
            file: BinaryIO = open(path, "rb")  # noqa: SIM115 (the caller closes it)
        except OSError as error:
            raise AudioError(f"Cannot open {str(path)!r}: {error.strerror}. Check the file's permissions.") from error
        name = repr(path.name)
    else:
        content = source.read() if hasattr(source, "read") else bytes(source)
        if not isinstance(content, bytes):
            raise TypeError(f"The file gives {type(content).__name__}, not bytes. Open it with mode 'rb'.")
        name, file = f"the {len(content):,} bytes given", io.BytesIO(content)
    head = file.read(512)
    file.seek(0)
    return name, file, head


def _unsupported_container(head: bytes) -> str | None:
    """Formats that people bring and libsndfile lacks: the signature says which."""
    if head[4:8] == b"ftyp":
        container = "m4a or mp4 (AAC)"
    elif head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0:
        container = "AAC"
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        container = "webm or mkv"
    elif head[:4] == b"\x30\x26\xb2\x75":
        container = "wma"
    elif head[:5] == b"#!AMR":
        container = "amr"
    elif head[:4] == b"PK\x03\x04":
        return "it is a zip archive. Unpack it and name a file in it"
    else:
        return None
    return f"{container} is not supported ({READABLE} are). Convert it: `ffmpeg -i INPUT -ar 24000 output.wav`"


def _cut_off_wav(head: bytes, file: BinaryIO) -> str | None:
    """libsndfile reads what is left of a wav without a word, so its announced size is compared here."""
    announced = 8 + int.from_bytes(head[4:8], "little")
    if head[:4] != b"RIFF" or announced > 2**31:  # programs that stream announce 2 or 4 GiB
        return None
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if announced <= size + 8:  # some writers count the header or padding wrongly
        return None
    return f"it announces {announced:,} bytes but holds only {size:,}: it is cut off. Copy or download it again"


def _array_to_samples(source: Any) -> np.ndarray:
    """An array, tensor or list as floating samples with full scale at 1.0, in its own shape."""
    if hasattr(source, "detach"):  # a torch tensor, without importing torch
        tensor = source.detach().cpu()
        source = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    elif isinstance(source, list | tuple):
        try:
            source = np.asarray(source)
        except ValueError as error:
            raise AudioError("The list is no array: its rows differ in length. Pass one waveform.") from error
    if not isinstance(source, np.ndarray):
        raise TypeError(
            f"Cannot read audio from {type(source).__name__}. Pass a path, bytes, a binary file, an array, a tensor, "
            "or a dict with 'array' and 'sampling_rate'."
        )
    if source.dtype.kind == "f":
        with np.errstate(over="ignore"):  # an overflow becomes inf, which is refused
            return source.astype(np.float32)
    if source.dtype == np.uint8:
        return (source.astype(np.float32) - 128) / 128
    if source.dtype.kind == "i" and source.dtype.itemsize <= 4:
        return (source / float(2 ** (8 * source.dtype.itemsize - 1))).astype(np.float32)
    raise AudioError(
        f"Samples of dtype {source.dtype} have no defined scale; float, int8, int16, int32 and uint8 have. "
        "Convert them, e.g. (samples / 32768).astype('float32') for 16-bit values."
    )


def _mix_to_mono(samples: np.ndarray) -> np.ndarray:
    """`(num_samples,)`, `(channels, num_samples)` or `(num_samples, channels)` to `(num_samples,)`."""
    if samples.ndim == 1:
        return samples
    if samples.ndim != 2:
        raise AudioError(
            f"Audio of shape {samples.shape} has {samples.ndim} axes; one recording has one (samples) or two (samples "
            "and channels). Pass a batch one waveform at a time."
        )
    channels = min(samples.shape)
    if samples.size and samples.shape[0] == samples.shape[1]:
        raise AudioError(f"Shape {samples.shape} does not tell channels from samples. Average the channels first.")
    if channels > MAX_CHANNELS:
        raise AudioError(
            f"Shape {samples.shape} would mean {channels} channels, and at most {MAX_CHANNELS} are mixed. "
            "If it is a batch, pass one waveform at a time."
        )
    if samples.size == 0:
        return np.zeros(0, np.float32)
    return samples.mean(axis=int(np.argmin(samples.shape)), dtype=np.float32)


def _check_waveform(waveform: np.ndarray, sampling_rate: int) -> None:
    """Refuse what cannot be a recording of a voice."""
    if waveform.size == 0:
        raise AudioError("The audio has zero samples. Record or export it again.")
    if not np.isfinite(waveform).all():
        count = int((~np.isfinite(waveform)).sum())
        raise AudioError(
            f"{count:,} of {waveform.size:,} samples are NaN or infinite. Find the step that made them; "
            "np.nan_to_num hides them, at the price of clicks."
        )
    duration = waveform.size / sampling_rate
    if duration < MIN_DURATION_S:
        raise AudioError(
            f"The audio lasts {duration:.4f} s ({waveform.size} samples at {sampling_rate} Hz); at least "
            f"{MIN_DURATION_S} s is needed to hold a sound of speech. Check the rate, or use a longer recording."
        )
    peak = float(np.abs(waveform).max())
    if is_silent(waveform):
        raise AudioError(
            f"The audio is silent: its peak is {peak:.1e} of full scale, below {SILENCE_PEAK:.0e} (-80 dB). "
            "Check the recording level, and whether its channels cancel each other."
        )
    if peak > MAX_PEAK:
        raise AudioError(
            f"The samples reach {peak:,.0f} where full scale is 1.0, so they look like integers stored as floats. "
            "Divide them by 32768 (16 bit) or 2**31 (32 bit)."
        )


def _check_rate(rate: Any, name: str) -> None:
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.integer | np.floating) or rate != rate // 1:
        raise AudioError(f"{name} must be a whole number of Hz, e.g. 16_000, not {rate!r}.")
    if not MIN_SAMPLING_RATE <= rate <= MAX_SAMPLING_RATE:
        raise AudioError(
            f"{name} is {rate:,} Hz; audio has between {MIN_SAMPLING_RATE:,} and {MAX_SAMPLING_RATE:,}. "
            "Check the unit (Hz, not kHz) and the order of the arguments."
        )


__all__ = [
    "AUDIO_EXTENSIONS",
    "AudioError",
    "is_silent",
    "list_audio_files",
    "load_audio",
    "resample",
    "save_audio",
]
