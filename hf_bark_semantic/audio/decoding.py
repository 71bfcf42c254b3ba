"""Decode audio files to samples, block by block, and explain the decoders' errors.

    open_sound    open a path or bytes: sampling rate, announced length, and samples in blocks

soundfile decodes the formats of libsndfile, except MP3, because libsndfile prints its flaws to stderr. PyAV, whose
wheels contain ffmpeg's libraries, decodes MP3 and the formats of phones and browsers. This module chooses its demuxer
by the file's first bytes, never one that follows references to other files or addresses.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..files import foreign_content

if TYPE_CHECKING:
    import av

BLOCK_VALUES = 2**18  # samples times channels in a block: 1 MiB
MIN_SAMPLING_RATE = 1_000  # too low for vowels, so not a rate of speech
MAX_SAMPLING_RATE = 768_000  # the highest rate that audio hardware has
MAX_CHANNELS = 64  # more rows are a batch, not a microphone array
MAX_MP4_INDEX = 64 * 2**20  # bytes that are read: two hours of AAC have 1.4 MB
MAX_CHUNKS = 100_000  # chunks of a container that are read: two hours in fragments of a second have 14,400

READABLE = "wav, flac, ogg, opus, mp3, aiff, au, caf, w64, m4a, mp4, mov, aac, webm, mkv, 3gp, amr and wma"
CONVERT = "Convert it with `ffmpeg -i INPUT -ar 24000 output.wav`."
MP4_STARTS = (b"ftyp", b"moov", b"mdat", b"wide")  # types of the first box; QuickTime's may be any of the last three
MATROSKA, MATROSKA_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
DEMUXERS = {MATROSKA: "matroska", b"\x30\x26\xb2\x75": "asf", b"#!AMR": "amr"}  # ffmpeg's names
CODECS = (
    "aac", "ac3", "alac", "amrnb", "amrwb", "eac3", "flac", "libopencore_amrnb", "libopencore_amrwb", "libopus", "mp2",
    "mp2float", "mp3", "mp3float", "opus", "vorbis", "wmapro", "wmav1", "wmav2",
)  # fmt: skip
_PACKET_SIZES = re.compile(rb"stsz.{4}(.{4})(.{4})", re.DOTALL)  # ISO/IEC 14496-12, 8.7.3.2
_ENCRYPTED_MP4 = re.compile(rb"sinf.{4}frma", re.DOTALL)  # ISO/IEC 14496-12, 8.12: a protected sample entry


class AudioError(ValueError):
    """The audio cannot be used. The message names the broken rule and what to do.

    ```python
    import hf_bark_semantic

    try:
        hf_bark_semantic.load_audio("missing.wav")
    except hf_bark_semantic.AudioError as error:
        print(error)  # No such file: 'missing.wav'. ...
    ```
    """


@dataclass(frozen=True)
class Sound:
    """An open audio file.

    Args:
        name (`str`): its name for messages.
        sampling_rate (`int`): in Hz.
        channels (`int`): number of channels of each block.
        num_samples (`int`, *optional*): the announced number of samples, in some formats within a few percent.
        comment (`str`): the comment in the file.
        blocks (`Iterator[np.ndarray]`): the samples in order, float32 of shape `(block_length, channels)`. It raises
            an [`AudioError`] if the file cannot be decoded or ends early.
    """

    name: str
    sampling_rate: int
    channels: int
    num_samples: int | None
    comment: str
    blocks: Iterator[np.ndarray]


@contextmanager
def open_sound(source: Any) -> Iterator[Sound]:
    """Open a path, or the content of a file.

    Raises:
        AudioError: the file is missing, not audio, incomplete, encrypted, or cannot be decoded.
        ImportError: soundfile or PyAV cannot be imported.
    """
    name, file, head = _open(source)
    with file:
        reason = foreign_content(head) or _zip_archive(head) or _cut_off(head, file)
        if reason is not None:
            raise AudioError(f"Cannot read {name} as audio: {reason}.")
        demuxer = _demuxer(head, file)
        with _open_with_soundfile(name, file) if demuxer is None else _open_with_av(name, file, demuxer) as sound:
            check_rate(sound.sampling_rate, f"the rate of {name}")
            if sound.channels > MAX_CHANNELS:
                raise AudioError(f"{name} has {sound.channels} channels, and at most {MAX_CHANNELS} are mixed.")
            yield sound


def check_rate(rate: Any, name: str) -> None:
    """Raise an [`AudioError`] with `name` if a value is not a sampling rate."""
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.integer | np.floating) or rate != rate // 1:
        raise AudioError(f"{name} must be a whole number of Hz, e.g. 16_000, not {rate!r}.")
    if not MIN_SAMPLING_RATE <= rate <= MAX_SAMPLING_RATE:
        raise AudioError(
            f"{name} is {rate:,} Hz; audio has between {MIN_SAMPLING_RATE:,} and {MAX_SAMPLING_RATE:,}. "
            "Check the unit (Hz, not kHz) and the order of the arguments."
        )


def _open(source: Any) -> tuple[str, BinaryIO, bytes]:
    """The name for messages, the opened file, and its first bytes."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if "\0" in str(path):
            raise AudioError(f"The path {str(path)!r} holds a zero byte. Pass the audio's bytes, or a clean path.")
        if os.path.isdir(path):  # unlike Path's methods, os.path returns False for invalid names
            raise AudioError(f"{str(path)!r} is a folder. Name a file in it; `list_audio_files` finds them.")
        if not os.path.exists(path):
            raise AudioError(f"No such file: {str(path)!r}. Check the spelling and the working directory.")
        if not path.is_file():
            raise AudioError(f"{str(path)!r} is a device or a pipe, not a file. Save the recording to a file first.")
        try:
            file: BinaryIO = open(path, "rb")  # noqa: SIM115 (the caller closes it)
        except OSError as error:
            raise AudioError(f"Cannot open {str(path)!r}: {error.strerror}. Check the file's permissions.") from error
        name = repr(path.name)
    else:
        name, file = f"the {len(source):,} bytes given", io.BytesIO(source)
    head = file.read(512)
    file.seek(0)
    return name, file, head


# ---- checks before decoding


def _zip_archive(head: bytes) -> str | None:
    return "it is a zip archive. Unpack it and name a file in it" if head[:4] == b"PK\x03\x04" else None


def _cut_off(head: bytes, file: BinaryIO) -> str | None:
    """Compare the announced size with the file's, because decoders read truncated files without an error."""
    size = file.seek(0, io.SEEK_END)
    announced = _announced_size(head, file, size)
    if announced <= size + 8:  # some programs count the header or padding wrongly
        reason = _impossible_table(head, file, size)
    else:
        reason = f"it announces {announced:,} bytes but holds only {size:,}: it is cut off. Copy or download it again"
    file.seek(0)
    return reason


def _announced_size(head: bytes, file: BinaryIO, size: int) -> int:
    """The number of bytes that a file announces; 0 if it announces none."""
    if head[:4] == b"RIFF":
        announced = 8 + int.from_bytes(head[4:8], "little")
        return 0 if announced > 2**31 else announced  # programs that stream announce 2 or 4 GiB
    if head[:4] == MATROSKA:
        start, length = _matroska_size(head, 4)
        segment = start + (length or 0)
        start, length = _matroska_size(head, segment + 4)
        return start + length if head[segment : segment + 4] == MATROSKA_SEGMENT and length is not None else 0
    return max((end for _, _, end in _mp4_boxes(head, file, size)), default=0)


def _mp4_boxes(head: bytes, file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the outer boxes of an MP4 file, up to one that lasts until the file's end."""
    end = 0
    for _ in range(MAX_CHUNKS if head[4:8] in MP4_STARTS else 0):
        start = end
        if start >= size:  # may exceed any file size
            break
        file.seek(start)
        box = file.read(16)
        length = int.from_bytes(box[:4], "big")
        length = int.from_bytes(box[8:16], "big") if length == 1 else length  # a size of 64 bits
        if len(box) < 8 or length < 8:  # the end, or a box that lasts until the end
            break
        end = start + length
        yield box[4:8], start, end


def _impossible_table(head: bytes, file: BinaryIO, size: int) -> str | None:
    """The reason, if an MP4 file announces more packets than it has bytes for; ffmpeg allocates memory for all."""
    for kind, start, end in _mp4_boxes(head, file, size):
        if kind == b"moov":
            file.seek(start)
            for table in _PACKET_SIZES.finditer(file.read(min(end - start, MAX_MP4_INDEX))):
                packet_size, num_packets = (int.from_bytes(number, "big") for number in table.groups())
                if num_packets * (packet_size or 4) > size:  # 4 bytes for each size, if they differ
                    return f"it announces {num_packets:,} packets but holds only {size:,} bytes: it is damaged"
    return None


def _matroska_size(head: bytes, start: int) -> tuple[int, int | None]:
    """Read the size of an element: the end of the field, and its value; `None` for an unfinished recording.

    The number of leading zeros of the first byte is the number of bytes after it; all ones mean unknown (RFC 8794, 4.4
    and 6.2).
    """
    num_bytes = 9 - (head[start : start + 1] or b"\1")[0].bit_length()
    ones = (1 << 7 * num_bytes) - 1
    value = int.from_bytes(head[start : start + num_bytes], "big") & ones
    return start + num_bytes, None if value == ones else value


def _demuxer(head: bytes, file: BinaryIO) -> str | None:
    """ffmpeg's name for the container; `None` if libsndfile reads it."""
    if head[4:8] in MP4_STARTS:
        return "mov"
    is_tagged, head = head.startswith(b"ID3"), _behind_id3_tags(head, file)
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0:  # MPEG audio; its layer is 0 in ADTS
        return "mp3" if head[1] & 0x06 else "aac"
    if is_tagged and not head.startswith(b"fLaC"):
        return "mp3"  # after padding
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE" and _is_unfinished_wav(file):
        return "wav"
    return next((demuxer for start, demuxer in DEMUXERS.items() if head.startswith(start)), None)


def _behind_id3_tags(head: bytes, file: BinaryIO) -> bytes:
    """The first bytes after ID3v2 tags, whose size has 7 bits in each of 4 bytes (id3.org/id3v2.4.0-structure)."""
    start = 0
    for _ in range(MAX_CHUNKS):
        if head[:3] != b"ID3" or len(head) < 10:
            break
        size = int.from_bytes(head[6:10], "big")
        start += 10 + sum((size >> 8 * number & 0x7F) << 7 * number for number in range(4))
        file.seek(start)
        head = file.read(512)
    file.seek(0)
    return head


def _is_unfinished_wav(file: BinaryIO) -> bool:
    """Whether samples follow a data chunk of size 0, as after a power failure: recorders write the size last."""
    file.seek(12)
    found = False
    for _ in range(MAX_CHUNKS):
        chunk = file.read(8)
        size = int.from_bytes(chunk[4:], "little")
        if len(chunk) < 8 or chunk[:4] == b"data":
            found = chunk[:4] == b"data" and size == 0 and bool(file.read(1))
            break
        file.seek(size + size % 2, io.SEEK_CUR)
    file.seek(0)
    return found


# ---- decoding


@contextmanager
def _open_with_soundfile(name: str, file: BinaryIO) -> Iterator[Sound]:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise ImportError(
            f"Reading audio files needs soundfile, whose import failed: {error}. Run `pip install soundfile`."
        ) from error
    errors = (soundfile.LibsndfileError, RuntimeError, EOFError, TypeError)
    with _explained(name, errors):
        try:
            opened = soundfile.SoundFile(_FileFrom(file, 0))
        except soundfile.LibsndfileError:
            if not _first_mp3_frame(file):
                raise
            opened = None
    if opened is None:
        with _open_with_av(name, file, "mp3") as sound:
            yield sound
        return
    opened.seekable = lambda: False  # otherwise soundfile seeks after every block
    block_length = max(1, BLOCK_VALUES // opened.channels)

    def blocks() -> Iterator[np.ndarray]:
        num_read = 0
        while num_read < opened.frames:
            with _explained(name, errors):
                length = min(block_length, opened.frames - num_read)
                block = opened.read(length, dtype="float32", always_2d=True)
            if not len(block):
                break
            num_read += len(block)
            yield block
        if num_read < opened.frames:
            raise AudioError(
                f"{name} announces {opened.frames:,} samples but holds only {num_read:,}: it is cut off. "
                "Copy or download it again."
            )

    with opened:
        yield Sound(name, opened.samplerate, opened.channels, opened.frames, opened.comment, blocks())


def _without_junk(file: BinaryIO) -> BinaryIO:
    """An mp3 from its info frame on, which has the padding; after junk, ffmpeg would decode that frame as audio."""
    start = _first_mp3_frame(file)
    file.seek(start)
    frame = file.read(200)
    says_padding = b"Xing" in frame or b"Info" in frame
    file.seek(0)
    return _FileFrom(file, start) if says_padding else file  # type: ignore[return-value]


def _first_mp3_frame(file: BinaryIO) -> int:
    """The position of the first frame in an mp3, after up to 64 KiB of zeros or junk; 0 if there is none."""
    av = _import_av()
    file.seek(0)
    try:
        with av.open(file, format="mp3") as container:  # it looks for two consistent frames
            return next((packet.pos or 0 for packet in container.demux()), 0)
    except av.FFmpegError:
        return 0


class _FileFrom(io.RawIOBase):
    """A file without its first bytes. Seeks stop at both ends, because libsndfile cannot handle an exception."""

    def __init__(self, file: BinaryIO, start: int):
        self.file, self.start, self.end = file, start, file.seek(0, io.SEEK_END)
        file.seek(start)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: self.start, io.SEEK_CUR: self.file.tell(), io.SEEK_END: self.end}[whence]
        return self.file.seek(min(max(self.start, origin + offset), self.end)) - self.start

    def tell(self) -> int:
        return self.file.tell() - self.start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.file.readinto(buffer)  # type: ignore[attr-defined]


@contextmanager
def _open_with_av(name: str, file: BinaryIO, demuxer: str) -> Iterator[Sound]:
    """Open the first audio track with ffmpeg's demuxer of that name."""
    av = _import_av()
    options = {"ignore_length": "1"} if demuxer == "wav" else {}
    file = _without_junk(file) if demuxer == "mp3" else file
    with _explained(name, (av.FFmpegError, MemoryError), file):
        container = av.open(file, format=demuxer, options=options, metadata_errors="replace")
    with container:
        track = next(iter(container.streams.audio), None)
        if track is None:
            raise AudioError(f"There is no audio track in {name}. Record or export it again, with sound.")
        codec = track.codec_context.name if track.codec_context else "unknown"
        if codec not in CODECS and not codec.startswith(("pcm_", "adpcm_")):
            raise AudioError(f"Cannot decode {name}: its audio is coded as {codec}. {CONVERT}")
        decoded = _decoded_mp3(container, track) if demuxer == "mp3" else container.decode(track)
        frames = _frames(name, decoded, file)
        first = next(frames, None)
        if first is None:
            raise AudioError(f"The audio track of {name} is empty: it has zero samples. Record or export it again.")
        announces = demuxer in ("mov", "matroska") and container.duration is not None  # others only estimate it
        num_samples = round(container.duration / 1e6 * first.sample_rate) if announces else None
        comment = str(container.metadata.get("comment", ""))
        yield Sound(name, first.sample_rate, len(first.layout.channels), num_samples, comment, _joined(first, frames))


def _decoded_mp3(container: "av.container.InputContainer", track: "av.AudioStream") -> "Iterator[av.AudioFrame]":
    """The intact frames of an mp3; tags and cut frames between them are skipped, as by players.

    Raises:
        av.InvalidDataError: more frames are damaged than intact.
    """
    av = _import_av()
    num_decoded, errors = 0, []
    for packet in container.demux(track):
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            errors.append(error)
            continue
        num_decoded += len(frames)
        yield from frames
    if len(errors) > num_decoded:
        raise errors[0]


def _frames(name: str, decoded: "Iterator[av.AudioFrame]", file: BinaryIO) -> "Iterator[av.AudioFrame]":
    """The frames with samples, as interleaved float32; a frame with another rate or layout is an error."""
    av = _import_av()
    to_float = av.AudioResampler(format="flt")
    with _explained(name, (av.FFmpegError, MemoryError, ValueError), file):
        for frame in decoded:
            if frame.samples:
                yield from to_float.resample(frame)


def _joined(first: "av.AudioFrame", frames: "Iterator[av.AudioFrame]") -> Iterator[np.ndarray]:
    """Join frames, of about 20 ms each, to blocks of samples."""
    held: list[np.ndarray] = []
    num_values = 0
    channels = len(first.layout.channels)
    for frame in chain([first], frames):
        held.append(frame.to_ndarray().reshape(-1, channels))
        num_values += held[-1].size
        if num_values >= BLOCK_VALUES:
            yield np.concatenate(held)
            held, num_values = [], 0
    if held:
        yield np.concatenate(held)


@contextmanager
def _explained(name: str, errors: tuple[type[Exception], ...], file: BinaryIO | None = None) -> Iterator[None]:
    """Replace a decoder's error by one that names the file, the problem and what to do."""
    try:
        yield
    except errors as error:
        if file is not None and _is_encrypted_mp4(file):
            raise AudioError(
                f"The audio of {name} is encrypted (DRM), so only its shop's player can read it. Use a copy that "
                "is not."
            ) from error
        cause = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
        raise AudioError(
            f"Cannot decode {name}: {cause.rstrip('.')}. It is damaged or in a format that is not supported "
            f"({READABLE} are). {CONVERT}"
        ) from error


def _is_encrypted_mp4(file: BinaryIO) -> bool:
    file.seek(0)
    end = b""
    while part := file.read(BLOCK_VALUES):
        if _ENCRYPTED_MP4.search(end + part):
            return True
        end = part[-12:]
    return False


def _import_av() -> Any:
    try:
        import av
    except (ImportError, OSError) as error:
        raise ImportError(
            f"Reading this audio file needs PyAV, whose import failed: {error}. Run `pip install av`."
        ) from error
    return av


__all__ = ["READABLE", "AudioError", "Sound", "check_rate", "open_sound"]
