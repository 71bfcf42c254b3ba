"""Trials of a Bark's voices: who speaks what in whose voice, how each is scored, and what all of them say together.

    load_voice_clips    recordings with speakers, with texts or without, from folders, .jsonl and .csv
    load_texts          sentences for voices whose recordings have no texts
    cast_voices         per voice: what prompts it, what it is compared with, and what is said
    Trial               one waveform to make and to score
    Scorers             transcriber, speaker embedders, MOS predictor; score_trial runs them
    trial_record        a scored trial as a line of the journal
    summarize           trials -> figures with intervals, by part and condition
    compare             two conditions on the same trials: difference and significance
    format_table        those figures as text

A recording has one role only: prompt, enrolment or test. So a clone cannot win by sounding like the recording instead
of the person. Only long recordings without a text are cut, and a voice that has no more than one of them prompts and
enrols with two parts of it (`CastVoice.one_recording`): its similarity hears the room and the microphone, too.
"""

import csv
import io
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import MIN_DURATION_S, SILENCE_PEAK, AudioError, load_audio, resample
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE, SAMPLING_RATE
from ..voices.splitting import estimate_duration_s
from .judges import MosPredictor, SpeakerEmbedder, Transcriber
from .sequences import DIGITS, letter_errors, normalize_text, repetition_share, word_errors
from .significance import Estimate, PairedDifference, paired_difference, ratio_estimate
from .speech import (
    energy_correlation,
    identify,
    mel_cepstral_distortion,
    pesq,
    pitch_comparison,
    silence,
    stoi,
)

REFERENCE_S = (6.0, 10.0)  # of a prompt's recordings and of those that a clone is compared with
TEST_CLIP_S = (0.5, 12.0)  # Bark says up to 14 s at once
NUM_CANDIDATES = 8  # voices of an identification, the right one included
KINDS = ("digits", "sentences")


@dataclass(frozen=True)
class VoiceClip:
    """A recording or a part of it, its text and its speaker.

    Args:
        id (`str`): its own.
        audio (`Path`, *optional*): the recording; `None` for a text that was never recorded.
        text (`str`): what is said; empty where nobody knows.
        voice (`str`): who says it.
        seconds (`float`), start_s (`float`): the part of the recording.
        held_out_voice (`bool`), held_out_text (`bool`): whether no stage has learnt from voice and text.
        source (`str`): the table or folder that it comes from.
    """

    id: str
    audio: Path | None
    text: str
    voice: str
    seconds: float
    held_out_voice: bool = True
    held_out_text: bool = True
    start_s: float = 0.0
    source: str = ""

    @property
    def kind(self) -> str:
        """`"digits"` where every word is a digit, else `"sentences"`."""
        return KINDS[0] if set(normalize_text(self.text).split()) <= set(DIGITS) else KINDS[1]


def load_voice_clips(*sources: str | Path) -> list[VoiceClip]:
    """Read recordings of voices.

    Args:
        sources (`str` or `Path`): each a folder with a `.jsonl` per voice (as training/nano/make_speech.py writes), or
            one `.jsonl` or `.csv`. Columns: `audio` (or `file`), `speaker` (or `voice`); optionally `text`, `id`,
            `seconds`, `held_out_voice`, `held_out_text`. Paths are relative to the table. What does not say whether it
            was held out counts as such. Voices of which no recording has a text can be prompted with and compared
            with; see [`cast_voices`].

    Raises:
        ValueError: no rows, a column is missing, a text that UTF-8 cannot hold, an id that occurs twice, or a voice
            that occurs in two sources.
        AudioError: a recording cannot be opened.
    """
    clips = []
    for source in map(Path, sources):
        tables = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
        own = [_voice_clip(row, table, str(source)) for table in tables for row in _rows(table)]
        if not own:
            raise ValueError(f"{source} holds no rows. Name a folder with .jsonl tables, a .jsonl or a .csv.")
        clips += own
    owners = {}
    for clip in clips:
        other = owners.setdefault(clip.id, clip)
        if other is not clip:
            places = " and ".join(dict.fromkeys([other.source, clip.source]))
            raise ValueError(f"{places}: the id {clip.id!r} occurs twice. Give every recording its own.")
    homes = {}
    for clip in clips:
        if homes.setdefault(clip.voice, clip.source) != clip.source:
            raise ValueError(
                f"The voice {clip.voice!r} is in {homes[clip.voice]} and in {clip.source}. Rename one of the two, or "
                "put the recordings of one person into one table."
            )
    return clips


def load_texts(file: str | Path) -> list[str]:
    """Sentences of a text file, one per line, those left out that take longer than 12 s to say.

    Raises:
        ValueError: there is none, or the file is not UTF-8.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8: {error}. Convert it, or name another file of sentences.") from error
    texts = [line.strip() for line in lines if normalize_text(line)]
    texts = [text for text in texts if estimate_duration_s(text) <= TEST_CLIP_S[1]]
    if not texts:
        raise ValueError(f"{file} holds no sentence of at most {TEST_CLIP_S[1]:g} s. Write one on each line.")
    return texts


def _rows(table: Path) -> list[dict]:
    if not table.is_file():
        raise ValueError(f"There is no {table}. Name a folder with .jsonl tables, a .jsonl or a .csv.")
    text = table.read_text(encoding="utf-8-sig")
    if table.suffix.lower() == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _voice_clip(row: Mapping[str, Any], table: Path, source: str) -> VoiceClip:
    names = {"audio": "file", "speaker": "voice"}
    audio, voice = (str(row.get(name) or row.get(other) or "") for name, other in names.items())
    if not audio or not voice:
        raise ValueError(
            f"{table.name}: a row needs `audio` and `speaker`, and `text` for what is to be said again; this one has "
            f"{sorted(map(str, row))}."
        )
    audio, text = table.parent / audio, str(row.get("text") or "").strip()
    name = str(row.get("id") or audio.stem)
    for value in (str(audio), text, voice, name):
        if value != value.encode("utf-8", "replace").decode():
            raise ValueError(
                f"{table.name}: {value!r} holds half of a character, which UTF-8 cannot. Repair that row."
            )
    seconds = float((row.get("seconds") if text else None) or _duration_s(audio))  # parts must lie within it
    held_out = (_is_true(row.get(column, True)) for column in ("held_out_voice", "held_out_text"))
    return VoiceClip(name, audio, text, voice, seconds, *held_out, source=source)


def _is_true(value: Any) -> bool:
    return value.strip().lower() in ("1", "true", "yes") if isinstance(value, str) else bool(value)


def _duration_s(audio: Path) -> float:
    import soundfile

    try:
        return soundfile.info(audio).duration
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioError(f"Cannot open {str(audio)!r}: {error}. Check the path in the table.") from error


@dataclass(frozen=True)
class CastVoice:
    """The roles of a voice's recordings: each in one role only.

    Args:
        name (`str`): the voice.
        prompt (`tuple[VoiceClip, ...]`): what it is cloned from, 6 to 10 s.
        enrolment (`tuple[VoiceClip, ...]`): what its embedding is taken from, 6 to 10 s.
        tests (`tuple[VoiceClip, ...]`): whose texts are said; the recordings, where there are any, are the ceiling of
            every figure.
    """

    name: str
    prompt: tuple[VoiceClip, ...]
    enrolment: tuple[VoiceClip, ...]
    tests: tuple[VoiceClip, ...]

    @property
    def source(self) -> str:
        """The table or folder of its recordings."""
        return self.prompt[0].source

    @property
    def one_recording(self) -> bool:
        """Whether prompt and enrolment share a recording."""
        return bool({clip.audio for clip in self.prompt} & {clip.audio for clip in self.enrolment})


def cast_voices(
    clips: Iterable[VoiceClip], *, tests: int = 8, seed: int = 0, texts: Sequence[str] = ()
) -> tuple[list[CastVoice], list[str]]:
    """Give the recordings of held-out voices their roles.

    Test clips have held-out texts, digit strings and sentences in turn. What is left prompts and enrols. Recordings
    without a text never test; they are cut into parts of 6 to 10 s, so that a single one of 12 s does for a voice.

    Args:
        clips (`Iterable[VoiceClip]`): voices that are not held out are passed over.
        tests (`int`): test clips per voice at most.
        seed (`int`): of the choice.
        texts (sequence of `str`): what voices say whose recordings have no texts; without any they are left out.

    Returns:
        The voices, and the names of those that have too few recordings (6 s each for prompt and enrolment and one test
        are needed).
    """
    by_voice: dict[str, list[VoiceClip]] = {}
    for clip in clips:
        if clip.held_out_voice:
            by_voice.setdefault(clip.voice, []).append(clip)
    cast, left_out = [], []
    for name, own in sorted(by_voice.items()):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        silent = not any(clip.text for clip in own)
        own = [part for clip in own for part in _parts(clip)]
        own = [own[i] for i in rng.permutation(len(own))]
        prompt, rest = _take_seconds([clip for clip in own if not clip.held_out_text], own)
        heard = {clip.audio for clip in prompt or ()}
        others = [clip for clip in rest if clip.audio not in heard]
        enrolment, rest = _take_seconds([clip for clip in others if not clip.held_out_text] or others, rest)
        fit = _borrowed(name, texts, tests, rng) if silent else [clip for clip in rest if can_test(clip)]
        if not prompt or not enrolment or not fit:
            left_out.append(name)
        else:
            tests_of_voice = _alternating(fit, first_kind=len(cast) % len(KINDS))[:tests]
            cast.append(CastVoice(name, tuple(prompt), tuple(enrolment), tuple(tests_of_voice)))
    return cast, left_out


def can_test(clip: VoiceClip) -> bool:
    """Whether a recording can be a test clip: its text is known and held out, and it lasts 0.5 to 12 s."""
    return bool(normalize_text(clip.text)) and clip.held_out_text and TEST_CLIP_S[0] <= clip.seconds <= TEST_CLIP_S[1]


def _parts(clip: VoiceClip) -> list[VoiceClip]:
    """A recording without a text in parts of 6 to 10 s; others, and shorter ones, as they are."""
    count = int(clip.seconds // REFERENCE_S[0])
    if clip.text or not count:
        return [clip]
    hop = clip.seconds / count
    parts = [replace(clip, start_s=i * hop, seconds=min(hop, REFERENCE_S[1])) for i in range(count)]
    return [replace(part, id=f"{clip.id}/{i}") for i, part in enumerate(parts)] if count > 1 else parts


def _borrowed(voice: str, texts: Sequence[str], count: int, rng: np.random.Generator) -> list[VoiceClip]:
    """Texts for a voice, as clips without recordings: digit strings and sentences alike, if there are both."""
    clips = [VoiceClip(f"{voice}/text-{i}", None, texts[i], voice, 0.0) for i in rng.permutation(len(texts))]
    of_kinds = [[clip for clip in clips if clip.kind == kind][:count] for kind in KINDS]
    return [clip for kind in of_kinds for clip in kind]


def _take_seconds(
    preferred: list[VoiceClip], clips: list[VoiceClip]
) -> tuple[list[VoiceClip] | None, list[VoiceClip]]:
    """Take the first clips that make 6 to 10 s together, and give the others; `None` if there are none."""
    order = preferred + [clip for clip in clips if clip not in preferred]
    taken, seconds = [], 0.0
    for clip in order:
        if seconds < REFERENCE_S[0] and seconds + clip.seconds <= REFERENCE_S[1]:
            taken.append(clip)
            seconds += clip.seconds
    if seconds < REFERENCE_S[0]:
        return None, clips
    return taken, [clip for clip in clips if clip not in taken]


def _alternating(clips: Sequence[VoiceClip], first_kind: int) -> list[VoiceClip]:
    """Digit strings and sentences in turn, then what is left of either."""
    kinds = [[clip for clip in clips if clip.kind == kind] for kind in KINDS[first_kind:] + KINDS[:first_kind]]
    ranks = {clip.id: (rank, order) for order, part in enumerate(kinds) for rank, clip in enumerate(part)}
    return sorted(clips, key=lambda clip: ranks[clip.id])


@dataclass(frozen=True)
class Trial:
    """One waveform to make and to score.

    Args:
        id (`str`): names it in the journal.
        part (`str`): `"original"`: the recording itself. `"codec"`: through the codec and back. `"presets"`: its text
            by a preset. `"clone"`: its text in the cloned voice.
        condition (`str`): of a clone: how it is prompted.
        voice (`str`): who should be heard; figures are resampled by it.
        clip (`VoiceClip`): the test clip.
        seed (`int`): of the synthesis; the same in all conditions.
        distractors (`tuple[str, ...]`): the other voices of the identification, of the same source as far as it has
            as many; empty for none.
    """

    id: str
    part: str
    condition: str
    voice: str
    clip: VoiceClip
    seed: int = 0
    distractors: tuple[str, ...] = ()


def plan_trials(
    voices: Sequence[CastVoice],
    *,
    parts: Sequence[str],
    conditions: Sequence[str],
    presets: Sequence[str] = (),
    seeds: int = 1,
    limit: int | None = None,
    seed: int = 0,
) -> list[Trial]:
    """All trials of an evaluation in a fixed order, voices in turn, so that its beginning is a fair part of it.

    Args:
        voices (sequence of `CastVoice`): at least two where they are to be told apart.
        parts (sequence of `str`): see [`Trial`].
        conditions (sequence of `str`): of the clones.
        presets (sequence of `str`): the presets that take turns.
        seeds (`int`): clones of each text.
        limit (`int`, *optional*): test clips to use.
        seed (`int`): of the distractors and syntheses.
    """
    names, sources = [voice.name for voice in voices], {voice.name: voice.source for voice in voices}
    by_rank = [(rank, voice, clip) for voice in voices for rank, clip in enumerate(voice.tests)]
    by_rank.sort(key=lambda item: (item[0], names.index(item[1].name)))
    trials = []
    for number, (_, voice, clip) in enumerate(by_rank[:limit]):
        rng = np.random.default_rng([seed, zlib.crc32(clip.id.encode())])
        others = [name for name in names if name != voice.name]
        others = [others[i] for i in rng.permutation(len(others))]
        others.sort(key=lambda name, voice=voice: sources[name] != voice.source)  # the same kind of recordings first
        distractors = tuple(others[: NUM_CANDIDATES - 1])
        numbers = [int(value) for value in rng.integers(2**31, size=seeds)]
        for part in ("original", "codec"):
            if part in parts and clip.audio is not None:
                trials.append(Trial(f"{part}/{clip.id}", part, part, voice.name, clip, 0, distractors))
        if "presets" in parts and presets:
            preset = presets[number % len(presets)]
            trials.append(Trial(f"presets/{preset}/{clip.id}", "presets", "presets", preset, clip, numbers[0]))
        if "clone" in parts:
            for index, number_of_seed in enumerate(numbers):
                for condition in conditions:
                    name = f"clone/{condition}/{clip.id}/{index}"
                    trials.append(Trial(name, "clone", condition, voice.name, clip, number_of_seed, distractors))
    return trials


@dataclass(frozen=True)
class Scorers:
    """The models that score a trial; what is missing is not scored.

    Args:
        transcribe (`Transcriber`, *optional*), embedders (`dict[str, SpeakerEmbedder]`), mos (`MosPredictor`,
            *optional*): see scorers.py.
    """

    transcribe: Transcriber | None = None
    embedders: Mapping[str, SpeakerEmbedder] = field(default_factory=dict)
    mos: MosPredictor | None = None


class Enrolment:
    """Embeddings of the cast voices, computed when they are asked for.

    Args:
        voices (sequence of `CastVoice`), embedders (`dict[str, SpeakerEmbedder]`): whom, and by which models.
    """

    def __init__(self, voices: Sequence[CastVoice], embedders: Mapping[str, SpeakerEmbedder]):
        self.voices, self.embedders = {voice.name: voice for voice in voices}, embedders
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def __call__(self, model: str, voice: str) -> np.ndarray:
        """The embedding `(size,)` of a voice by a model."""
        if (model, voice) not in self._known:
            waveform = joined_waveform(self.voices[voice].enrolment, SAMPLING_RATE)
            self._known[model, voice] = self.embedders[model](waveform)
        return self._known[model, voice]


def joined_waveform(clips: Sequence[VoiceClip], sampling_rate: int) -> np.ndarray:
    """Recordings one after the other, float32 `(num_samples,)`."""
    return np.concatenate([_waveform(clip, sampling_rate) for clip in clips])


def _waveform(clip: VoiceClip, sampling_rate: int) -> np.ndarray:
    """Of a recording with a text all; of one without, the part that was taken."""
    waveform = load_audio(clip.audio, sampling_rate)
    if clip.text:
        return waveform
    start = round(clip.start_s * sampling_rate)
    return waveform[start : start + round(clip.seconds * sampling_rate)]


def score_trial(
    trial: Trial,
    waveform: np.ndarray,
    scorers: Scorers,
    enrolment: Callable[[str, str], np.ndarray],
    *,
    original: np.ndarray | None = None,
) -> dict[str, Any]:
    """Score a waveform.

    Nothing audible counts as a failure: all of its words are missing and the voice is not recognized; similarity and
    opinion score, which need speech, are left out, so read them beside the number of failures.

    Args:
        trial (`Trial`): what it should be.
        waveform (`np.ndarray` of shape `(num_samples,)`): 24 kHz.
        scorers (`Scorers`), enrolment ([`Enrolment`]): with what.
        original (`np.ndarray` of shape `(num_samples,)`, *optional*): 24 kHz; where it is a processed recording.

    Returns:
        `dict`: flat and JSON-ready; `rank/<model>` and the like for every embedder.
    """
    failed = len(waveform) < MIN_DURATION_S * CODEC_SAMPLING_RATE or np.abs(waveform).max() < SILENCE_PEAK
    heard = resample(waveform, CODEC_SAMPLING_RATE, SAMPLING_RATE) if not failed else None
    scores = {"seconds": round(len(waveform) / CODEC_SAMPLING_RATE, 3), "failed": bool(failed)}
    if scorers.transcribe is not None:
        transcript = "" if failed else scorers.transcribe(heard)
        words, letters = word_errors(trial.clip.text, transcript), letter_errors(trial.clip.text, transcript)
        scores |= {"transcript": transcript, "word_errors": words.errors, "num_words": words.num_reference}
        scores |= {"letter_errors": letters.errors, "num_letters": letters.num_reference}
        scores["repetition"] = repetition_share(normalize_text(transcript).split())
    for model, embed in scorers.embedders.items() if trial.distractors else ():
        if failed:
            scores[f"rank/{model}"] = 1 + len(trial.distractors)
            continue
        others = [enrolment(model, name) for name in trial.distractors]
        result = identify(embed(heard), enrolment(model, trial.voice), others)
        scores |= {f"{key}/{model}": value for key, value in asdict(result).items()}
    if failed:
        return scores
    if scorers.mos is not None:
        scores["mos"] = scorers.mos(heard)
    pauses = silence(waveform, CODEC_SAMPLING_RATE)
    scores |= {"silence": pauses.share, "longest_pause_s": pauses.longest_s}
    return scores | ({} if original is None else _codec_scores(original, waveform))


def _codec_scores(original: np.ndarray, waveform: np.ndarray) -> dict[str, Any]:
    pair = original, waveform, CODEC_SAMPLING_RATE
    scores = {"mcd": mel_cepstral_distortion(*pair, aligned=True), "energy_correlation": energy_correlation(*pair)}
    pitch = pitch_comparison(*pair)
    scores |= {"pitch_correlation": pitch.correlation, "pitch_distance": pitch.distance_semitones}
    scores["stoi"] = stoi(*pair)
    try:
        scores["pesq"] = pesq(*pair)
    except ValueError:  # it heard no speech: then it has no opinion
        scores["pesq"] = None
    return scores


def trial_record(trial: Trial, scores: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the [`Journal`](journal.py): what was to be said by whom, and what came of it."""
    record = {key: value for key, value in asdict(trial).items() if key != "clip"}
    record |= {"clip": trial.clip.id, "text": trial.clip.text, "kind": trial.clip.kind}
    return record | dict(scores)


def summarize(records: Iterable[Mapping[str, Any]], *, seed: int = 0) -> list[dict[str, Any]]:
    """Figures of every part and condition, each with a 95 % interval by bootstrap over voices.

    Args:
        records (`Iterable[dict]`): from [`~journal.Journal.records`].

    Returns:
        `list[dict]`: `part`, `condition`, `trials`, `voices`, `failed`, `candidates` (voices that an identification
            chooses from), and under `figures` an [`Estimate`] by name:
            `wer/digits`, `wer/sentences`, `cer`, `identified/<model>`, `similarity/<model>`, `mos`, ...;
            `wer_above_original/<kind>` is the [`PairedDifference`] to the word error rate of the recordings.
    """
    records = list(records)
    rows = []
    for part, condition in dict.fromkeys((record["part"], record["condition"]) for record in records):
        own = [record for record in records if (record["part"], record["condition"]) == (part, condition)]
        row = {"part": part, "condition": condition, "trials": len(own)}
        row |= {"voices": len({record["voice"] for record in own}), "failed": sum(r["failed"] for r in own)}
        row["candidates"] = min(1 + len(record["distractors"]) for record in own)
        names = dict.fromkeys(name for record in own for name in _figures_of(record))
        row["figures"] = {name: figure(own, name, seed=seed) for name in names}
        if part != "original":
            row["figures"] |= _above_original(own, records)
        rows.append(row)
    return rows


def figure(records: Sequence[Mapping[str, Any]], name: str, *, seed: int = 0) -> Estimate | None:
    """One figure of `summarize` of these trials; `None` where none of them has it."""
    chosen = [record for record in records if name in _figures_of(record)]
    if not chosen:
        return None
    tops, bottoms = zip(*(_figures_of(record)[name] for record in chosen), strict=True)
    return ratio_estimate(tops, bottoms, groups=[record["voice"] for record in chosen], seed=seed)


def compare(
    records: Iterable[Mapping[str, Any]], first: str, second: str, name: str, *, part: str = "clone", seed: int = 0
) -> PairedDifference | None:
    """A figure of clones in one condition minus that in another, on the trials that both have; `None` without any.

    Args:
        records (`Iterable[dict]`), name (`str`), seed (`int`): as in [`figure`].
        first (`str`), second (`str`): the conditions.
        part (`str`): whose conditions they are.
    """
    by_trial = {}
    for record in records:
        if record["part"] == part and name in _figures_of(record):
            by_trial.setdefault((record["clip"], record["seed"]), {})[record["condition"]] = record
    pairs = [(both[first], both[second]) for both in by_trial.values() if first in both and second in both]
    return _paired(pairs, name, seed) if pairs else None


def _above_original(own: Sequence[Mapping], records: Sequence[Mapping]) -> dict[str, PairedDifference]:
    """Word error rates minus those of the recordings of the same clips."""
    originals = {record["clip"]: record for record in records if record["part"] == "original"}
    differences = {}
    for kind in KINDS:
        name = f"wer/{kind}"
        pairs = [(record, originals[record["clip"]]) for record in own if record["clip"] in originals]
        pairs = [pair for pair in pairs if all(name in _figures_of(record) for record in pair)]
        if pairs:
            differences[f"wer_above_original/{kind}"] = _paired(pairs, name, 0)
    return differences


def _paired(pairs: Sequence[tuple[Mapping, Mapping]], name: str, seed: int) -> PairedDifference:
    first, second = ([_figures_of(record)[name] for record in records] for records in zip(*pairs, strict=True))
    return paired_difference(
        [top for top, _ in first],
        [top for top, _ in second],
        [bottom for _, bottom in first],
        groups=[record["voice"] for record, _ in pairs],
        seed=seed,
    )


def _figures_of(record: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Numerator and denominator that a trial adds to each figure."""
    figures = {}
    if "word_errors" in record:
        figures[f"wer/{record['kind']}"] = record["word_errors"], record["num_words"]
        figures["cer"] = record["letter_errors"], record["num_letters"]
    for name, value in record.items():
        measure, _, model = name.partition("/")
        if measure == "rank":
            figures[f"identified/{model}"] = float(value == 1), 1.0
        elif (measure in ("similarity", "best_distractor", "mean_distractor") or name in _MEANS) and value is not None:
            figures[name] = value, 1.0
    if record.get("synthesis_s") is not None and not record["failed"]:
        figures["real_time_factor"] = record["synthesis_s"], record["seconds"]
    return figures


_MEANS = (
    "mos", "pesq", "stoi", "mcd", "pitch_correlation", "pitch_distance", "energy_correlation", "silence",
    "longest_pause_s", "repetition",
)  # fmt: skip


def figures_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The figures of `summarize` as heads and rows of cells: value [low, high]; shares and rates in percent.

    Args:
        rows (sequence of `dict`): from [`summarize`].
        columns (sequence of `str`): names of figures; `"identified"` stands for those of all models.
    """
    columns = matching_figures(rows, columns)
    lines = []
    for row in rows:
        cells = [format_estimate(name, row["figures"].get(name)) for name in columns]
        lines.append([row["part"], row["condition"], str(row["trials"]), str(row["failed"]), *cells])
    return ["part", "condition", "trials", "failed", *columns], lines


def matching_figures(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Names of the figures that rows of `summarize` have, in the order of `columns`; see [`figures_table`]."""
    names = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    return [name for column in columns for name in names if name == column or name.startswith(f"{column}/")]


def format_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """[`figures_table`] as lines of text."""
    heads, lines = figures_table(rows, columns)
    measures = [["", "", "", ""], ["part", "condition", "trials", "failed"]]
    for name in heads[4:]:
        for line, word in zip(measures, name.partition("/")[::2], strict=True):
            line.append(word)
    lines = measures + lines
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def badness(record: Mapping[str, Any]) -> float:
    """How bad a trial is, for lists that begin with the worst: failures, then words and voices that went wrong.

    The word error rate plus the share of speaker models that hear somebody else; 10 more for a failure, and less than
    0.1 for how far similarities are from 1.
    """
    ranks = [value for name, value in record.items() if name.startswith("rank/")]
    near = [value for name, value in record.items() if name.startswith("similarity/") and value is not None]
    wrong = sum(rank > 1 for rank in ranks) / len(ranks) if ranks else 0.0
    words = record.get("word_errors", 0) / max(1, record.get("num_words", 1))
    far = (1 - float(np.mean(near))) / 20 if near else 0.0
    return 10.0 * bool(record["failed"]) + words + wrong + far


_SHARES = ("wer", "wer_above_original", "cer", "identified", "silence", "repetition")


def format_estimate(name: str, estimate: Estimate | PairedDifference | None) -> str:
    """A figure with its interval in the unit of its name; percent for rates and shares."""
    if estimate is None:
        return ""
    if is_share(name):
        return f"{estimate.value:.1%} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def is_share(name: str) -> bool:
    """Whether a figure is a rate or a share, which is told in percent."""
    return name.partition("/")[0] in _SHARES


__all__ = [
    "NUM_CANDIDATES",
    "CastVoice",
    "Enrolment",
    "Scorers",
    "Trial",
    "VoiceClip",
    "badness",
    "can_test",
    "cast_voices",
    "compare",
    "figure",
    "figures_table",
    "format_estimate",
    "format_table",
    "is_share",
    "joined_waveform",
    "load_texts",
    "load_voice_clips",
    "matching_figures",
    "plan_trials",
    "score_trial",
    "summarize",
    "trial_record",
]
