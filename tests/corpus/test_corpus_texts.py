"""Sentences from files and datasets."""

import json

import numpy as np
import pytest
from datasets import Dataset
from transformers import GenerationConfig

from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.corpus.texts import (
    SOUNDS,
    Sentence,
    fits_bark,
    load_sentences,
    speakable_sentences,
    with_sound,
)
from tiny import tiny_bark, tiny_bark_processor


def test_every_kind_of_file_gives_the_same_sentences(tmp_path):
    texts = ["Guten Tag.", 'Er sagte "ja", oder?']
    expected = [Sentence(text, "de") for text in texts]
    (tmp_path / "de_short.txt").write_text(f"{texts[0]}\n\n  {texts[1]}  \n", encoding="utf-8")
    (tmp_path / "a.csv").write_text('text,language\nGuten Tag.,de\n"Er sagte ""ja"", oder?",de-AT\n', encoding="utf-8")
    rows = "".join(f"x\t{i}.mp3\t{text}\tde\n" for i, text in enumerate(texts))
    (tmp_path / "validated.tsv").write_text(f"client_id\tpath\tsentence\tlocale\n{rows}", encoding="utf-8-sig")
    lines = [json.dumps({"said": text, "language": "de"}) for text in texts]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    Dataset.from_dict({"text": texts, "language": ["de", "de"]}).save_to_disk(tmp_path / "dataset")
    assert load_sentences(tmp_path / "de_short.txt") == expected
    for name in ("a.csv", "validated.tsv", "dataset"):
        assert load_sentences(tmp_path / name) == expected, name
    assert load_sentences(tmp_path / "a.jsonl", columns={"text": "said"}) == expected
    assert load_sentences(tmp_path / "a.jsonl", columns={"text": "said"}, language="en")[0].language == "en"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "words\nhello\n", "no column normalized_text or text .*; it has words"),
        ("a.txt", "\n\n", "holds no rows"),
        ("a.csv", "text,id\n,1\n", "holds no sentence"),
        ("a.jsonl", "[1]\n", "Line 1 of .* is not a JSON object"),
        ("a.jsonl", "{", "Line 1 of .* cannot be read"),
        ("a.csv", "text,language\nhej,sv\n", "Bark doesn't speak 'sv'"),
        ("a.txt", b"\xff\xfe\x00", "Line 1 of .* is not in UTF-16. Save it in UTF-8"),
    ],
)
def test_what_cannot_be_read_is_explained(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        load_sentences(tmp_path / name)


def test_the_shared_sentences_are_read_with_their_languages(real_data):
    files = sorted((real_data / "sentences").glob("*.txt"))
    found = {file.stem: load_sentences(file) for file in files}
    assert len(found) == 14 and len(found["en_harvard"]) == 720
    assert all(sentence.language == name[:2] for name, sentences in found.items() for sentence in sentences)


def test_long_texts_are_cut_and_repetitions_left_out():
    sentences = [Sentence("One two. Three four.", "en"), Sentence("Three four.", "en"), Sentence("Three four.", "de")]
    found = speakable_sentences(sentences, lambda text: len(text) <= 11)
    assert found == [Sentence("One two.", "en"), Sentence("Three four.", "en"), Sentence("Three four.", "de")]
    assert speakable_sentences([Sentence("x" * 9)], lambda text: False) == []


def test_a_text_fits_if_bark_can_read_and_finish_it():
    bark, tokenizer = tiny_bark(max_new_tokens=100), tiny_bark_processor().tokenizer
    block_size = bark.semantic.config.block_size
    fits = fits_bark(tokenizer, bark_generation_configs(bark), block_size, with_sounds=False)
    assert fits("the dog runs") and not fits("the dog runs, and the cat sleeps!")  # 2 s of 1.82
    with_sounds = fits_bark(tokenizer, bark_generation_configs(bark), block_size, with_sounds=True)
    assert with_sounds("a dog") and not with_sounds("the dog runs") and not fits("")
    values = {**bark.generation_config.to_dict()}
    values["semantic_config"] = {**values["semantic_config"], "max_input_semantic_length": 2}
    configs = bark_generation_configs(GenerationConfig(**values))
    assert not fits_bark(tokenizer, configs, block_size, with_sounds=False)("the dog runs")


def test_a_sound_goes_between_clauses_and_never_changes_the_words():
    text, seen = "Well, I see. 好，再见。", set()
    for sound in range(len(SOUNDS)):
        for place in range(12):
            changed = with_sound(text, sound, place)
            seen.add(changed)
            assert SOUNDS[sound] in changed
            without = " ".join(changed.replace(SOUNDS[sound], " ").split())
            assert without.replace("， 再", "，再") == text
    assert len(seen) == 1 + 6 * 5 and with_sound("[laughs] No.", 0, 0) == "[laughs] No."
    assert {with_sound("One, two.", 1, place) for place in range(9)} == {
        "[laughs] One, two.", "One, [laughs] two.", "One, two. [laughs]"
    }  # fmt: skip
    assert with_sound("La la", SOUNDS.index("♪"), int(np.uint64(2**63))) == "♪ La la ♪"
