"""Doors for checkpoints of other programs."""

from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from foreign_checkpoints import TINY_ENCODEC, autoregressive_file, saved_encodec, tiny_hubert, whisper_file
from fuzz.doors.door import digest, file_door
from hf_bark_semantic.conversion.autoregressive import convert_autoregressive
from hf_bark_semantic.conversion.checkpoint import CheckpointError
from hf_bark_semantic.conversion.ctranslate2 import convert_whisper_ctranslate2
from hf_bark_semantic.conversion.encodec import convert_encodec
from hf_bark_semantic.conversion.quantizer import convert_quantizer
from quantizers import quantizer_file

hubert = cache(tiny_hubert)


def written_by(*makers) -> list[bytes]:
    """The files that each maker writes to a folder."""
    with TemporaryDirectory() as folder:
        return [make(Path(folder)).read_bytes() for make in makers]


def read_quantizer(path: Path) -> str:
    return digest(convert_quantizer(path, hubert(), layer=2).head)


def read_autoregressive(path: Path) -> str:
    return digest(convert_autoregressive(path, hubert(12).config))


def read_encodec(path: Path) -> str:
    return digest(convert_encodec(path, config=TINY_ENCODEC))


def read_whisper(path: Path) -> str:
    return digest(convert_whisper_ctranslate2(path))


QUANTIZERS = (quantizer_file, partial(quantizer_file, version=1))
DOORS = [
    file_door("pth", partial(written_by, *QUANTIZERS), read_quantizer, CheckpointError, 40),
    file_door("pt", partial(written_by, autoregressive_file), read_autoregressive, CheckpointError, 6),
    file_door("th", partial(written_by, saved_encodec), read_encodec, CheckpointError, 6),
    file_door("ctranslate2", partial(written_by, whisper_file), read_whisper, CheckpointError, 30, "model.bin"),
]
