"""No id of Suno's models is hard-coded: every vocabulary comes from the model that is used."""

import io
import re
import tokenize
from pathlib import Path

import pytest
from transformers.models.bark.generation_configuration_bark import (
    BarkCoarseGenerationConfig,
    BarkFineGenerationConfig,
    BarkGenerationConfig,
    BarkSemanticGenerationConfig,
)

import hf_bark_semantic
from hf_bark_semantic import BarkSemanticEncoderConfig, VoicePrompt
from hf_bark_semantic.bark.configs import SUNO_HISTORIES

PACKAGE = Path(hf_bark_semantic.__file__).parent
SUNO_IDS = ("10000", "10048", "129595", "129599", "12048", "12050", "11024")
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "metrics" not in path.parts)  # metrics have no model to ask
NO_IDS = {("significance.py", "10_000")}  # resamples of a bootstrap
BY_WORDS = re.compile(r"\b(?:" + "|".join(SUNO_IDS) + r")\b")


def numbers_and_strings(source: str) -> list[tuple[int, str]]:
    """Line and text of all but comments and docstrings."""
    found, statement_start = [], True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            statement_start = True
        elif token.type not in (tokenize.NL, tokenize.COMMENT):
            is_docstring = token.type == tokenize.STRING and statement_start
            if token.type in (tokenize.NUMBER, tokenize.STRING) and not is_docstring:
                found.append((token.start[0], token.string))
            statement_start = False
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_id_of_suno_is_in_the_code(path):
    found = numbers_and_strings(path.read_text(encoding="utf-8"))
    found = [(line, text) for line, text in found if (path.name, text) not in NO_IDS]
    assert [(line, text) for line, text in found if BY_WORDS.search(re.sub("[_,]", "", text))] == []


def test_the_search_finds_what_it_looks_for():
    source = 'def f():\n    """10_000 is Suno\'s."""\n    x = 1_000  # 10000\n    return x + 10_048, "12,048"\n'
    texts = [text for _, text in numbers_and_strings(source)]
    assert texts == ["1_000", "10_048", '"12,048"']
    assert [bool(BY_WORDS.search(re.sub("[_,]", "", text))) for text in texts] == [False, True, True]


def test_defaults_are_those_of_transformers():
    semantic, coarse, fine = BarkSemanticGenerationConfig(), BarkCoarseGenerationConfig(), BarkFineGenerationConfig()
    assert semantic.max_input_semantic_length == SUNO_HISTORIES.semantic_tokens
    assert coarse.max_coarse_history == SUNO_HISTORIES.coarse_ids
    assert fine.max_fine_history_length == SUNO_HISTORIES.fine_frames
    config = BarkSemanticEncoderConfig(codec_hidden_size=16)
    prompt = VoicePrompt([1, 2], [[3, 4, 5]] * 8)
    assert config.vocab_size == prompt.semantic_vocab_size == semantic.semantic_vocab_size
    assert config.codebook_size == prompt.codebook_size == BarkGenerationConfig().codebook_size
