"""Encoders by the community for Suno's Bark: downloaded from the Hub and converted once, for `from_pretrained`.

    COMMUNITY            the encoders by name
    community_encoder    the folder of an encoder, which is made on the first call
    community_source     the origin of such a folder

All are quantizers of github.com/gitmylo's program on layer 9 of HuBERT base, and read raw audio.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import cached_assets_path
from huggingface_hub.utils import WeakFileLock

from ..files import read_json, sha256_of_file, write_json
from ..processing_bark_semantic import BarkSemanticEncoderProcessor
from .hub import hub_errors, hub_file
from .hubert import HUBERT_BASE, whole_hubert
from .quantizer import convert_quantizer

logger = logging.getLogger(__name__)

SOURCE = "source.json"
LAYER = 9


@dataclass(frozen=True)
class CommunityEncoder:
    """A quantizer on the Hub.

    Args:
        language (`str`): language of its training data.
        repository, file (`str`): its place on the Hub.
        revision (`str`, *optional*): the commit to download; by default, the newest.
        measured (`str`, *optional*): a sentence with its measured accuracy.
    """

    language: str
    repository: str
    file: str
    revision: str | None = None
    measured: str | None = None


GITMYLO = "GitMylo/bark-voice-cloning", "c26e70f3311c6973ca86511dd18b6a8ee073e830"
COMMUNITY = {
    "en": CommunityEncoder(
        "English", GITMYLO[0], "quantifier_hubert_base_ls960_14.pth", GITMYLO[1],
        # evaluate_encoder.py --corpus outputs/bark_artefacts
        "Suno's presets, read from enhanced audio: 35.4% of the tokens right in English (95 % interval 31.8% to "
        "38.8%; 10 clips), 18.4% in 13 languages (17.1% to 19.8%; 119 clips).",
    ),
    "en-large": CommunityEncoder("English", GITMYLO[0], "quantifier_V1_hubert_base_ls960_23.pth", GITMYLO[1]),
    "de": CommunityEncoder(
        "German", "CountFloyd/bark-voice-cloning-german-HuBERT-quantizer", "german-HuBERT-quantizer_14_epoch.pth"
    ),
    "es": CommunityEncoder("Spanish", "Lancer1408/bark-es-tokenizer", "es_tokenizer.pth"),
    "ja": CommunityEncoder(
        "Japanese", "junwchina/bark-voice-cloning-japanese-HuBERT-quantizer", "japanese-HuBERT-quantizer_24_epoch.pth"
    ),
    "pl": CommunityEncoder(
        "Polish", "Hobis/bark-voice-cloning-polish-HuBERT-quantizer", "polish-HuBERT-quantizer_8_epoch.pth"
    ),
    "pt": CommunityEncoder(
        "Portuguese", "MadVoyager/bark-voice-cloning-portuguese-HuBERT-quantizer",
        "portuguese-HuBERT-quantizer_24_epoch.pth",
    ),
    "tr": CommunityEncoder(
        "Turkish", "egeadam/bark-voice-cloning-turkish-HuBERT-quantizer", "turkish_model_epoch_14.pth"
    ),
}  # fmt: skip


def community_encoder(name: str) -> Path:
    """The folder of a community encoder; the first call downloads it from the Hub and converts it, without its code.

    The folder is in huggingface_hub's cache of assets (`HF_ASSETS_CACHE`). Its `source.json` has the origin:
    repository, file, SHA-256, and the revisions of the quantizer and of HuBERT. Delete the folder to download the
    current version.

    Args:
        name (`str`): a key of `COMMUNITY`, such as `"en"`.

    Raises:
        ValueError: there is no such encoder, or its file cannot be converted.
        OSError: the download failed; the message has the reason.
    """
    folder = _folder(name)
    if not folder.is_dir():
        with WeakFileLock(folder.with_name(f"{folder.name}.lock")):  # several processes may call this at once
            if not folder.is_dir():
                _make(COMMUNITY[name], folder)
    return folder


def community_source(name: str) -> dict | None:
    """The origin of a community encoder's folder; `None` if it has not been made yet."""
    folder = _folder(name)
    return read_json(folder / SOURCE, cure="Remove the folder; it is made again.") if folder.is_dir() else None


def _folder(name: str) -> Path:
    """The path of a community encoder's folder; each revision has its own."""
    if name not in COMMUNITY:
        raise ValueError(f"There is no community encoder {name!r}; there are {', '.join(COMMUNITY)}.")
    root = cached_assets_path("hf_bark_semantic", "encoders")
    return root / f"community-{name}-{COMMUNITY[name].revision or 'newest'}"


def _make(encoder: CommunityEncoder, folder: Path) -> None:
    path, revision = hub_file(encoder.repository, encoder.file, encoder.revision)
    _, hubert_revision = hub_file(HUBERT_BASE, "config.json")
    with hub_errors(f"Cannot fetch {HUBERT_BASE}: "):
        hubert = whole_hubert(HUBERT_BASE, hubert_revision)
    logger.info("Converting %s of %s, once.", encoder.file, encoder.repository)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed process
    convert_quantizer(path, hubert, layer=LAYER).save_pretrained(unfinished)
    BarkSemanticEncoderProcessor().save_pretrained(unfinished)
    source = {"repository": encoder.repository, "file": encoder.file, "revision": revision}
    source |= {"sha256": sha256_of_file(path), "layer": LAYER}
    source |= {"backbone": HUBERT_BASE, "backbone_revision": hubert_revision}
    write_json(unfinished / SOURCE, source)
    unfinished.rename(folder)


__all__ = ["COMMUNITY", "community_encoder", "community_source"]
