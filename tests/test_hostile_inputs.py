"""Broken, mistaken and malicious inputs in one table: every row must be refused with a helpful error.

Each `HostileInput` builds its input in a folder, hands it to the loader, and states the error and a word of its
message. No row may run code from a file or leave a file behind.

To add a kind of input, write its rows into a list and the list into `TABLE`.
"""

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from hf_bark_semantic import BarkSemanticEncoderConfig
from hf_bark_semantic.audio import AudioError, list_audio_files, load_audio, loading, save_audio
from hf_bark_semantic.bark.voice_prompt import VoicePrompt, VoicePromptError
from hf_bark_semantic.corpus.formats import read_fairseq
from hf_bark_semantic.corpus.rows import read_corpus
from hf_bark_semantic.corpus.untrusted import read_file
from hf_bark_semantic.trainers.encoder_config import read_encoder_config
from hostile_files import CANARY, LFS_POINTER, WEB_PAGE, Payload, file_of, files_below
from sound_files import encoded
from tiny import corpus_row


@dataclass(frozen=True)
class HostileInput:
    """One row: what it is, how to make it in a folder, who has to refuse it, and with which words."""

    name: str
    build: Callable[[Path], Any]
    load: Callable[[Any], object]
    word: str
    error: type[Exception]


def value(make: Callable[[], Any]) -> Callable[[Path], Any]:
    return lambda folder: make()


# --- audio


def audio_bytes(extension: str, samples: np.ndarray, sampling_rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sampling_rate, format=extension)
    return file.getvalue()


def tone(num_samples: int = 16_000) -> np.ndarray:
    return 0.5 * np.sin(np.arange(num_samples, dtype=np.float32) / 5)


def with_changed(content: bytes, offset: int, replacement: bytes) -> bytes:
    return content[:offset] + replacement + content[offset + len(replacement) :]


def flac_that_claims_a_day() -> bytes:
    """FLAC's STREAMINFO keeps the number of samples in the low 36 bits of the bytes 18 to 25."""
    content = audio_bytes("flac", tone())
    packed = struct.unpack(">Q", content[18:26])[0]
    return with_changed(content, 18, struct.pack(">Q", packed >> 36 << 36 | 2**35))


ENCRYPTION = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0f" * 16, "encryption_kid": "1e" * 16}


def made(make: Callable[[], bytes]) -> Callable[[Path], Path]:
    """A file whose content is made when the row is tested."""
    return lambda folder: file_of(make(), "voice.m4a")(folder)


def load_with_limit(path: Path, num_samples: int) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "MAX_SAMPLES", num_samples)
        return load_audio(path)


def load_array(samples: Any) -> np.ndarray:
    return load_audio(samples, source_sampling_rate=16_000)


def audio_row(name: str, build: Callable, word: str, *, load: Callable = load_audio, error: type = AudioError):
    return HostileInput(f"audio: {name}", build, load, word, error)


AUDIO = [
    audio_row("a file that is not there", lambda folder: folder / "missing.wav", "No such file"),
    audio_row("a name that no file can have", value(lambda: "a" * 5_000), "No such file"),
    audio_row("a folder", lambda folder: folder, "is a folder"),
    audio_row("a device", value(lambda: "/dev/zero"), "device"),
    audio_row("a path with a zero byte", value(lambda: "a\0b.wav"), "zero byte"),
    audio_row("an empty file", file_of(b"", "empty.wav"), "is empty"),
    audio_row("text named .wav", file_of(b"this is not audio at all\n" * 40, "note.wav"), "damaged"),
    audio_row("random bytes named .mp3", file_of(np.random.default_rng(0).bytes(4_000), "noise.mp3"), "damaged"),
    audio_row("a headerless file named .raw", file_of(bytes(4_000), "samples.raw"), "ffmpeg"),
    audio_row("a wav header without its samples", file_of(audio_bytes("wav", tone())[:30], "cut.wav"), "cut off"),
    audio_row("a wav of broken chunks", file_of(b"RIFF\x20\0\0\0WAVE" + bytes(28), "bad.wav"), "damaged"),
    audio_row("a wav with zero samples", file_of(audio_bytes("wav", tone(0)), "none.wav"), "zero samples"),
    audio_row("a wav cut in half", file_of(audio_bytes("wav", tone())[:16_000], "half.wav"), "cut off"),
    audio_row("a flac cut in half", file_of(audio_bytes("flac", tone())[:3_000], "half.flac"), "damaged"),
    audio_row("a flac that claims 34 billion samples", file_of(flac_that_claims_a_day(), "huge.flac"), "claims"),
    audio_row(
        "a wav that claims a rate of 900 kHz",
        file_of(with_changed(audio_bytes("wav", tone()), 24, struct.pack("<I", 900_000)), "fast.wav"),
        "Hz",
    ),
    audio_row("an m4a file of zeros", file_of(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(200), "voice.m4a"), "damaged"),
    audio_row(
        "more packets of mp4 than there are bytes",
        file_of(
            b"\0\0\0\x10ftypM4A \0\0\0\0" + b"\0\0\0\x1cmoov" + b"\0\0\0\x14stsz" + bytes(7) + b"\x0d\4\0\0\0",
            "voice.m4a",
        ),
        "67,108,864 packets",
    ),
    audio_row(
        "a box of mp4 that is larger than any file",
        file_of(b"\0\0\0\x10ftypM4A \0\0\0\0" + b"\0\0\0\x01free" + b"\xff" * 8 + bytes(200), "voice.m4a"),
        "cut off",
    ),
    audio_row("an mp4 of zeros named .mp3", file_of(b"\0\0\0\x18ftypmp42" + bytes(200), "voice.mp3"), "damaged"),
    audio_row("a raw AAC stream of zeros", file_of(b"\xff\xf1\x50\x80" + bytes(200), "voice.aac"), "zero samples"),
    audio_row("a webm file of zeros", file_of(b"\x1a\x45\xdf\xa3" + bytes(200), "voice.webm"), "damaged"),
    audio_row("an m4a cut off", made(lambda: encoded("ipod", "aac")[:9_000]), "cut off"),
    audio_row("an mp4 cut off", made(lambda: encoded("mp4", "aac", movflags="faststart")[:9_000]), "cut off"),
    audio_row("a webm cut off", made(lambda: encoded("webm", "libopus", sampling_rate=48_000)[:9_000]), "cut off"),
    audio_row("an aac cut off", made(lambda: encoded("adts", "aac")[:9_000]), "damaged"),
    audio_row("a video without audio", made(lambda: encoded("mp4", None, video="mpeg4")), "no audio track"),
    audio_row("a webm without audio", made(lambda: encoded("webm", None, video="libvpx")), "no audio track"),
    audio_row("an m4a without frames", made(lambda: encoded("ipod", "aac", tone(0))), "no audio track"),
    audio_row("an encrypted m4a", made(lambda: encoded("mp4", "aac", **ENCRYPTION)), "encrypted (DRM)"),
    audio_row("a codec that is not known", made(lambda: encoded("matroska", "tta")), "coded as tta"),
    audio_row(
        "two streams of different rates in one file",
        made(lambda: encoded("adts", "aac") + encoded("adts", "aac", sampling_rate=22_050, layout="mono")),
        "damaged",
    ),
    audio_row("a playlist of local files", file_of(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hosts\n", "a.m4a"), "damaged"),
    audio_row("a script of local files", file_of(b"ffconcat version 1.0\nfile /etc/hosts\n", "a.mp4"), "damaged"),
    audio_row("an mp3 behind 100 kB of zeros", made(lambda: bytes(100_000) + audio_bytes("mp3", tone())), "damaged"),
    audio_row("100 channels", made(lambda: audio_bytes("wav", np.ones((4_000, 100)))), "100 channels"),
    audio_row(
        "hours of silence in little space",
        made(lambda: encoded("ipod", "aac", tone())),
        "more than 1,000 samples",
        load=lambda content: load_with_limit(content, 1_000),
    ),
    audio_row("a zip of recordings", file_of(b"PK\x03\x04" + bytes(200), "voices.zip"), "zip"),
    audio_row("a Git-LFS pointer", file_of(LFS_POINTER, "voice.flac"), "git lfs pull"),
    audio_row("a web page saved as .wav", file_of(WEB_PAGE, "voice.wav"), "web page"),
    audio_row(
        "a pickle with a payload named .wav",
        lambda folder: file_of(pickle.dumps(Payload(folder)), "voice.wav")(folder),
        "pickle",
    ),
    audio_row("silence", file_of(audio_bytes("wav", np.zeros(16_000)), "silence.wav"), "silent"),
    audio_row("less than a tenth of a second", file_of(audio_bytes("wav", tone(1_599)), "short.wav"), "lasts"),
    audio_row("channels that cancel", value(lambda: np.stack([tone(), -tone()])), "cancel", load=load_array),
    audio_row("NaN samples", value(lambda: np.full(16_000, np.nan)), "NaN", load=load_array),
    audio_row("one infinite sample", value(lambda: np.append(tone(), np.inf)), "1 of 16,001", load=load_array),
    audio_row("float64 beyond float32", value(lambda: np.full(16_000, 1e300)), "infinite", load=load_array),
    audio_row("16-bit values as floats", value(lambda: 20_000 * tone()), "32768", load=load_array),
    audio_row("int64 samples", value(lambda: np.arange(16_000)), "int64", load=load_array),
    audio_row("booleans", value(lambda: np.ones(16_000, bool)), "bool", load=load_array),
    audio_row("complex samples", value(lambda: np.ones(16_000, complex)), "complex", load=load_array),
    audio_row("an array of objects", value(lambda: np.array([tone(), None], object)), "object", load=load_array),
    audio_row("rows of different lengths", value(lambda: [[0.1, 0.2], [0.3]]), "differ in length", load=load_array),
    audio_row("a batch of recordings", value(lambda: np.ones((2, 1, 16_000))), "3 axes", load=load_array),
    audio_row("a square of samples", value(lambda: np.ones((40, 40))), "channels from samples", load=load_array),
    audio_row("300 channels", value(lambda: np.ones((300, 16_000))), "300 channels", load=load_array),
    audio_row("an empty array", value(lambda: np.zeros(0)), "zero samples", load=load_array),
    audio_row("a scalar", value(lambda: np.zeros(())), "0 axes", load=load_array),
    audio_row("an array without its rate", value(tone), "source_sampling_rate", load=load_audio),
    audio_row("a dict without its rate", value(lambda: {"array": tone()}), "sampling_rate"),
    audio_row("a dict of something else", value(lambda: {"text": "hello"}), "'text'"),
    audio_row("a rate of zero", value(tone), "0 Hz", load=lambda samples: load_audio(samples, source_sampling_rate=0)),
    audio_row("a rate in kHz", value(tone), "kHz", load=lambda samples: load_audio(samples, source_sampling_rate=44)),
    audio_row(
        "a rate that is not a number",
        value(tone),
        "whole number",
        load=lambda samples: load_audio(samples, source_sampling_rate=float("nan")),
    ),
    audio_row(
        "a second rate for a file",
        file_of(audio_bytes("wav", tone()), "tone.wav"),
        "its own rate",
        load=lambda path: load_audio(path, source_sampling_rate=8_000),
    ),
    audio_row("None", value(lambda: None), "NoneType", error=TypeError),
    audio_row("a file opened as text", value(lambda: io.StringIO("RIFF")), "'rb'", error=TypeError),
    audio_row("a folder without audio", lambda folder: folder, "No audio file", load=list_audio_files),
    audio_row(
        "saving to an unknown format",
        lambda folder: folder / "voice.txt",
        ".wav, .flac",
        load=lambda path: save_audio(path, tone(), 24_000),
    ),
    audio_row(
        "saving into a folder that is not there",
        lambda folder: folder / "nowhere" / "voice.wav",
        "no folder",
        load=lambda path: save_audio(path, tone(), 24_000),
    ),
    audio_row(
        "saving NaN",
        lambda folder: folder / "voice.wav",
        "NaN",
        load=lambda path: save_audio(path, np.full(100, np.nan), 24_000),
    ),
]


# --- voice prompts


def prompt_arrays(num_tokens: int = 300, num_frames: int = 450) -> dict[str, np.ndarray]:
    fine = np.arange(8 * num_frames).reshape(8, num_frames) % 1_024
    return {"semantic_prompt": np.arange(num_tokens), "coarse_prompt": fine[:2], "fine_prompt": fine}


def npz_of(drop: tuple[str, ...] = (), **changes: Any) -> Callable[[Path], Path]:
    """A file with a good prompt, apart from the entries that are dropped or changed."""

    def build(folder: Path) -> Path:
        arrays = prompt_arrays() | changes
        np.savez(folder / "voice.npz", **{key: array for key, array in arrays.items() if key not in drop})
        return folder / "voice.npz"

    return build


def npz_with_member(content: bytes, *, declared: str = "semantic_prompt.npy") -> Callable[[Path], Path]:
    """A good prompt, one member of which has these bytes."""

    def build(folder: Path) -> Path:
        path = npz_of(drop=(declared.removesuffix(".npy"),))(folder)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(declared, content)
        return path

    return build


def npy_header(text: str) -> bytes:
    padded = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded


def pickled_tokens(folder: Path) -> Path:
    return npz_of(semantic_prompt=np.array([Payload(folder)], dtype=object))(folder)


def pickled_metadata_and_bad_tokens(folder: Path) -> Path:
    metadata = np.array([Payload(folder)], dtype=object)
    return npz_of(semantic_prompt=np.full(300, -1), metadata=metadata)(folder)


def torch_file(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "voice.npz", "w") as archive:
        archive.writestr("voice/data.pkl", pickle.dumps(Payload(folder)))
    return folder / "voice.npz"


def traversing_member(folder: Path) -> Path:
    path = npz_of(drop=("fine_prompt",))(folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../fine_prompt.npy", b"outside")
    return path


def damaged_member(folder: Path) -> Path:
    path = npz_of()(folder)
    content = path.read_bytes()
    path.write_bytes(with_changed(content, 400, bytes(byte ^ 0xFF for byte in content[400:420])))
    return path


def encrypted(folder: Path) -> Path:
    """Set the flag in each local header (byte 6) and directory entry (byte 8)."""
    path = npz_of()(folder)
    content = path.read_bytes()
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content = with_changed(content, start + offset, bytes([content[start + offset] | 1]))
            start = content.find(signature, start + 4)
    path.write_bytes(content)
    return path


def moved_directory(folder: Path) -> Path:
    """The end of a zip says where its directory is (byte 16); the first member then is before the file."""
    content = npz_of()(folder).read_bytes()
    end = content.rindex(b"PK\x05\x06") + 16
    offset = struct.unpack_from("<I", content, end)[0] + 27
    return file_of(with_changed(content, end, struct.pack("<I", offset)), "voice.npz")(folder)


def name_in_no_encoding(folder: Path) -> Path:
    """Flag 11 of a directory entry (byte 8) says that its name (byte 46) is UTF-8."""
    content = npz_of()(folder).read_bytes()
    entry = content.index(b"PK\x01\x02")
    return file_of(with_changed(with_changed(content, entry + 9, b"\x08"), entry + 46, b"\xff"), "voice.npz")(folder)


def damaged_lzma(folder: Path) -> Path:
    path = folder / "voice.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("semantic_prompt.npy", bytes(1_000))
    content = path.read_bytes()
    path.write_bytes(with_changed(content, 58, b"\xff\xff\xff"))
    return path


def prompt_row(name: str, build: Callable, word: str, *, load: Callable = VoicePrompt.load, error=VoicePromptError):
    return HostileInput(f"prompt: {name}", build, load, word, error)


FLOATS = np.zeros((300, 1_024), np.float32)
PROMPTS = [
    prompt_row("a file that is not there", lambda folder: folder / "missing.npz", "No such file"),
    prompt_row("a name that no file can have", value(lambda: "a" * 5_000), "No such file"),
    prompt_row("a folder", lambda folder: folder, "is a folder"),
    prompt_row("an empty file", file_of(b"", "voice.npz"), "is empty"),
    prompt_row("a Git-LFS pointer", file_of(LFS_POINTER, "voice.npz"), "git lfs pull"),
    prompt_row("a web page saved as .npz", file_of(WEB_PAGE, "voice.npz"), "web page"),
    prompt_row("a wav named .npz", file_of(audio_bytes("wav", tone()), "voice.npz"), "RIFF"),
    prompt_row("a single .npy", file_of(npy_header("{}"), "voice.npy"), "single .npy"),
    prompt_row(
        "a pickle with a payload",
        lambda folder: file_of(pickle.dumps(Payload(folder)), "voice.npz")(folder),
        "pickle",
    ),
    prompt_row(
        "an old pickle with a payload",
        lambda folder: file_of(pickle.dumps(Payload(folder), protocol=0), "voice.npz")(folder),
        "zip archive",
    ),
    prompt_row("a PyTorch file with a payload", torch_file, "PyTorch checkpoint"),
    prompt_row("pickled tokens with a payload", pickled_tokens, "pickled"),
    prompt_row("a payload beside impossible tokens", pickled_metadata_and_bad_tokens, "from -1"),
    prompt_row("a zip cut in half", lambda f: file_of(npz_of()(f).read_bytes()[:9_000], "voice.npz")(f), "damaged"),
    prompt_row("flipped bytes", damaged_member, "damaged"),
    prompt_row("an encrypted zip", encrypted, "encrypted"),
    prompt_row("a directory that is not where the end says", moved_directory, "damaged"),
    prompt_row("a name that is not the UTF-8 that it says", name_in_no_encoding, "damaged"),
    prompt_row("flipped bytes in LZMA", damaged_lzma, "damaged"),
    prompt_row("a zip bomb", npz_with_member(bytes(17 * 2**20)), "zip bomb"),
    prompt_row(
        "a header that announces 8 TB",
        npz_with_member(npy_header("{'descr': '<i8', 'fortran_order': False, 'shape': (1099511627776,)}")),
        "announces",
    ),
    prompt_row(
        "a header with a negative shape",
        npz_with_member(npy_header("{'descr': '<i8', 'fortran_order': False, 'shape': (-8,)}") + bytes(64)),
        "announces",
    ),
    prompt_row("a header that is code", npz_with_member(npy_header("__import__('os').mkdir('x')")), "NumPy array"),
    prompt_row("a header that is nested too deep", npz_with_member(npy_header("(" * 9_000)), "NumPy array"),
    prompt_row("a member that is not an array", npz_with_member(b"hello"), "NumPy array"),
    prompt_row("entries outside of the archive", traversing_member, "fine_prompt"),
    prompt_row("no entries of Bark", npz_of(drop=tuple(prompt_arrays()), text=np.arange(3)), "holds text"),
    prompt_row("no fine codes", npz_of(drop=("fine_prompt",)), "8 codebooks"),
    prompt_row("no coarse codes", npz_of(drop=("coarse_prompt",)), "from_tokens_and_codes"),
    prompt_row("no tokens", npz_of(drop=("semantic_prompt",)), "lacks semantic_prompt"),
    prompt_row("zero tokens", npz_of(semantic_prompt=np.arange(0)), "empty"),
    prompt_row("float embeddings for tokens", npz_of(semantic_prompt=FLOATS), "embeddings"),
    prompt_row("tokens stored as floats", npz_of(semantic_prompt=np.arange(300.0)), "astype"),
    prompt_row("tokens stored as text", npz_of(semantic_prompt=np.array(["1", "2"])), "integer ids"),
    prompt_row("the end token among the tokens", npz_of(semantic_prompt=np.full(300, 10_000)), "10000"),
    prompt_row("negative tokens", npz_of(semantic_prompt=np.full(300, -1)), "from -1"),
    prompt_row(
        "codes with Bark's offsets",
        value(lambda: {key: array + 10_000 * (array.ndim == 2) for key, array in prompt_arrays().items()}),
        "offsets",
    ),
    prompt_row("two rows of tokens", npz_of(semantic_prompt=np.zeros((2, 300), int)), "Pass one row"),
    prompt_row(
        "32 codebooks",
        value(
            lambda: (
                prompt_arrays() | {"fine_prompt": np.zeros((32, 450), int), "coarse_prompt": np.zeros((2, 450), int)}
            )
        ),
        "bandwidth",
    ),
    prompt_row("coarse codes of other audio", npz_of(coarse_prompt=np.zeros((2, 450), int)), "first two rows"),
    prompt_row("coarse codes of another length", npz_of(coarse_prompt=np.zeros((2, 449), int)), "(2, 449)"),
    prompt_row("one frame too many", value(lambda: prompt_arrays(300, 451)), "= 450"),
    prompt_row("one frame too few", value(lambda: prompt_arrays(300, 449)), "trim=True"),
    prompt_row(
        "tokens and codes of two recordings",
        value(lambda: prompt_arrays(300, 600)),
        "not one utterance",
        load=lambda arrays: VoicePrompt.load(arrays, trim=True),
    ),
    prompt_row("a list", value(lambda: [1, 2, 3]), "list", error=TypeError),
    prompt_row(
        "saving as .pt",
        lambda folder: folder / "voice.pt",
        ".npz",
        load=lambda path: VoicePrompt.load(prompt_arrays()).save(path),
    ),
]

# --- configs


def config_row(name: str, values: dict, word: str) -> HostileInput:
    return HostileInput(
        f"config: {name}",
        value(lambda: {"backbone_config": {"model_type": "hubert"}, **values}),
        lambda values: BarkSemanticEncoderConfig(**values),
        word,
        ValueError,
    )


CONFIGS = [
    config_row("nothing to read", {"backbone_config": None}, "codec_hidden_size"),
    config_row("a backbone of no type", {"backbone_config": {"hidden_size": 8}}, "model_type"),
    config_row("a text model for a backbone", {"backbone_config": {"model_type": "bert"}}, "hubert"),
    config_row("a figure for a dtype", {"dtype": 1.5}, "float32"),
    config_row("a layer that does not exist", {"backbone_layers": [13]}, "between 0 and 12"),
    config_row("a negative layer", {"backbone_layers": [-1]}, "between 0 and 12"),
    config_row("no layer", {"backbone_layers": []}, "between 0 and 12"),
    config_row("layers as text", {"backbone_layers": ["9"]}, "between 0 and 12"),
    config_row("an unknown head", {"head_type": "__import__('os')"}, "transformer"),
    config_row("a negative size", {"head_type": "recurrent", "hidden_size": -1}, "1 or more"),
    config_row("a size as text", {"vocab_size": "10000"}, "whole number"),
    config_row("a size as truth", {"vocab_size": True}, "whole number"),
    config_row("no tokens", {"vocab_size": 0}, "1 or more"),
    config_row("heads that do not divide", {"head_type": "transformer", "hidden_size": 100}, "multiple"),
    config_row("an even kernel", {"conv_kernel_size": 4}, "odd"),
    config_row("dropping everything", {"dropout": 1.0}, "below 1"),
    config_row("windows without an end", {"window_s": float("nan")}, "overlap_s"),
    config_row("windows that never advance", {"window_s": 2.0, "overlap_s": 2.0}, "overlap_s"),
    config_row(
        "a spectrogram for a waveform reader", {"codec_hidden_size": 8, "codec_output": "spectrogram"}, "features"
    ),
    config_row("another output of the codec", {"codec_hidden_size": 8, "codec_output": "pickle"}, "spectrogram"),
    config_row("a weight above one", {"codec_weight": 1.5}, "between 0 and 1"),
]

# --- recipes and corpora


def recipe_in_latin_1(folder: Path) -> Path:
    return file_of("training:\n  output_dir: Übung\n".encode("latin-1"), "recipe.yaml")(folder)


def shard_of(change: Callable[[bytes], bytes] = bytes, **changes: Any) -> Callable[[Path], Path]:
    """A corpus of one row with these changes; its file is changed, too."""

    def build(folder: Path) -> Path:
        file = folder / "data" / "train-00000.parquet"
        file.parent.mkdir()
        row = {**corpus_row(0, num_tokens=20, with_audio=False), **changes}
        pq.write_table(pa.Table.from_pylist([{**row, "audio": changes.get("audio")}]), file)
        file.write_bytes(change(file.read_bytes()))
        return folder

    return build


def fairseq_of(manifest: bytes, labels: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        file_of(labels, "labels.txt")(folder)
        return file_of(manifest, "manifest.tsv")(folder)

    return build


def read_fairseq_pairs(manifest: Path) -> list:
    return [read() for _, read in read_fairseq(manifest, manifest.with_name("labels.txt"))]


def corpus_row_of(name: str, build: Callable, word: str, load: Callable = lambda folder: list(read_corpus(folder))):
    return HostileInput(f"corpus: {name}", build, load, word, ValueError)


CORPORA = [
    HostileInput("recipe: not in UTF-8", recipe_in_latin_1, read_encoder_config, "Line 2", ValueError),
    corpus_row_of("a Parquet file cut off", shard_of(lambda content: content[:-100]), "not a Parquet file"),
    corpus_row_of("flipped bytes in Parquet", shard_of(lambda content: b"PAR2" + content[4:-4] + b"PAR2"), "damaged"),
    corpus_row_of(
        "a text not in UTF-8", shard_of(lambda content: content.replace(b"a dog", b"a d\xffg"), text="a dog"), "UTF"
    ),
    corpus_row_of("tokens that are text", shard_of(semantic_tokens="abc"), "semantic_tokens"),
    corpus_row_of("negative tokens", shard_of(semantic_tokens=[-1] * 20), "0 or more"),
    corpus_row_of("no tokens at all", shard_of(semantic_tokens=[[1], [2]]), "(num_tokens,)"),
    corpus_row_of("codes of other lengths", shard_of(audio_codes=[[1, 2], [3]]), "num_frames"),
    corpus_row_of("a list for a fold", shard_of(fold=[0]), "fold is"),
    corpus_row_of("audio that is text", shard_of(audio="abc"), "neither a file nor samples"),
    corpus_row_of("audio of neither samples nor a file", shard_of(audio={"__class__": "a"}), "pair-0"),
    corpus_row_of("audio of two axes", shard_of(audio=[[0.0], [0.5]]), "(2, 1)"),
    corpus_row_of(
        "a manifest that is not in UTF-8", fairseq_of(b"/\n\xff\t1\n", b"1\n"), "Line 2", read_fairseq_pairs
    ),
    corpus_row_of(
        "a recording whose name no file can have",
        fairseq_of(b"a" * 5_000 + b"\n" + b"b" * 5_000 + b"\t1\n", b"1\n"),
        "there is no file",
        lambda manifest: [read_file(pair.audio) for pair in read_fairseq_pairs(manifest)],
    ),
    corpus_row_of(
        "an id beyond 64 bits", fairseq_of(b"/\na.wav\t1\n", b"9" * 30 + b"\n"), "are not ids", read_fairseq_pairs
    ),
]

TABLE = [*AUDIO, *PROMPTS, *CONFIGS, *CORPORA]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_hostile_input_is_refused_with_help_and_without_a_trace(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inputs"
    folder.mkdir()
    hostile = row.build(folder)
    before = files_below(tmp_path)
    with pytest.raises(row.error) as caught:
        row.load(hostile)
    message = str(caught.value)
    assert row.error is type(caught.value)
    assert row.word in message
    assert len(message) > 30
    assert not (folder / CANARY).exists()
    assert files_below(tmp_path) == before


def test_libsndfile_seeks_before_a_file_without_a_traceback(tmp_path, monkeypatch):
    """soundfile's callbacks cannot raise an error of such a seek: Python prints it instead."""
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    with pytest.raises(AudioError, match="damaged"):
        load_audio(file_of(audio_bytes("aiff", tone())[:26], "cut.aiff")(tmp_path))
    assert printed == []


def test_the_payload_would_leave_a_trace_if_it_ran(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path)))
    assert (tmp_path / CANARY).exists()


def test_every_row_has_its_own_name():
    assert len({row.name for row in TABLE}) == len(TABLE)
