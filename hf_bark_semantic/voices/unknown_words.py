"""Find the words of a text that a Bark cannot speak: it would speak other words, or noise.

    unknown_words_warning    a warning about unknown words, or `None`

A word is unknown if Bark's tokenizer has no ids for it, or if it was not in the training data: a small Bark lists the
words of its training as `trained_words` in the semantic part of its generation config.
"""

import re
from collections.abc import Iterable
from typing import Any

from ..bark.configs import BarkGenerationConfigs

SHOWN_WORDS = 8

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SONG = "♪"  # a sign for Bark, with or without an id in its tokenizer


def unknown_words_warning(text: str, tokenizer: Any, configs: BarkGenerationConfigs) -> str | None:
    """Name the words that a Bark cannot read, and those that it was not trained on.

    Args:
        text (`str`): the text to speak.
        tokenizer (`PreTrainedTokenizerBase`): the Bark's tokenizer.
        configs (`BarkGenerationConfigs`): of the Bark.

    Returns:
        `str` or `None`: one or two sentences; `None` if all words are known.
    """
    sentences = []
    unread = _unread_words(text, tokenizer)
    if unread:
        sentences.append(f"Bark cannot read {_listed(unread)}: its tokenizer lacks their letters. Use other letters.")
    trained = frozenset(getattr(configs.semantic, "trained_words", None) or ())
    if trained:
        named = {word for unreadable in unread for word in _WORD.findall(unreadable)}
        words = [word for word in dict.fromkeys(_WORD.findall(text)) if word not in named]
        untrained = [word for word in words if word.lower().replace("’", "'") not in trained]
        if untrained:
            sentences.append(
                f"This Bark was trained on {len(trained)} words, not on {_listed(untrained)}: it may produce noise "
                "for them. Use other words, or another Bark."
            )
    return " ".join(sentences) or None


def _unread_words(text: str, tokenizer: Any) -> list[str]:
    """The words, separated by white space, for which a tokenizer has no id or only the unknown one."""
    words = list(dict.fromkeys(text.replace(_SONG, " ").split()))
    if not words:
        return []
    unknown = getattr(tokenizer, "unk_token_id", None)
    ids = tokenizer(words, add_special_tokens=False)["input_ids"]
    return [word for word, of_word in zip(words, ids, strict=True) if not of_word or unknown in of_word]


def _listed(words: Iterable[str]) -> str:
    shown = [f'"{word}"' for word in words]
    more = f" and {len(shown) - SHOWN_WORDS:,} more" if len(shown) > SHOWN_WORDS else ""
    return ", ".join(shown[:SHOWN_WORDS]) + more


__all__ = ["unknown_words_warning"]
