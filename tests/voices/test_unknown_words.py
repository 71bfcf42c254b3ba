"""Warnings about words that a Bark cannot speak."""

import logging

from transformers import AutoTokenizer, GenerationConfig

from hf_bark_semantic import nano_bark
from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.voices.speaking import speak_text
from hf_bark_semantic.voices.unknown_words import unknown_words_warning
from tiny import tiny_bark, tiny_bark_processor, tiny_prompt


def warning(text: str, trained_words=None) -> str | None:
    bark = tiny_bark()
    bark.generation_config.semantic_config["trained_words"] = trained_words
    return unknown_words_warning(text, tiny_bark_processor().tokenizer, bark_generation_configs(bark))


def test_words_that_the_tokenizer_cannot_read_are_named():
    assert warning("♪ The dog laughs! ♪ [laughs] A cat: one, two.") is None
    assert warning("The Zürich dog sleeps. Zürich 🙂").startswith('Bark cannot read "Zürich", "🙂": ')
    many = " ".join(f"w{i}" for i in range(100))
    assert '"w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7" and 92 more: ' in warning(many)


def test_words_that_a_small_bark_was_not_trained_on_are_named():
    assert warning("The dog, [the cat] THE DOG.", ["the", "dog", "cat"]) is None
    said = warning("The dog sleeps, a cat and a Zürich", ["the", "dog", "cat"])
    assert 'cannot read "and", "Zürich": ' in said
    assert 'This Bark was trained on 3 words, not on "sleeps", "a": ' in said


def test_nano_names_what_it_was_not_trained_on():
    configs = bark_generation_configs(GenerationConfig.from_pretrained(nano_bark()))
    tokenizer = AutoTokenizer.from_pretrained(nano_bark())
    text = "The two happy dogs run to the station tomorrow: five seven one."
    assert unknown_words_warning(text.replace("run", "and"), tokenizer, configs) is None
    said = unknown_words_warning("Supercalifragilistic is the teacher of Zürich. 你好", tokenizer, configs)
    assert 'cannot read "你好": ' in said
    assert 'trained on 501 words, not on "Supercalifragilistic", "Zürich": ' in said


def test_speech_warns_before_it_is_computed_and_in_its_result(caplog):
    seen = []
    tokenizer = tiny_bark_processor().tokenizer
    with caplog.at_level(logging.WARNING):
        speech = speak_text(
            tiny_bark(),
            "the dog runs to Zürich",
            tiny_prompt(),
            tokenizer=tokenizer,
            on_step=lambda stage: seen.append("Zürich" in caplog.text),
        )
    assert seen[0]
    assert speech.warnings[0].startswith('Bark cannot read "to", "Zürich": ')
