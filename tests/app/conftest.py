"""A page on tiny models."""

import pytest
from transformers import pipeline

from hf_bark_semantic.app.shelf import Shelf
from hf_bark_semantic.app.studio import Studio
from tiny import tiny_encoder


@pytest.fixture
def long_text() -> str:
    """It takes a minute or more to speak."""
    return "the dog runs. the cat sleeps. " * 1_000


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("encoder")
    pipeline("audio-to-bark-semantic", model=tiny_encoder(), device="cpu").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def studio(bark_folder, encoder) -> Studio:
    return Studio(bark_folder, encoder=encoder, device="cpu")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("voices"))


@pytest.fixture(autouse=True)
def _nothing_is_kept_from_test_to_test(shelf):
    for file in shelf.folder.iterdir():
        file.unlink()


@pytest.fixture(scope="module")
def address(studio, shelf):
    from hf_bark_semantic.app import page as app

    page = app.build_page(studio, shelf)
    _, local, public = app.launch(page, port=None)
    assert public is None
    yield local
    page.close()
