"""The packaged models, and the packaged encoder for each Bark."""

import shutil

import pytest

from hf_bark_semantic import packaged
from hf_bark_semantic.packaged import bark_folder, card_template, encoder_for, recipe


def test_the_encoder_of_a_bark_is_the_one_with_its_tokens(package_with_nano, bark_folder, tmp_path):
    builtin, nano = package_with_nano / "BUILTIN_ENCODER", package_with_nano / "NANO_ENCODER"
    copy_of_nano = tmp_path / "tuned"
    shutil.copytree(bark_folder, copy_of_nano)
    for bark, encoder in (
        ("nano", nano),
        (copy_of_nano, nano),
        (str(copy_of_nano), nano),
        (50, nano),
        (40, builtin),
        ("suno/bark", builtin),
        (tmp_path / "nowhere", builtin),
    ):
        assert encoder_for(bark) == encoder, bark


def test_only_nano_stands_for_a_packaged_bark():
    assert bark_folder("nano") == packaged.NANO_BARK
    assert bark_folder("suno/bark-small") == "suno/bark-small"


@pytest.mark.parametrize("name", ["builtin", "nano", "finetune_lora"])
def test_recipes_are_found_by_name(name):
    assert recipe(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["encoder", "adapter", "corpus", "nano", "nano-encoder"])
def test_card_templates_are_found_by_name(name):
    assert card_template(name).read_text(encoding="utf-8")


def test_an_unknown_recipe_names_those_that_there_are():
    with pytest.raises(
        FileNotFoundError, match=r"There is no recipe 'bultin'; did you mean builtin\? There are .*builtin, .*nano"
    ):
        recipe("bultin")
