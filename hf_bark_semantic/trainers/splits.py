"""Split a corpus into training and validation clips that share neither voice nor text.

training_clips      choose both, by the config of a training
corpus_fingerprint  a digest of a corpus
choose_held_out     choose the voices and texts to hold out
HeldOut.side        the side of a clip; it is on neither if only its voice or only its text is held out
"""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from datasets import IterableDataset

from ..corpus.rows import Clip, clip_of_row, load_corpus, split_fold
from ..corpus.stream import StreamedCorpus, open_stream
from ..files import fingerprint
from .encoder_config import EncoderTrainingConfig, ValidationArguments

TRAINING, VALIDATION = "training", "validation"
FINGERPRINTED_ROWS = 100  # rows of a stream; reading all would take as long as an epoch
FINGERPRINTED_SAMPLES = 100  # every hundredth sample of the audio
_MARK = re.compile(r"\[[^\]]*\]")  # [laughs], [sighs], ..., which `with_sound` adds to texts


def open_training_corpus(config: EncoderTrainingConfig) -> list[Clip] | IterableDataset:
    """All clips of the config's corpus; with `streaming`, an iterable over its rows."""
    return open_stream(config.corpus) if config.streaming else load_corpus(config.corpus)


def corpus_fingerprint(corpus: Sequence[Clip] | IterableDataset) -> str:
    """A digest of a corpus' rows, or of the first rows of a stream; it does not depend on the location."""
    clips = corpus if isinstance(corpus, list) else map(clip_of_row, itertools.islice(corpus, FINGERPRINTED_ROWS))
    return fingerprint(
        (
            *(clip.id, clip.source, clip.voice, clip.text, clip.fold, clip.in_folds, clip.semantic_tokens),
            clip.audio_codes,
            None if clip.waveform is None else clip.waveform[::FINGERPRINTED_SAMPLES],
        )
        for clip in clips
    )


def training_clips(
    config: EncoderTrainingConfig, corpus: Sequence[Clip] | IterableDataset, fold: int | None
) -> tuple[list[Clip] | StreamedCorpus, list[Clip]]:
    """Choose training clips and validation clips, which share neither voice nor text.

    Args:
        config ([`EncoderTrainingConfig`]): its `validation` and its sources of clips are used.
        corpus (`Sequence[Clip]` or `IterableDataset`): see [`open_training_corpus`].
        fold (`int`, *optional*): the fold that is held out for the evaluation: none of its clips is chosen.

    Returns:
        `(clips, held_out)`: training clips that passed the filters, of all sources, or a [`StreamedCorpus`]; and at
        most `validation.max_clips` validation clips.

    Raises:
        ValueError: the corpus has no such fold, the config validates on the fold of the evaluation, or no voices and
            texts can be held out.
    """
    validation, sources = config.validation, config.sources
    if validation is not None and fold is not None and validation.fold == fold:
        raise ValueError(f"Fold {fold} is held out for the evaluation; choose another `validation.fold`.")
    if config.streaming:
        return streamed_clips(corpus, sources, fold, validation)
    clips, evaluated = split_fold(corpus, fold)
    clips = [clip for clip in clips if not clip.failed_filters]
    if fold is not None and not evaluated:
        raise ValueError(no_such_fold(config.corpus, fold, {clip.fold for clip in corpus if clip.in_folds}))
    if validation is None:
        return clips, []
    if validation.fold is not None:
        clips, held_out = split_fold(clips, validation.fold)
    else:
        choice = choose_held_out(
            ((clip.voice, clip.text) for clip in clips if clip.source in sources), validation.share
        )
        sides = [choice.side(clip.voice, clip.text) for clip in clips]
        held_out = [clip for clip, side in zip(clips, sides, strict=True) if side == VALIDATION]
        clips = [clip for clip, side in zip(clips, sides, strict=True) if side == TRAINING]
    held_out = sorted((clip for clip in held_out if clip.source in sources), key=lambda clip: digest(clip.id))
    return clips, held_out[: validation.max_clips]


def no_such_fold(corpus: str, fold: int, folds: Iterable[int]) -> str:
    """An error message: why `fold` cannot be held out of a corpus with these folds, and the remedy."""
    if there := sorted(set(folds) - {-1}):
        return f"Fold {fold} of {corpus!r} has no clips; its folds are {', '.join(map(str, there))}."
    return (
        f"{corpus!r} has no folds (column `fold`), so fold {fold} cannot be held out. Make folds first: "
        "python -m hf_bark_semantic.cli.fold_corpus CORPUS --folds 5 --output FOLDER."
    )


def streamed_clips(
    dataset: IterableDataset, sources: set[str], fold: int | None, validation: ValidationArguments | None
) -> tuple[StreamedCorpus, list[Clip]]:
    """[`training_clips`] for a stream: a pass over voices and texts, then another up to the last held-out clip."""
    if fold is not None and "fold" not in dataset.features:
        raise ValueError(no_such_fold("the streamed corpus", fold, []))

    def usable(row) -> bool:
        failed = row.get("failed_filters")
        own = row.get("source", "") in sources and (failed is None or not len(failed))
        return own and (fold is None or (row.get("in_folds", True) and row.get("fold", -1) != fold))

    if validation is None:
        return StreamedCorpus(dataset, usable), []
    if validation.fold is not None:

        def side(row) -> str | None:
            if not row.get("in_folds", True):
                return None
            return VALIDATION if row.get("fold", -1) == validation.fold else TRAINING

    else:
        columns = [
            name
            for name in ("source", "voice", "text", "fold", "in_folds", "failed_filters")
            if name in dataset.features
        ]
        rows = filter(usable, dataset.select_columns(columns))
        choice = choose_held_out(((row["voice"], row.get("text") or "") for row in rows), validation.share)

        def side(row) -> str | None:
            return choice.side(row["voice"], row.get("text") or "")

    held_out = []
    for row in dataset:
        if usable(row) and side(row) == VALIDATION:
            held_out.append(clip_of_row(row))
            if len(held_out) == validation.max_clips:
                break
    return StreamedCorpus(dataset, lambda row: usable(row) and side(row) == TRAINING), held_out


@dataclass(frozen=True)
class HeldOut:
    """Digests of the voices and texts that no training clip may have."""

    voices: frozenset[int]
    texts: frozenset[int]

    def side(self, voice: str, text: str) -> str | None:
        """`TRAINING`, `VALIDATION`, or None for a clip whose voice and text are on different sides."""
        sides = {digest(voice) in self.voices, text_digest(text) in self.texts}
        return None if len(sides) == 2 else VALIDATION if sides == {True} else TRAINING


def choose_held_out(rows: Iterable[tuple[str, str]], share: float) -> HeldOut:
    """Choose voices and texts to hold out; the same rows give the same choice.

    Voices are held out in the order of their digests until they have `share` of the clips. Then their texts are held
    out, starting with those that have the fewest clips of other voices, as long as these clips are at most `share` of
    all. If every text occurs once, all clips are used. If every voice says every text, about `share` squared of the
    clips are held out, and twice `share` are on neither side.

    Args:
        rows (`Iterable[tuple[str, str]]`): voice and text of every clip; iterated once, with 16 bytes in memory for
            each.
        share (`float`): held-out share of the clips, above 0 and at most 0.5.

    Raises:
        ValueError: a share out of range, a clip without a text, or too few voices or texts for a split.
    """
    if not isinstance(share, (int, float)) or not 0 < share <= 0.5:
        raise ValueError(f"The held-out `share` is {share!r}; it must be above 0 and at most 0.5.")
    pairs = Counter()
    for voice, text in rows:
        if not text:
            raise ValueError(
                "A held-out `share` needs the `text` of every clip, or a sentence could be on both sides. Add a "
                "`text` column to the corpus, or a `fold` column and validation.fold."
            )
        pairs[digest(voice), text_digest(text)] += 1
    total, of_voice = pairs.total(), Counter()
    for (voice, _), count in pairs.items():
        of_voice[voice] += count
    if len(of_voice) < 2:
        raise ValueError(f"The clips have {len(of_voice)} voice; holding one out needs two or more.")
    voices, covered = set(), 0
    for voice in sorted(of_voice)[:-1]:
        voices.add(voice)
        covered += of_voice[voice]
        if covered >= share * total:
            break
    lost_by = {text: 0 for voice, text in pairs if voice in voices}  # clips of other voices, by text
    for (voice, text), count in pairs.items():
        if text in lost_by and voice not in voices:
            lost_by[text] += count
    texts, lost = set(), 0
    for text in sorted(lost_by, key=lambda text: (lost_by[text], text)):
        if texts and lost + lost_by[text] > share * total:
            break
        texts.add(text)
        lost += lost_by[text]
    if lost + covered >= total:
        raise ValueError("All voices say the same texts, and there are too few texts to hold one out.")
    return HeldOut(frozenset(voices), frozenset(texts))


def text_digest(text: str) -> int:
    """[`digest`] of the words of a text, without case, punctuation and marks such as [laughs]."""
    return digest(" ".join(re.findall(r"\w+", _MARK.sub(" ", text.casefold()))) or text)


def digest(name: str) -> int:
    """64 bits of SHA-256: the same in every run, unlike `hash`."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
