"""Splitting of text: only white space is lost, and each piece fits into one generation."""

import re

import pytest

from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.voices import splitting
from hf_bark_semantic.voices.splitting import estimate_duration_s, piece_fits, split_text
from tiny import tiny_bark, tiny_bark_processor

ENGLISH = (
    "Call me Ishmael. Some years ago - never mind how long precisely - having little or no money in my purse, and "
    "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of the "
    "world. It is a way I have of driving off the spleen, and regulating the circulation!\n\nWhenever I find myself "
    "growing grim about the mouth [sighs]; whenever it is a damp, drizzly November in my soul... then, I account it "
    'high time to get to sea. "This is my substitute for pistol and ball." With 1,851 men, Cato throws himself.'
)
JAPANESE = "おはようございます。本日の天候情報ですが、おおむね晴れとなっております。" * 4
SONG = "He sang. ♪ In the jungle, the mighty jungle, the lion sleeps tonight ♪ And we laughed [laughs] until dawn."
LONG_WORD = "Donaudampfschifffahrtsgesellschaftskapitänskajütenschlüssel" * 3
MIXED = f"{ENGLISH} {JAPANESE} {SONG} {LONG_WORD} 😀👩‍🚀 नमस्ते दुनिया। สวัสดีชาวโลก"


def fits(seconds: float):
    return lambda text: estimate_duration_s(text) <= seconds


def letters(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("text", [ENGLISH, JAPANESE, SONG, LONG_WORD, MIXED])
@pytest.mark.parametrize("seconds", [2.5, 5.0, 14.0])
def test_pieces_joined_are_the_text_and_each_fits(text, seconds):
    pieces = split_text(text, fits(seconds))
    assert letters("".join(pieces)).replace("♪♪", "") == letters(text)  # a song that is cut gets marks at the cut
    assert all(fits(seconds)(piece) for piece in pieces)
    assert all(piece == " ".join(piece.split()) for piece in pieces)
    assert len(pieces) >= estimate_duration_s(text) / seconds


def test_text_that_fits_is_passed_through_untouched():
    text = "WOMAN: I would like an OATMILK latte, please. [laughs] ♪ la la ♪ Größe... naïve — ¿qué?"
    assert split_text(text, fits(14)) == [text]


def test_sentences_are_kept_whole_where_they_fit():
    pieces = split_text("One fine day. Then another one! Was it? It was so.\n\nAnd no more.", fits(2.1))
    assert pieces == ["One fine day. Then another one!", "Was it? It was so. And no more."]


def test_long_sentences_are_cut_at_clauses_then_at_words():
    assert split_text("When it rains, all of the cats sleep; the dogs do not.", fits(2.0)) == [
        "When it rains,", "all of the cats sleep;", "the dogs do not.",
    ]  # fmt: skip
    assert split_text("all of the cats sleep in the house", lambda text: len(text) < 15) == [
        "all of the",
        "cats sleep in",
        "the house",
    ]


@pytest.mark.parametrize(
    "sentence",
    ["I met Dr. Who and Mrs. Dalloway.", "J. F. Kennedy spoke.", "It costs 3.14 today.", "Well... yes, why not?"],
)
def test_a_full_stop_inside_of_a_sentence_does_not_end_it(sentence):
    assert split_text(f"{sentence} {sentence}", fits(estimate_duration_s(sentence))) == [sentence, sentence]


def test_cues_are_never_cut():
    text = "the cats sleep [clears throat for a very long time indeed] and the dogs do not"
    for seconds in (1.0, 1.5, 2.0, 3.0):
        assert any("[clears throat for a very long time indeed]" in piece for piece in split_text(text, fits(seconds)))


def test_cue_that_does_not_fit_alone_is_cut_rather_than_lost():
    pieces = split_text("[" + "very " * 20 + "long]", lambda text: len(text) <= 30)
    assert letters("".join(pieces)) == "[" + "very" * 20 + "long]"
    assert len(pieces) == 4


def test_songs_stay_together_where_they_fit():
    song = "♪ In the jungle, the mighty jungle, the lion sleeps tonight ♪"
    assert split_text(SONG, fits(6.2)) == ["He sang.", song, "And we laughed [laughs] until dawn."]
    assert split_text(SONG, fits(4.5))[1:3] == ["♪ In the jungle, the mighty jungle, ♪", "♪ the lion sleeps tonight ♪"]


def test_the_speaker_is_named_again():
    text = "First words. MAN: I think so. I am sure of it. [WOMAN] Are you? I am not."
    assert split_text(text, lambda text: len(text) < 22) == [
        "First words.", "MAN: I think so.", "MAN: I am sure of it.", "[WOMAN] Are you?", "[WOMAN] I am not.",
    ]  # fmt: skip


def test_a_speaker_tag_does_not_end_a_piece():
    for seconds in (0.8, 1.0, 1.2, 1.6):
        pieces = split_text("the dog sleeps MAN: the cat does not", fits(seconds))
        assert not any(piece.endswith("MAN:") for piece in pieces)


def test_accents_stay_with_their_letters():
    pieces = split_text("e\u0301" * 6, lambda text: len(text) <= 3)
    assert pieces == ["e\u0301"] * 6


def test_piece_limits_may_be_anything():
    pieces = split_text("the dog runs . the cat sleeps", lambda text: len(text.split()) <= 2)
    assert pieces == ["the dog", "runs .", "the cat", "sleeps"]
    assert split_text("abc", lambda text: False) == ["a", "b", "c"]


def test_the_rest_of_a_long_text_is_not_timed_letter_by_letter(monkeypatch):
    """Every piece would read all that follows it: a minute for 30,000 characters without sentences."""
    bark, timed = tiny_bark(max_new_tokens=300), []
    fits = piece_fits(tiny_bark_processor().tokenizer, bark_generation_configs(bark), bark.semantic.config.block_size)
    monkeypatch.setattr(splitting, "estimate_duration_s", lambda text: timed.append(len(text)) or len(text) / 15)
    pieces = split_text("the dog runs " * 300, fits)
    assert len(pieces) > 10 and max(timed) < 2 * max(map(len, pieces))


@pytest.mark.parametrize("text", ["a" * 20_000, "♪ a " * 5_000, "the dog " * 2_500])
def test_the_rest_of_a_text_is_not_read_for_each_piece(text):
    """A million letters without a space took minutes."""
    read = []
    pieces = split_text(text, lambda piece: read.append(len(piece)) or len(piece) <= 200)
    assert len(pieces) >= 100 and sum(read) < 100 * len(text)


@pytest.mark.parametrize("text", ["♪" * 500_000, "♪" + " " * 500_000 + "♪", "♪ a" + " " * 500_000 + "b"])
def test_songs_are_found_without_going_back(text):
    """A search that tries each ♪ again takes hours."""
    assert estimate_duration_s(text) > 0


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("The dog sleeps in the house. The cat does not.", "The dog sleeps in the house."),
        (
            "When it rains, all of the cats sleep; but the dogs of the house do not.",
            "When it rains, all of the cats sleep;",
        ),
        ("No! The dog sleeps in the house, the cat does not.", "No! The dog sleeps in the house,"),
        ("MAN: When it rains the cats sleep. The dogs do not.", "MAN: When it rains the cats sleep."),
    ],
)
def test_short_first_piece_is_the_first_sentence_or_clause(text, first):
    pieces = split_text(text, fits(14), short_first=True)
    assert pieces[0] == first and len(pieces) == 2
    assert letters("".join(pieces)).replace("MAN:", "") == letters(text).replace("MAN:", "")


@pytest.mark.parametrize(
    "text",
    ["The dog sleeps in the house.", "Yes! The dog sleeps.", "all of the cats and all of the dogs sleep in the house",
     "♪ In the jungle, the mighty jungle, the lion sleeps tonight ♪", "The dog sleeps in the house. Yes!"],
)  # fmt: skip
def test_nothing_short_is_cut_off(text):
    assert split_text(text, fits(14), short_first=True) == [text]


def test_short_first_piece_must_fit():
    text = "all of the cats and all of the dogs sleep. The man does not."
    assert split_text(text, fits(2), short_first=True) == split_text(text, fits(2))


def test_durations_are_those_of_real_clips():
    fable = (
        "A Queen Bee from Hymettus flew up to Olympus with some fresh honey from the hive as a present to Jupiter, "
    )
    assert estimate_duration_s(fable) == pytest.approx(len(fable) / 15)
    assert estimate_duration_s("おはようございます") == pytest.approx(9 / 5)
    assert estimate_duration_s("1984") > estimate_duration_s("nine")
    assert estimate_duration_s("[laughs]") == 1.0
    assert estimate_duration_s("♪ la la la ♪") == pytest.approx(1.5 * estimate_duration_s("- la la la -"))


@pytest.mark.parametrize(
    ("text", "error"), [("", ValueError), (" \n", ValueError), (["a"], TypeError), (3, TypeError)]
)
def test_what_is_no_text_is_refused(text, error):
    with pytest.raises(error, match="`text` is"):
        split_text(text, fits(14))
