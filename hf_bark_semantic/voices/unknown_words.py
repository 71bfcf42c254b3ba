"""Words of a text that a Bark does not know: it speaks something else instead, or noise.

    unknown_words_warning    a warning before the text is spoken, or nothing

A Bark may be unable to read a word, because its tokenizer has no id for it, or may never have learnt one: a small Bark
lists the words of its training as `trained_words` in the semantic part of its generation config.
"""

import re
from collections.abc import Iterable
from typing import Any

from ..bark.configs import BarkGenerationConfigs

SHOWN_WORDS = 8

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SONG = "♪"  # a sign for Bark, whether or not its tokenizer has an id for it


def unknown_words_warning(text: str, tokenizer: Any, configs: BarkGenerationConfigs) -> str | None:
    """Name the words that a Bark cannot read, and those that it was not trained on.

    Args:
        text (`str`): what is to be said.
        tokenizer (`PreTrainedTokenizerBase`): the Bark's.
        configs (`BarkGenerationConfigs`): the Bark's.

    Returns:
        `str` or `None`: sentences for a person; `None` where all words are known.
    """
    sentences = []
    unread = _unread_words(text, tokenizer)
    if unread:
        sentences.append(
            f"Bark cannot read {_listed(unread)}: its tokenizer has no letters for them. Use other letters."
        )
    trained = frozenset(getattr(configs.semantic, "trained_words", None) or ())
    if trained:
        named = {word for unreadable in unread for word in _WORD.findall(unreadable)}
        words = [word for word in dict.fromkeys(_WORD.findall(text)) if word not in named]
        untrained = [word for word in words if word.lower().replace("’", "'") not in trained]
        if untrained:
            sentences.append(
                f"This Bark knows {len(trained)} words, but not {_listed(untrained)}: it may produce noise for them. "
                "Use other words, or another Bark."
            )
    return " ".join(sentences) or None


def _unread_words(text: str, tokenizer: Any) -> list[str]:
    """The words, as they stand between white space, that are not ids or the unknown one to a tokenizer."""
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
