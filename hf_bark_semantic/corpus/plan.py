"""The plan of a corpus of Bark's own speech: texts x voices x temperatures.

    CorpusPlan    the text, voice, temperatures and seed of every row

A row is a pure function of the plan and the row's number. So any process can make a shard, at any time, and repeat it.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from ..bark.request import SynthesisRequest
from ..bark.sampling import Sampling
from ..bark.voice_prompt import VoicePrompt
from .texts import Sentence, with_sound

_VOICE_LANGUAGE = re.compile(r"(?:^|[/_])([a-z]{2})_speaker")  # Suno's names of presets: v2/en_speaker_6


@dataclass(frozen=True)
class PlannedRow:
    """The text, voice, temperatures and seed of a row."""

    index: int
    text: str
    language: str | None
    voice: str
    seed: int
    semantic_temperature: float
    coarse_temperature: float
    fine_temperature: float

    @property
    def id(self) -> str:
        return f"{self.index:08d}"

    def request(self, voice_prompt: VoicePrompt | None) -> SynthesisRequest:
        return SynthesisRequest(
            text=self.text,
            voice_prompt=voice_prompt,
            seed=self.seed,
            semantic=Sampling(self.semantic_temperature),
            coarse=Sampling(self.coarse_temperature, min_eos_p=None),
            fine=Sampling(self.fine_temperature, min_eos_p=None),
        )


@dataclass(frozen=True, eq=False)
class CorpusPlan:
    """Texts x voices x temperatures. Every text is used once before one is repeated; the rest is drawn for each row.

    Args:
        sentences (`Sequence[Sentence]`): such as from [`speakable_sentences`].
        voices (`Mapping[str, VoicePrompt | None]`): voice prompts by name; with `None`, Bark chooses a voice.
        num_rows (`int`): rows before filters. A finished corpus can only be extended, by a larger number.
        semantic_temperatures (`tuple[float, ...]`), coarse_temperatures (`tuple[float, ...]`), fine_temperatures
            (`tuple[float, ...]`): values to draw from. A Bark's own are `bark_generation_configs(bark).temperatures`.
        seed (`int`): the seed of all random choices.
        sound_share (`float`): share of the texts with an added laugh, sigh, ♪, ... ([`with_sound`]).
        match_languages (`bool`): use voices only for texts of their language; a voice whose name has no language is
            used for all texts.
        rows_per_shard (`int`): rows of a Parquet file, which is what a crash can cost each process.

    Raises:
        ValueError: no sentences, no voices, no voice for a sentence's language, or a number out of its range.
    """

    sentences: Sequence[Sentence]
    voices: Mapping[str, VoicePrompt | None]
    num_rows: int
    semantic_temperatures: tuple[float, ...]
    coarse_temperatures: tuple[float, ...]
    fine_temperatures: tuple[float, ...]
    seed: int = 0
    sound_share: float = 0.0
    match_languages: bool = True
    rows_per_shard: int = 64

    def __post_init__(self):
        rules = [
            ("sentences", len(self.sentences) > 0, "one or more"),
            ("voices", len(self.voices) > 0, "one or more; {'none': None} lets Bark choose"),
            ("num_rows", self.num_rows > 0, "1 or more"),
            ("seed", self.seed >= 0, "0 or more"),
            ("sound_share", 0 <= self.sound_share <= 1, "between 0 and 1"),
            ("rows_per_shard", self.rows_per_shard > 0, "1 or more"),
        ]
        for stage in ("semantic", "coarse", "fine"):
            name = f"{stage}_temperatures"
            rules.append((name, len(getattr(self, name)) > 0, "one or more"))
            for temperature in getattr(self, name):
                Sampling(temperature)
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; it must be {rule}.")
        unspoken = {language for _, language in self.sentences if not self._voices_of(language)}
        if unspoken:
            raise ValueError(
                f"No voice speaks {', '.join(sorted(map(str, unspoken)))}. Add voices of these languages, or pass "
                "match_languages=False to mix voices and languages."
            )

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.rows_per_shard)

    def rows_of(self, shard: int) -> list[PlannedRow]:
        first = shard * self.rows_per_shard
        return [self.row(index) for index in range(first, min(first + self.rows_per_shard, self.num_rows))]

    def planned_rows(self, shards: Iterable[int] | None = None) -> dict[int, int]:
        """The number of rows of each of these shards (by default, all) before filters."""
        shards = range(self.num_shards) if shards is None else shards
        return {shard: min(self.rows_per_shard, self.num_rows - shard * self.rows_per_shard) for shard in shards}

    def row(self, index: int) -> PlannedRow:
        """Row `index`: a pure function of the sentences, voices, temperatures, seed and index."""
        epoch, place = divmod(index, len(self.sentences))
        text, language = self.sentences[_shuffled(self.seed, epoch, len(self.sentences))[place]]
        draws = [int(draw) for draw in _draws(8, self.seed, 1, index)]
        if draws[0] < self.sound_share * 2**64:
            text = with_sound(text, draws[1], draws[2])
        voices = self._voices_of(language)
        return PlannedRow(
            index=index,
            text=text,
            language=language,
            voice=voices[draws[3] % len(voices)],
            seed=draws[4] >> 33,
            semantic_temperature=self.semantic_temperatures[draws[5] % len(self.semantic_temperatures)],
            coarse_temperature=self.coarse_temperatures[draws[6] % len(self.coarse_temperatures)],
            fine_temperature=self.fine_temperatures[draws[7] % len(self.fine_temperatures)],
        )

    def description(self) -> dict:
        """Everything that rows depend on, for corpus.json; long parts are replaced by digests."""
        values = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("sentences", "voices")
        }
        sentences = "\n".join(f"{language}\t{text}" for text, language in self.sentences)
        return {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in values.items()},
            "sentences": {"count": len(self.sentences), "digest": hashlib.sha256(sentences.encode()).hexdigest()},
            "voices": {name: _digest_of_prompt(self.voices[name]) for name in sorted(self.voices)},
        }

    def _voices_of(self, language: str | None) -> list[str]:
        return self._voices_by_language.get(language, self._voices_by_language[None])

    @cached_property
    def _voices_by_language(self) -> dict[str | None, list[str]]:
        """Names of the voices for texts of each language; under `None`, for texts of an unknown language."""
        names = sorted(self.voices)
        spoken = {name: match[1] for name in names if (match := _VOICE_LANGUAGE.search(name))}
        if not self.match_languages:
            return {None: names}
        languages = {language for _, language in self.sentences} - {None}
        fitting = {
            language: [name for name in names if spoken.get(name, language) == language] for language in languages
        }
        return {**fitting, None: names}


def _draws(count: int, *entropy: int) -> np.ndarray:
    """Random integers in [0, 2**64), the same in every version of NumPy, which only `SeedSequence` guarantees."""
    return np.random.SeedSequence(entropy).generate_state(count, np.uint64)


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.argsort(_draws(count, seed, 0, epoch), kind="stable")


def _digest_of_prompt(prompt: VoicePrompt | None) -> str | None:
    if prompt is None:
        return None
    return hashlib.sha256(prompt.semantic_tokens.tobytes() + prompt.audio_codes.tobytes()).hexdigest()


__all__ = ["CorpusPlan", "PlannedRow"]
