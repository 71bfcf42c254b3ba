"""The error for a damaged file of settings or figures names the file and a remedy."""

import re
from pathlib import Path

import pytest

from hf_bark_semantic.bark.adapter_bundle import load_adapters
from hf_bark_semantic.bark.adapters import AdapterError
from hf_bark_semantic.bark.presets import voice_presets
from hf_bark_semantic.cli.package_encoder import read_scores
from hf_bark_semantic.corpus.bark_artefacts import pair_rows
from hf_bark_semantic.corpus.card import corpus_card
from hf_bark_semantic.corpus.shards import open_corpus
from hf_bark_semantic.evaluation.journal import Journal
from hf_bark_semantic.files import read_json
from hf_bark_semantic.packaged import card_template
from hf_bark_semantic.trainers.records import training_record
from hf_bark_semantic.trainers.settings import remember_settings
from hf_bark_semantic.trainers.validation import Validation
from tiny import tiny_bark

DAMAGE = {
    "cut off": b'{"a": 1, "b": ',
    "empty": b"",
    "zeros": bytes(20),
    "no UTF-8": b'{"a": "\xff"}',
    "nested too deep": b"[" * 100_000,
    "another kind": b"3",
}


def read_validation(folder: Path) -> Validation:
    return Validation(None, None, steps=1, folder=folder, accelerator=None)


READERS = {
    "settings.json of a training": ("settings.json", lambda folder: remember_settings(folder, {})),
    "settings.json of an evaluation": ("settings.json", lambda folder: Journal(folder, {})),
    "corpus.json": ("corpus.json", lambda folder: open_corpus(folder, {"plan": {}})),
    "corpus.json for a card": ("corpus.json", lambda folder: corpus_card(folder, card_template("corpus"), texts=[])),
    "training.json": ("training.json", lambda folder: training_record(str(folder))),
    "evaluation.json": ("evaluation.json", lambda folder: training_record(str(folder))),
    "validation.json": ("validation.json", read_validation),
    "manifest.json": ("manifest.json", lambda folder: next(pair_rows(folder))),
    "scores": ("scores.json", lambda folder: read_scores(folder / "scores.json")),
    "list of presets": ("speaker_embeddings_path.json", voice_presets),
    "bundle.json": ("bundle.json", lambda folder: load_adapters(tiny_bark(), folder)),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_named_with_a_way_out(reader, damage, tmp_path):
    name, read = READERS[reader]
    (tmp_path / name).write_bytes(DAMAGE[damage])
    with pytest.raises(ValueError, match=r"(Restore|Remove|Write|Download|make) .*\.$") as caught:
        read(tmp_path)
    assert type(caught.value) in (ValueError, AdapterError)
    assert re.match(f"{str(tmp_path / name)!r} (is not JSON: .|holds an? int; it must hold a )", str(caught.value))


def test_a_file_that_is_not_there_is_another_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(Path(tmp_path, "none.json"))
