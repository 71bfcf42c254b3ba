"""Download Suno's Barks from the Hub, with size and progress."""

import io
from collections.abc import Callable

from huggingface_hub import snapshot_download
from tqdm.auto import tqdm

SUNO_BARKS = ("suno/bark-small", "suno/bark")
PATTERNS = ["*.json", "*.txt", "*.safetensors", "pytorch_model*.bin", "speaker_embeddings/*.npy"]  # not Suno's .pt


def download_size(bark: str) -> int:
    """The number of bytes of a Bark that are not in the local cache yet.

    Raises:
        OSError: the Hub cannot be reached.
    """
    files = snapshot_download(bark, allow_patterns=PATTERNS, dry_run=True)
    return sum(file.file_size or 0 for file in files if file.will_download)


def download(bark: str, on_progress: Callable[[float], None]) -> None:
    """Download a Bark to the local Hub cache; an interrupted download continues.

    Args:
        bark (`str`): its Hub id.
        on_progress (`Callable[[float], None]`): is called with the finished share; an exception that it raises ends
            the download.

    Raises:
        OSError: the Hub cannot be reached, or the disk is full.
    """

    class Bar(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

        def update(self, n=1):
            shown = super().update(n)
            if self.unit == "B" and self.total:  # the other bar counts files
                on_progress(min(1.0, self.n / self.total))
            return shown

    snapshot_download(bark, allow_patterns=PATTERNS, tqdm_class=Bar)


__all__ = ["SUNO_BARKS", "download", "download_size"]
