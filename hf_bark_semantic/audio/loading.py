"""Read waveforms from any source, resample and write them.

    load_audio          path, bytes, file, array, tensor or `datasets` row  ->  float32 `(num_samples,)`
    read_audio          the same, but a `LongRecording` for recordings of hours, which is decoded when it is read
    save_audio          write a waveform to a file; `within_full_scale` scales it so that no format clips it
    list_audio_files    the recordings among files and folders; `unread_files` are the other files

decoding opens files; their samples are mixed and resampled in blocks, by torchaudio. Audio that cannot be a recording
of a voice is refused here with an `AudioError`, so that no other module has to check it.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..files import atomic_write
from .decoding import MAX_CHANNELS, AudioError, check_rate, open_sound

if TYPE_CHECKING:
    import soundfile

MIN_DURATION_S = 0.1  # shorter than a syllable, and fewer than five semantic tokens
MAX_SAMPLES = 2**29  # 9.3 hours at 16 kHz, 6.2 at 24 kHz, and 2 GiB as float32; a damaged header claims more
LONG_S = 600.0  # longer recordings are read in parts, if possible: 38 MB at 16 kHz
SILENCE_PEAK = 1e-4  # -80 dBFS: three steps of a 16-bit file
MAX_PEAK = 16.0  # 24 dB over full scale: larger floats are integer samples
MAX_RATIO_DENOMINATOR = 500  # every pair of common rates needs at most 441; bounds the size of the resampling kernel
RESAMPLED_SAMPLES = 2**18  # in a block: 1 MiB, 6 s at 44.1 kHz
CONTEXT_STEPS = 7  # torchaudio's filter reaches 6 zero crossings at 0.99 of the lower rate, so at most 6.06 periods

AUDIO_EXTENSIONS = (
    ".3gp", ".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp3",
    ".mp4", ".oga", ".ogg", ".opus", ".w64", ".wav", ".wave", ".webm", ".wma",
)  # fmt: skip
UNREADABLE_EXTENSIONS = (".aax", ".ape", ".dsf", ".m4p", ".mpc", ".ra", ".tta", ".wv")  # audio in unsupported formats
FILES = (str, os.PathLike, bytes, bytearray, memoryview)  # sources that are opened, unlike samples
SAVED_FORMATS = {
    ".wav": ("WAV", "FLOAT"), ".flac": ("FLAC", "PCM_16"), ".mp3": ("MP3", "MPEG_LAYER_III"), ".ogg": ("OGG", "VORBIS")
}  # fmt: skip


class FileNote(Protocol):
    """A comment of an audio file, such as `Provenance`."""

    def write_to(self, sound: "soundfile.SoundFile") -> None:
        """Write into a file that is open for writing and has no samples yet."""


def load_audio(source: Any, sampling_rate: int = 16_000, *, source_sampling_rate: int | None = None) -> np.ndarray:
    """Read a recording as mono float32 samples at the requested sampling rate.

    ```python
    import hf_bark_semantic

    waveform = hf_bark_semantic.load_audio("speech.wav")  # float32 (num_samples,), 16 kHz
    waveform = hf_bark_semantic.load_audio(waveform, 24_000, source_sampling_rate=16_000)  # for Bark
    ```

    Args:
        source (`str`, `Path`, `bytes`, binary file, `np.ndarray`, `torch.Tensor`, list of floats or `dict`):
            a file in one of the formats of `decoding.READABLE`, its content, its samples, or a `datasets` audio
            value: `{"array", "sampling_rate"}`, `{"bytes"}`, `{"path"}` or a torchcodec decoder. Samples are
            `(num_samples,)`, `(channels, num_samples)` or `(num_samples, channels)`: the shorter axis has the
            channels, which are averaged. Floats have full scale at 1.0; int8, int16, int32 and uint8 are scaled to
            it.
        sampling_rate (`int`): rate of the result in Hz; 16,000 is the encoder's and 24,000 Bark's.
        source_sampling_rate (`int`, *optional*): rate of an array or a tensor in Hz; files have their own.

    Returns:
        `np.ndarray`: float32 of shape `(num_samples,)`, with `ceil(num_source_samples * ratio)` samples. The ratio of
        the two rates is rounded to a fraction below `MAX_RATIO_DENOMINATOR`, which is exact for common rates and
        within 4 parts per million for any.

    Raises:
        AudioError: the source is missing, unreadable, silent, shorter than 0.1 s, not finite or not audio.
        TypeError: the source is of a kind that cannot hold audio.
        ImportError: the rates differ and torchaudio cannot be imported.
    """
    check_rate(sampling_rate, "sampling_rate")
    return _joined(_blocks(*_content(source, source_sampling_rate), sampling_rate))


def read_audio(
    source: Any, sampling_rate: int = 16_000, *, source_sampling_rate: int | None = None
) -> "np.ndarray | LongRecording":
    """Read a recording as [`load_audio`] does, but do not hold one of more than 10 minutes in memory.

    Returns:
        `np.ndarray` or `LongRecording`: both have a length, and slices that are float32 of shape `(num_samples,)`.
    """
    check_rate(sampling_rate, "sampling_rate")
    source, source_sampling_rate = _content(source, source_sampling_rate)
    read: Callable[[], Iterator[np.ndarray]] = partial(_blocks, source, source_sampling_rate, sampling_rate)
    if not isinstance(source, FILES):
        read = partial(iter, [_joined(read())])  # its samples are in memory anyway
    held: list[np.ndarray] | None = [] if not isinstance(source, FILES) or _announced_s(source) <= LONG_S else None
    num_samples, total, power = 0, 0.0, 0.0
    for block in read():
        num_samples += len(block)
        total += float(block.sum(dtype=np.float64))
        power += float(np.square(block, dtype=np.float64).sum())
        if num_samples > LONG_S * sampling_rate:
            held = None
        elif held is not None:
            held.append(block)
    if held is not None:
        return _joined(iter(held))
    return LongRecording(read, num_samples, mean=total / num_samples, power=power / num_samples)


def _announced_s(source: Any) -> float:
    with open_sound(source) as sound:
        return (sound.num_samples or 0) / sound.sampling_rate


class LongRecording:
    """A recording that is decoded again, block by block, whenever a part of it is read.

    Args:
        read (`Callable[[], Iterator[np.ndarray]]`): yields its blocks, float32 of shape `(block_length,)`, in order.
        num_samples (`int`): the length of the recording.
        mean (`float`), power (`float`): means of its samples, and of their squares.
    """

    def __init__(self, read: Callable[[], Iterator[np.ndarray]], num_samples: int, *, mean: float, power: float):
        self.read, self.num_samples, self.mean, self.power = read, num_samples, mean, power

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, step = part.indices(self.num_samples)
        return next(self.parts([(start, stop)]))[::step]

    def parts(self, bounds: Iterable[tuple[int, int]]) -> Iterator[np.ndarray]:
        """Read parts in one pass, each float32 of shape `(num_samples,)`.

        Args:
            bounds (`Iterable[tuple[int, int]]`): start and end (exclusive) of each part, in samples. Parts may
                overlap, but both bounds must ascend. Samples beyond the end of the recording are left out.

        Raises:
            AudioError: the file has become shorter since it was opened.
        """
        blocks, held, first = self.read(), np.zeros(0, np.float32), 0  # `held` begins at sample `first`
        for start, stop in bounds:
            while first + len(held) < min(stop, self.num_samples):
                block = next(blocks, None)
                if block is None:
                    raise AudioError(
                        f"The recording had {self.num_samples:,} samples, and now has {first + len(held):,}. Read it "
                        "again when it is complete."
                    )
                num_dropped = min(max(0, start - first), len(held))
                held, first = np.concatenate([held[num_dropped:], block]), first + num_dropped
            yield held[start - first : stop - first]


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
    return _joined(_resampled(iter([waveform]), source_sampling_rate, sampling_rate))


def is_silent(waveform: np.ndarray) -> bool:
    """Whether a waveform, `(num_samples,)`, holds no sound: its peak lies below -80 dB of full scale."""
    return float(np.abs(waveform).max(initial=0.0)) < SILENCE_PEAK


def save_audio(
    path: str | os.PathLike, waveform: Any, sampling_rate: int, *, provenance: FileNote | None = None
) -> Path:
    """Write a waveform as .wav (32-bit float, so nothing is clipped), .flac (16 bit), .mp3 or .ogg (Vorbis).

    ```python
    import hf_bark_semantic

    waveform = hf_bark_semantic.load_audio("speech.wav", sampling_rate=24_000)
    hf_bark_semantic.save_audio("copy.flac", waveform, sampling_rate=24_000)
    ```

    The file is complete or does not exist: it is written to a temporary file and then renamed.

    Args:
        path (`str` or `Path`): the file; its extension chooses the format, and its folder must exist.
        waveform (`np.ndarray` or `torch.Tensor` of shape `(num_samples,)`): floats with full scale at 1.0.
        sampling_rate (`int`): rate in Hz; 24,000 for what Bark speaks.
        provenance (`Provenance`, *optional*): a comment that says who made the file; none by default.

    Returns:
        `Path`: the file.

    Raises:
        AudioError: unknown extension, missing folder, no samples, or samples that are not finite or that any format
            but .wav would clip.
    """
    import soundfile

    path = Path(path)
    extension = path.suffix.lower()
    if extension not in SAVED_FORMATS:
        raise AudioError(f"Cannot write {path.name!r}: the extension must be one of {', '.join(SAVED_FORMATS)}.")
    check_rate(sampling_rate, "sampling_rate")
    samples = _array_to_samples(waveform)
    if samples.ndim != 1 or samples.size == 0:
        raise AudioError(f"A waveform to save has shape (num_samples,) and at least one sample, not {samples.shape}.")
    if not np.isfinite(samples).all():
        raise AudioError(f"Cannot write {path.name!r}: the waveform holds NaN or infinite samples.")
    peak = float(np.abs(samples).max())
    if extension != ".wav" and peak > 1.0:
        raise AudioError(
            f"The waveform peaks at {peak:.3f} and {extension} clips above 1.0. Divide it by {peak:.3f}, or save "
            "a .wav."
        )
    container, subtype = SAVED_FORMATS[extension]
    content = io.BytesIO()  # soundfile fails with an assertion if a file cannot be written
    options = {"channels": 1, "format": container, "subtype": subtype}
    with soundfile.SoundFile(content, "w", int(sampling_rate), **options) as sound:
        if provenance is not None:
            provenance.write_to(sound)
        sound.write(samples)
    with atomic_write(path, error_class=AudioError) as file:
        file.write(content.getbuffer())
    return path


def within_full_scale(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale a waveform, `(num_samples,)`, that peaks above 1.0 down to it, so that no file or player clips it.

    Returns:
        The waveform and the factor, 1.0 where nothing had to be done.
    """
    peak = float(np.abs(waveform).max(initial=0.0))
    return (waveform, 1.0) if peak <= 1.0 else (waveform / np.float32(peak), 1.0 / peak)


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
            files.update(dict.fromkeys(file for file in _files_below(path) if _is_audio(file)))
        elif path.exists():
            files[path] = None
        else:
            raise AudioError(f"No such file or folder: {str(path)!r}. Check the spelling and the working directory.")
    if not files:
        searched = ", ".join(str(path) for path in paths) or "an empty list"
        raise AudioError(f"No audio file in {searched}: looked for {', '.join(AUDIO_EXTENSIONS)}.")
    return list(files)


def unread_files(folder: str | os.PathLike) -> list[Path]:
    """The files in a folder that [`list_audio_files`] leaves out, except hidden ones, sorted by path."""
    return [file for file in _files_below(Path(folder)) if not _is_audio(file)]


def _files_below(folder: Path) -> list[Path]:
    """Files at any depth, sorted by path; hidden ones, and those in hidden folders, are left out."""
    found = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _is_audio(file: Path) -> bool:
    return file.suffix.lower() in AUDIO_EXTENSIONS


def _content(source: Any, source_sampling_rate: int | None) -> tuple[Any, int | None]:
    """The source as a path, bytes or samples, which can be read several times, and the rate of samples."""
    if isinstance(source, Mapping):
        source, source_sampling_rate = _unwrap_row(source, source_sampling_rate)
    elif hasattr(source, "get_all_samples"):  # torchcodec's AudioDecoder, which `datasets` 4 returns
        samples = source.get_all_samples()
        return samples.data, int(samples.sample_rate)
    if hasattr(source, "read"):
        source = source.read()
        if not isinstance(source, bytes):
            raise TypeError(f"The file gives {type(source).__name__}, not bytes. Open it with mode 'rb'.")
    return source, source_sampling_rate


def _unwrap_row(row: Mapping, source_sampling_rate: int | None) -> tuple[Any, int | None]:
    """The audio of a `datasets` row: samples, the content of a file, or a path."""
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


def _blocks(source: Any, source_sampling_rate: int | None, sampling_rate: int) -> Iterator[np.ndarray]:
    """Read a path, bytes or samples as mono blocks at a rate, and refuse audio that cannot be a voice."""
    if not isinstance(source, FILES):
        samples = _array_to_samples(source)
        if source_sampling_rate is None:
            raise AudioError(
                "An array has no sampling rate. Pass source_sampling_rate=, e.g. 44_100 "
                '(or a dict {"array": ..., "sampling_rate": ...}).'
            )
        check_rate(source_sampling_rate, "source_sampling_rate")
        mono = _checked(iter([_mix_to_mono(samples)]), source_sampling_rate)
        yield from _resampled(mono, source_sampling_rate, sampling_rate)
        return
    if source_sampling_rate is not None:
        raise AudioError(
            f"source_sampling_rate={source_sampling_rate} was given for a file, which states its own rate. "
            "Leave it out; it is for arrays."
        )
    with open_sound(source) as sound:
        claimed, num_samples = (sound.num_samples or 0) * sampling_rate / sound.sampling_rate, 0
        mono = _checked((block.mean(axis=1, dtype=np.float32) for block in sound.blocks), sound.sampling_rate)
        nothing = np.zeros(0, np.float32)  # checks the announced length before decoding
        for block in chain([nothing], _resampled(mono, sound.sampling_rate, sampling_rate)):
            num_samples += len(block)
            if max(claimed, num_samples) > MAX_SAMPLES:
                hours = MAX_SAMPLES / sampling_rate / 3600
                raise AudioError(
                    f"{sound.name} {'claims' if claimed > num_samples else 'has'} more than {MAX_SAMPLES:,} samples "
                    f"at {sampling_rate:,} Hz, {hours:.1f} hours. If it is not damaged, split it into shorter files."
                )
            yield block


def _joined(blocks: Iterator[np.ndarray]) -> np.ndarray:
    """Join blocks to one array, which grows in place, so that it need not fit into memory twice."""
    first, grown = next(blocks), bytearray()
    for block in blocks:
        grown.extend(b"" if grown else first.view(np.uint8))
        grown.extend(block.view(np.uint8))
    return np.frombuffer(grown, np.float32) if grown else first


def _resampled(blocks: Iterator[np.ndarray], source_sampling_rate: int, sampling_rate: int) -> Iterator[np.ndarray]:
    """Resample blocks of any lengths, each with context, so that the result is the same as for the whole."""
    if source_sampling_rate == sampling_rate:
        yield from blocks
        return
    resample_at_once = _import_resampler(source_sampling_rate, sampling_rate)
    higher, lower = max(source_sampling_rate, sampling_rate), min(source_sampling_rate, sampling_rate)
    ratio = Fraction(int(higher), int(lower)).limit_denominator(MAX_RATIO_DENOMINATOR)
    source_steps, steps = ratio.denominator, ratio.numerator
    if source_sampling_rate > sampling_rate:
        source_steps, steps = steps, source_steps

    def result(samples: np.ndarray, start: int, stop: int | None) -> np.ndarray:
        """The resampled `samples` from `start` to `stop`, which are multiples of `source_steps`."""
        part = slice(start // source_steps * steps, None if stop is None else stop // source_steps * steps)
        return resample_at_once(samples, source_steps, steps)[part]

    context = CONTEXT_STEPS * source_steps
    length = max(CONTEXT_STEPS, RESAMPLED_SAMPLES // source_steps) * source_steps
    held, before = np.zeros(0, np.float32), 0  # `before`: samples of `held` that are context only
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= before + 2 * length:  # a short last block might be summed in another order
            yield result(held[: before + length + context], before, before + length)
            held, before = held[before + length - context :], context
    yield result(held, before, None)


def _import_resampler(source_sampling_rate: int, sampling_rate: int) -> Callable[[np.ndarray, int, int], np.ndarray]:
    try:
        import torch
        from torchaudio.functional import resample as torchaudio_resample
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ImportError(
            f"Resampling from {source_sampling_rate} to {sampling_rate} Hz needs torchaudio, whose import failed: "
            f"{error}. torch and torchaudio must come from one release and one index: install both at once with "
            "`pip install --upgrade torch torchaudio`, or pass audio that is already at the wanted rate."
        ) from error

    def resample_at_once(samples: np.ndarray, source_steps: int, steps: int) -> np.ndarray:
        with torch.autocast("cpu", enabled=False):  # audio is float32 in a training, too
            return torchaudio_resample(torch.from_numpy(samples), source_steps, steps).numpy()

    return resample_at_once


def _array_to_samples(source: Any) -> np.ndarray:
    """An array, tensor or list as floating samples with full scale at 1.0, in its own shape."""
    if hasattr(source, "detach"):  # a torch tensor, without importing torch
        tensor = source.detach().cpu()
        source = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    elif isinstance(source, list | tuple):
        try:
            source = np.asarray(source)
        except ValueError as error:
            raise AudioError("The list is not an array: its rows differ in length. Pass one waveform.") from error
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


def _checked(blocks: Iterator[np.ndarray], sampling_rate: int) -> Iterator[np.ndarray]:
    """Yield the blocks, `(block_length,)` each, and refuse at the end audio that cannot be a voice."""
    num_samples, num_unusable, peak = 0, 0, 0.0
    for block in blocks:
        num_samples += len(block)
        num_unusable += len(block) - int(np.isfinite(block).sum())
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
        yield block
    if num_samples == 0:
        raise AudioError("The audio has zero samples. Record or export it again.")
    if num_unusable:
        raise AudioError(
            f"{num_unusable:,} of {num_samples:,} samples are NaN or infinite. Find the step that made them; "
            "np.nan_to_num hides them, at the price of clicks."
        )
    duration = num_samples / sampling_rate
    if duration < MIN_DURATION_S:
        raise AudioError(
            f"The audio lasts {duration:.4f} s ({num_samples} samples at {sampling_rate} Hz); at least "
            f"{MIN_DURATION_S} s is needed to hold a sound of speech. Check the rate, or use a longer recording."
        )
    if peak < SILENCE_PEAK:
        raise AudioError(
            f"The audio is silent: its peak is {peak:.1e} of full scale, below {SILENCE_PEAK:.0e} (-80 dB). "
            "Check the recording level, and whether its channels cancel each other."
        )
    if peak > MAX_PEAK:
        raise AudioError(
            f"The samples reach {peak:,.0f} where full scale is 1.0, so they look like integers stored as floats. "
            "Divide them by 32768 (16 bit) or 2**31 (32 bit)."
        )


__all__ = [
    "AUDIO_EXTENSIONS",
    "UNREADABLE_EXTENSIONS",
    "AudioError",
    "LongRecording",
    "is_silent",
    "list_audio_files",
    "load_audio",
    "read_audio",
    "resample",
    "save_audio",
    "unread_files",
]
