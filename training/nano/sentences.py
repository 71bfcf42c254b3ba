"""The texts of nano: digit strings and short everyday sentences with a vocabulary of about 500 words.

    text = random_text(rng)         # a text of the domain
    all_words()                     # all words of the domain
    is_held_out(text)               # True for one text in twelve, which no training stage may use

Sentences come from a small grammar, so every word is frequent, and evaluation sentences are new.
"""

import re
import zlib

import numpy as np

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HELD_OUT_IN = 12

WORDS = {
    "person": """man woman boy girl child teacher doctor farmer driver king queen baker singer painter neighbour
        student soldier sailor nurse writer guest friend brother sister mother father uncle aunt grandmother
        captain""",
    "animal": "dog cat horse bird cow sheep mouse fish duck pig rabbit bear fox lion tiger goat hen wolf bee frog",
    "thing": """book letter chair table lamp box bag bottle cup plate knife spoon coat hat shoe key clock phone
        picture ball boat car bicycle basket blanket candle mirror piano radio ticket umbrella window door
        wallet paper pencil ladder hammer bell coin map ring""",
    "food": """bread butter cheese soup rice meat salad cake apple banana orange lemon potato tomato onion egg
        sugar salt milk tea coffee water juice honey""",
    "place": """house garden kitchen market school church station office hospital library park forest village city
        river lake beach mountain farm bridge street shop hotel airport museum theatre harbour valley island
        castle""",
    "size": "big small old new long short heavy light little large tiny huge",
    "quality": """red blue green yellow black white brown grey clean dirty warm cold broken empty quiet strange lovely
        simple beautiful expensive cheap wooden wet dry soft hard bright dark round""",
    "mood": "happy sad tired hungry angry busy afraid ready late early sick young kind brave proud nervous",
    "goes": "walks runs drives travels goes moves rides hurries returns",
    "went": "walked ran drove travelled went moved rode hurried returned",
    "takes": "takes buys sells finds opens wants needs carries paints cleans watches breaks forgets sees likes holds",
    "took": """took bought sold found opened wanted needed carried painted cleaned watched broke forgot saw liked
        held lost dropped""",
    "take": "take buy sell find open carry paint clean watch bring keep hold hide fix wash",
    "does": "sings dances sleeps laughs waits works cries swims reads writes cooks smiles listens talks",
    "doing": """singing dancing sleeping laughing waiting working crying swimming reading writing cooking playing
        talking""",
    "how": "slowly quickly quietly loudly happily carefully again together alone well badly outside",
    "weather": "sunny cloudy windy cold warm hot rainy dark foggy quiet",
    "name": "Anna Peter Mary John David Sarah Paul Emma Tom Lucy James Helen Robert Alice Henry Julia",
    "to": "to from across through around past towards",
}  # fmt: skip
PHRASES = {
    "when": [
        "today", "tomorrow", "tonight", "yesterday", "now", "later", "soon", "every day", "in the morning",
        "in the evening", "in the afternoon", "at night", "after lunch", "before dinner", "on Monday", "on Tuesday",
        "on Friday", "on Sunday", "in summer", "in winter", "last week", "next year",
    ],
    "where": ["under", "behind", "beside", "near", "in front of", "next to", "on top of", "inside"],
    "number": [
        "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty", "thirty",
        "fifty", "a hundred",
    ],
}  # fmt: skip
TEMPLATES = """
the {size} {person} {goes} {to} the {place} .
the {person} {went} {to} the {quality} {place} {when} .
{name} {took} a {quality} {thing} {when} .
{name} and {name} are {doing} in the {place} .
the {animal} is {where} the {thing} .
there is a {size} {animal} in the {place} .
there are {number} {animal}s in the {place} .
i would like some {food} and some {food} , please .
could you {take} the {thing} , please ?
where is the {quality} {thing} ?
why is the {person} so {mood} {when} ?
my {person} {does} {how} {when} .
please {take} the {thing} and {take} the {thing} .
it is {weather} {when} .
it was {weather} and {weather} in the {place} .
do you like {food} with {food} ?
we need {number} {thing}s and some {food} .
{name} is {mood} because the {thing} is {quality} .
the {quality} {thing} is {where} the {quality} {thing} .
she {took} the {thing} {to} the {place} .
he {does} {how} in the {place} .
they {went} {to} the {place} with {number} {animal}s .
i {took} the {size} {thing} for my {person} .
can the {animal} {take} the {food} ?
what did the {person} say about the {thing} ?
good morning , {name} , how are you {when} ?
thank you for the {quality} {thing} , {name} .
the {place} is {quality} and the {place} is {quality} .
no , the {person} is not {mood} .
yes , {name} {takes} the {thing} {when} .
when the {person} {does} , the {animal} {does} .
if it is {weather} {when} , we can go to the {place} .
he said that the {person} {took} the {food} .
nobody {took} the {quality} {thing} .
the train to the {place} leaves at {number} .
i am {mood} and my {person} is {mood} .
""".strip().split("\n")
PLURALS = {"mouse": "mice", "sheep": "sheep", "fish": "fish", "wolf": "wolves", "knife": "knives", "fox": "foxes"}
PLURALS |= {"box": "boxes", "watch": "watches", "radio": "radios"}


def random_text(rng: np.random.Generator, digits: float = 0.3) -> str:
    """A digit string (with that probability) or a sentence."""
    if rng.random() < digits:
        return " ".join(rng.choice(DIGITS, int(rng.integers(3, 8)))) + "."
    words = [_word(word, rng) for word in TEMPLATES[rng.integers(len(TEMPLATES))].split()]
    text = re.sub(r" ([.,?])", r"\1", " ".join(words))
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    text = re.sub(r"\bi\b", "I", text)
    return text[0].upper() + text[1:]


def all_words() -> list[str]:
    """All words that a text can contain, in lower case."""
    texts = [choice for template in TEMPLATES for slot in template.split() for choice in _choices(slot)]
    return sorted({word for text in [*texts, *DIGITS, "an"] for word in re.findall(r"[a-z]+", text.lower())})


def _word(slot: str, rng) -> str:
    choices = _choices(slot)
    return choices[rng.integers(len(choices))] if slot.startswith("{") else slot


def _choices(slot: str) -> list[str]:
    """The choices for a slot of a template, such as `{animal}s`; any other word has one choice, itself."""
    kind, suffix = re.fullmatch(r"\{(\w+)\}(\w*)", slot).groups() if slot.startswith("{") else (None, "")
    if kind is None:
        return [slot]
    words = PHRASES.get(kind) or WORDS[kind].split()
    return [PLURALS.get(word, word + "s") for word in words] if suffix else words


def is_held_out(text: str) -> bool:
    """Whether a text is held out for evaluations; a function of its words only."""
    words = re.sub(r"[^a-z ]", "", text.lower())
    return zlib.crc32(words.encode()) % HELD_OUT_IN == 0
