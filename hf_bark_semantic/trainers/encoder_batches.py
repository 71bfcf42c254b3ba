"""Training batches of the encoder: crops of a corpus' clips, collated to the model's inputs.

A crop is a whole number of tokens with exactly the samples and codec frames that Bark makes of them, so the model
predicts as many tokens as there are labels. Batches are a pure function of (seed, step), and each process takes its
share of them, so resuming needs no stored state, and the gradient is the same for any number of processes.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import EncodecModel

from ..audio import resample
from ..configuration_bark_semantic import (
    CODEC_RATE_HZ,
    CODEC_SAMPLING_RATE,
    SAMPLING_RATE,
    SEMANTIC_RATE_HZ,
    num_codec_frames,
    num_samples_of_codec_frames,
    num_semantic_tokens,
)
from ..corpus.rows import Clip, SoftLabels
from ..corpus.stream import ClipStream, StreamedCorpus
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from .shares import Share, loss_weight

CODEC_CONTEXT_TOKENS = 50  # one second before a crop: decoded with it, then cut off, because the codec has memory


@dataclass(frozen=True)
class BatchPlan:
    """The number of crops of each source in a batch, and their length.

    Args:
        crops (`dict[str, int]`): crops from clips of each `source` in a batch of all processes together, such as
            `{"pair": 8, "prompt": 8}`.
        num_tokens (`int`): tokens per crop; shorter clips are used whole.
        known_codebooks (`float`): share of crops whose codes keep all codebooks; the others keep 1 to 7 of them.
        gradient_accumulation (`int`): turns in which a process computes its share of a batch. More turns need less
            memory; the gradient is the same.
        segment_tokens (`int`): the crops of a batch are cut into segments of half to twice this many tokens, and
            exchange them, so that a head cannot learn whole sentences by heart; 0 for whole crops. Only for a head on
            features.
    """

    crops: dict[str, int] = field(default_factory=lambda: {"pair": 16})
    num_tokens: int = 256
    known_codebooks: float = 1.0
    gradient_accumulation: int = 1
    segment_tokens: int = 0

    def __post_init__(self):
        if not isinstance(self.segment_tokens, int) or self.segment_tokens < 0 or self.segment_tokens == 1:
            raise ValueError(f"`segment_tokens` is {self.segment_tokens!r}; it must be 0, or a whole number from 2.")
        for name in ("num_tokens", "gradient_accumulation"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` is {value!r}; it must be a whole number, 1 or more.")


class Piece(NamedTuple):
    """A crop that is not cut yet: a clip, and the range of its tokens."""

    clip: Clip
    start: int
    num_tokens: int
    number: int  # index in the batch


class CropBatches(torch.utils.data.Dataset):
    """Training batches: `batches[step]` is a list of inputs of the model, at least one for each kind of input.

    The loss of an element is multiplied by its `loss_weight`, 1 where it has none. The mean over processes of their
    weighted sums is, for every kind of input (audio, codes, both), the mean over all tokens of the batch.

    Args:
        clips (`Sequence[Clip]`): the clips to draw from; longer ones are drawn more often.
        plan ([`BatchPlan`]): the composition of a batch.
        steps (`int`): the number of batches.
        seed (`int`): determines their contents.
        codebook_size (`int`): the codec's codebook size.
        process (`int`), num_processes (`int`): the number of this process, and of all processes that share a batch.
        inputs (`Sequence[str]`): the model's inputs, of `"audio"` and `"codes"`.
        codec (`EncodecModel`, *optional*): decodes the codes of clips without audio, crop by crop.
        waveform_augmentation (callable, *optional*): `(waveform, rng) -> waveform`.

    Raises:
        ValueError: the plan names a source that has no clips.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        plan: BatchPlan,
        *,
        steps: int,
        seed: int,
        codebook_size: int,
        process: int = 0,
        num_processes: int = 1,
        inputs: Sequence[str] = ("audio", "codes"),
        codec: EncodecModel | None = None,
        waveform_augmentation: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    ):
        self.plan, self.steps, self.seed = plan, steps, seed
        self.process, self.num_processes, self.inputs, self.codec = process, num_processes, tuple(inputs), codec
        self.clips, self.codebook_size, self.waveform_augmentation = clips, codebook_size, waveform_augmentation
        self.pools = {}
        for source, count in plan.crops.items():
            if count:
                self.pools[source] = self.pool(source, count)

    def pool(self, source: str, count: int) -> tuple[list[Clip], np.ndarray]:
        """The clips of a source, and the probability of drawing each."""
        pool = [clip for clip in self.clips if clip.source == source]
        if not pool:
            raise ValueError(
                f"`crops` asks for {count} crops of {source!r} clips; the corpus has none of them to train on."
            )
        lengths = np.array([clip.num_tokens for clip in pool], float)
        return pool, lengths / lengths.sum()

    def __len__(self):
        return self.steps

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        rng = np.random.default_rng([self.seed, 0, step])
        kinds = {}
        for number, clip in self.drawn_clips(step, rng):
            start = int(rng.integers(max(0, clip.num_tokens - self.plan.num_tokens) + 1))
            piece = Piece(clip, start, min(clip.num_tokens, self.plan.num_tokens), number)
            kinds.setdefault(self.kind(clip), []).append(piece)
        batch = []
        for pieces in kinds.values():
            for part, weight in self.share(pieces, [piece.num_tokens for piece in pieces]):
                crops = self.crops_of(part, [[self.seed, 1, step, piece.number] for piece in part])
                batch.append({**collate(crops, self.codebook_size), **loss_weight(weight)})
        return batch

    def drawn_clips(self, step: int, rng: np.random.Generator) -> Iterator[tuple[int, Clip]]:
        """The clips of a batch, of all processes together, each with its index in the batch."""
        numbers = itertools.count()
        for source, (pool, probabilities) in self.pools.items():
            for index in rng.choice(len(pool), self.plan.crops[source], p=probabilities):
                yield next(numbers), pool[index]

    def kind(self, clip: Clip) -> tuple[bool, bool]:
        """Whether the model reads the clip's audio, and whether it reads the clip's codes.

        Raises:
            ValueError: it can read neither.
        """
        audio = clip.waveform is not None or (self.codec is not None and clip.audio_codes is not None)
        kind = ("audio" in self.inputs and audio, "codes" in self.inputs and clip.audio_codes is not None)
        if not any(kind):
            raise ValueError(
                f"{clip.id}: the model reads {' and '.join(self.inputs)}, but the clip has "
                f"{'audio' if clip.waveform is not None else 'codes' if clip.audio_codes is not None else 'neither'}. "
                "`batches.codec` decodes codes to audio; `model.codec_hidden_size` gives a front end for codes."
            )
        return kind

    def share(self, rows: Sequence, num_tokens: Sequence[int]) -> list[tuple[list, float]]:
        """The rows of this process and their loss weight, for each turn: see [`Share`]."""
        return Share(self.process, self.num_processes, self.plan.gradient_accumulation).of(rows, num_tokens)

    def crops_of(self, pieces: Sequence[Piece], seeds: Sequence) -> list[Clip]:
        """Cut pieces, decode those without audio, drop codebooks and augment.

        Args:
            pieces (`Sequence[Piece]`): the crops to cut.
            seeds (`Sequence`): a seed for each piece.
        """
        crops = [crop(piece.clip, piece.start, piece.num_tokens) for piece in pieces]
        if self.codec is not None and "audio" in self.inputs:
            decoded = [i for i, part in enumerate(crops) if part.waveform is None and part.audio_codes is not None]
            for i, waveform in zip(decoded, decode_pieces([pieces[i] for i in decoded], self.codec), strict=True):
                crops[i] = replace(crops[i], waveform=waveform)
        return [self.augmented(part, np.random.default_rng(seed)) for part, seed in zip(crops, seeds, strict=True)]

    def without_augmentation(self) -> "CropBatches":
        """A copy whose [`crops_of`] neither augments clips nor drops codebooks."""
        other = copy.copy(self)
        other.plan, other.waveform_augmentation = BatchPlan(crops={}), None
        return other

    def augmented(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """The clip with the inputs that the model reads, fewer codebooks, and an augmented waveform."""
        audio, codes = self.kind(clip)
        clip = replace(
            clip, waveform=clip.waveform if audio else None, audio_codes=clip.audio_codes if codes else None
        )
        if clip.audio_codes is not None:
            clip = _forget_codebooks(clip, self.plan.known_codebooks, self.codebook_size, rng)
        if clip.waveform is not None and self.waveform_augmentation is not None:
            clip = replace(clip, waveform=self.waveform_augmentation(clip.waveform, rng))
        return clip


class StreamedBatches(CropBatches):
    """[`CropBatches`] from streams: each clip is used once in a pass, whatever its length.

    Each process, and each of its workers, reads its own files. So the loss of a process is the mean over its own
    tokens, and a run must be continued with the same number of processes and workers.

    Args:
        corpus ([`StreamedCorpus`]): the corpus to draw from.
        plan ([`BatchPlan`]): the composition of a batch.
        seed (`int`): determines the order of the clips, too.
        block_size (`int`): block size of every reader; see [`ClipStream`].
        num_workers (`int`): workers that prepare batches in turn.
        kwargs: as in [`CropBatches`].

    Raises:
        ValueError: a source has fewer crops in a batch than there are processes and turns.
    """

    def __init__(
        self,
        corpus: StreamedCorpus,
        plan: BatchPlan,
        *,
        seed: int,
        block_size: int = 1_000,
        num_workers: int = 0,
        **kwargs,
    ):
        self.corpus, self.block_size, self.readers = corpus, block_size, max(1, num_workers)
        self.streams: dict[tuple[str, int], ClipStream] = {}
        super().__init__((), plan, seed=seed, **kwargs)

    def pool(self, source: str, count: int) -> range:
        """The indices of this process's crops among the source's crops in every batch."""
        parts = self.num_processes * self.plan.gradient_accumulation
        if count < parts:
            raise ValueError(
                f"`crops` asks for {count} crops of {source!r} clips, but a stream is read in {parts} parts "
                f"(processes times `gradient_accumulation`), and each draws its own. Ask for {parts} or more."
            )
        return range(self.process, count, self.num_processes)

    def drawn_clips(self, step: int, rng: np.random.Generator) -> Iterator[tuple[int, Clip]]:
        """This process's clips of a batch, each with its index in the batch of all processes."""
        turn, worker = divmod(step, self.readers)  # the workers prepare batches in turn
        first = 0
        for source, own in self.pools.items():
            stream = self.stream(source, worker)
            for place, number in enumerate(own):
                yield first + number, stream[turn * len(own) + place]
            first += self.plan.crops[source]

    def stream(self, source: str, worker: int) -> ClipStream:
        """The stream of a source's clips for one worker of this process."""
        if (source, worker) not in self.streams:

            def of_source(row: dict) -> bool:
                return row.get("source", "") == source and self.corpus.wanted(row)

            readers = {"reader": self.process * self.readers + worker}
            readers["num_readers"] = self.num_processes * self.readers
            stream = ClipStream(self.corpus.dataset, of_source, self.block_size, self.seed, **readers)
            self.streams[source, worker] = stream
        return self.streams[source, worker]

    def share(self, rows: Sequence, num_tokens: Sequence[int]) -> list[tuple[list, float]]:
        """The rows of each turn and their weight; unlike in [`CropBatches`], `rows` are this process's own crops."""
        return Share(turns=self.plan.gradient_accumulation).of(rows, num_tokens)


FeatureRow = tuple[np.ndarray, np.ndarray, SoftLabels | None]  # features (feature_size, num_tokens), tokens, soft


class FeatureBatches(torch.utils.data.Dataset):
    """Training batches for a head on a frozen front end: features are computed once, not at every step.

    Every clip has one or more copies with different augmentation. Features are computed from the audio or, without
    audio, from the codes. The processes share the computation; each keeps all features in memory, 2 bytes per value.

    Args:
        model ([`BarkSemanticEncoderModel`]): computes the features.
        batches ([`CropBatches`]): batches of the same clips.
        copies (`Mapping[str, int]`): number of copies by source; by default, 1.
        code_copies (`int`): additional copies of clips with audio and codes, whose features are computed from the
            codes.
        batch_size (`int`): clips of similar length in a batch of the model.
    """

    def __init__(
        self,
        model: BarkSemanticEncoderModel,
        batches: CropBatches,
        *,
        copies: Mapping[str, int],
        code_copies: int = 0,
        batch_size: int = 8,
    ):
        self.batches = batches
        self.copies = {}
        for number, (source, (pool, _)) in enumerate(batches.pools.items()):
            read = [pool] * copies.get(source, 1)
            if pool[0].waveform is not None and pool[0].audio_codes is not None:
                read += [[replace(clip, waveform=None) for clip in pool]] * code_copies
            self.copies[source] = [
                features_of(model, clips, batches=batches, seed=[number, i], batch_size=batch_size)
                for i, clips in enumerate(read)
            ]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        plan = self.batches.plan
        rng = np.random.default_rng([self.batches.seed, 0, step])
        rows = []
        for source, (pool, probabilities) in self.batches.pools.items():
            for index in rng.choice(len(pool), plan.crops[source], p=probabilities):
                copies = self.copies[source]
                states, clip = copies[rng.integers(len(copies))][index], pool[index]
                start = int(rng.integers(max(0, clip.num_tokens - plan.num_tokens) + 1))
                part = slice(start, start + plan.num_tokens)
                rows.append((states[part].T.numpy(), clip.semantic_tokens[part], _soft_part(clip.soft_labels, part)))
        if plan.segment_tokens:
            rows = exchange_segments(rows, plan.segment_tokens, np.random.default_rng([self.batches.seed, 3, step]))
        batch = []
        for part, weight in self.batches.share(rows, [len(tokens) for _, tokens, _ in rows]):
            features, mask = _pad([features for features, _, _ in part], 0)
            inputs = {"features": features.transpose(1, 2), "mask": mask.bool()}
            inputs["labels"] = _pad([tokens for _, tokens, _ in part], -100)[0]
            if part[0][2] is not None:
                for name in SoftLabels._fields:
                    padded, _ = _pad([getattr(soft, name).T for _, _, soft in part], 0)
                    inputs[f"soft_{name}"] = padded.transpose(1, 2)
            batch.append({**inputs, **loss_weight(weight)})
        return batch


def exchange_segments(rows: Sequence[FeatureRow], segment_tokens: int, rng: np.random.Generator) -> list[FeatureRow]:
    """Cut all rows at the same places, and exchange the segments of every place among the rows that are long enough.

    Args:
        rows (`Sequence[FeatureRow]`): all with soft labels, or none.
        segment_tokens (`int`): segments have one length, of half to twice this many tokens; the first is shorter.
        rng (`np.random.Generator`): chooses the length, the first cut, and the exchanges.

    Returns:
        `list[FeatureRow]`: of the same lengths.
    """
    lengths = np.array([len(tokens) for _, tokens, _ in rows])
    length = int(rng.integers(segment_tokens // 2, 2 * segment_tokens))
    cuts = [0, *range(int(rng.integers(1, length + 1)), int(lengths.max()), length), int(lengths.max())]
    sources = [[] for _ in rows]  # for each row, the row and the part of each of its segments
    for start, stop in itertools.pairwise(cuts):
        whole = np.flatnonzero(lengths >= stop)
        origin = np.arange(len(rows))
        origin[whole] = rng.permutation(whole)
        for i, segments in enumerate(sources):
            segments.append((rows[origin[i]], slice(start, stop)))
    return [_joined(segments) for segments in sources]


def _joined(segments: Sequence[tuple[FeatureRow, slice]]) -> FeatureRow:
    features, tokens, soft = zip(
        *((row[0][:, part], row[1][part], _soft_part(row[2], part)) for row, part in segments), strict=True
    )
    joined = None if soft[0] is None else SoftLabels(*map(np.concatenate, zip(*soft, strict=True)))
    return np.concatenate(features, axis=1), np.concatenate(tokens), joined


def _soft_part(soft_labels: SoftLabels | None, part: slice) -> SoftLabels | None:
    return None if soft_labels is None else SoftLabels(*(values[part] for values in soft_labels))


@torch.no_grad()
def features_of(
    model: BarkSemanticEncoderModel,
    clips: Sequence[Clip],
    *,
    batches: CropBatches,
    seed: Sequence[int] = (),
    batch_size: int = 8,
) -> list[torch.Tensor]:
    """The features of one augmented copy of every clip, each `(num_tokens, feature_size)` in float16.

    Args:
        model ([`BarkSemanticEncoderModel`]): computes the features.
        clips (`Sequence[Clip]`): the clips, which are not cropped.
        batches ([`CropBatches`]): augments the clips, and defines the processes.
        seed (`Sequence[int]`): seed of the augmentation, added to that of the batches.
        batch_size (`int`): clips of similar length in a batch of the model.
    """
    model.eval()
    features = [None] * len(clips)
    order = sorted(range(len(clips)), key=lambda i: (batches.kind(clips[i])[0], clips[i].num_tokens))
    parts = []
    for i in order:
        if not parts or len(parts[-1]) == batch_size or batches.kind(clips[i]) != batches.kind(clips[parts[-1][-1]]):
            parts.append([])
        parts[-1].append(i)
    own = []
    for part in parts[batches.process :: batches.num_processes]:
        pieces = [Piece(clips[i], 0, clips[i].num_tokens, i) for i in part]
        crops = batches.crops_of(pieces, [[batches.seed, 2, *seed, i] for i in part])
        if crops[0].waveform is not None:
            crops = [replace(clip, audio_codes=None) for clip in crops]
        inputs = {name: tensor.to(model.device) for name, tensor in collate(crops, batches.codebook_size).items()}
        inputs.pop("labels")
        for i, states in zip(part, model.features(**inputs), strict=True):
            own.append((i, states[: clips[i].num_tokens].to("cpu", torch.float16)))
    for i, states in own if batches.num_processes == 1 else gather_object(own):
        features[i] = states
    return features


@torch.inference_mode()
def decode_pieces(pieces: Sequence[Piece], codec: EncodecModel) -> list[np.ndarray]:
    """Decode pieces to waveforms `(num_samples,)` at 16 kHz; pieces of equal length are decoded in one batch.

    Args:
        pieces (`Sequence[Piece]`): pieces of clips with codes.
        codec (`EncodecModel`): Bark's codec, such as `load_codec()`.
    """
    waveforms, by_length = [None] * len(pieces), {}
    for i, piece in enumerate(pieces):
        before = min(piece.start, CODEC_CONTEXT_TOKENS)
        longer = crop(replace(piece.clip, waveform=None), piece.start - before, piece.num_tokens + before)
        known = (longer.audio_codes < codec.config.codebook_size).all(axis=1)  # an unknown code has that id
        known = len(known) if known.all() else int(known.argmin())
        longer = replace(longer, audio_codes=longer.audio_codes[:known])
        by_length.setdefault(longer.audio_codes.shape, []).append((i, longer, before))
    for group in by_length.values():
        codes = np.stack([longer.audio_codes for _, longer, _ in group], axis=1)  # (8, pieces, num_frames)
        with torch.autocast(codec.device.type, enabled=False):  # the codec always runs in float32
            decoded = codec.decoder(codec.quantizer.decode(torch.from_numpy(codes).to(codec.device)))[:, 0]
        for (i, longer, before), waveform in zip(group, decoded.float().cpu().numpy(), strict=True):
            longer = replace(longer, waveform=resample(waveform, CODEC_SAMPLING_RATE, SAMPLING_RATE))
            waveforms[i] = crop(longer, before, pieces[i].num_tokens).waveform
    return waveforms


def crop(clip: Clip, start: int, num_tokens: int) -> Clip:
    """Tokens `start` to `start + num_tokens`, with exactly the codec frames and samples of that many tokens."""
    num_frames = num_codec_frames(num_tokens)
    codes, waveform = clip.audio_codes, clip.waveform
    if codes is not None:
        first = min(round(start * CODEC_RATE_HZ / SEMANTIC_RATE_HZ), codes.shape[1] - num_frames)
        codes = codes[:, first : first + num_frames]
    if waveform is not None:
        num_samples = num_samples_of_codec_frames(num_frames)
        first = min(round(start * SAMPLING_RATE / SEMANTIC_RATE_HZ), len(waveform) - num_samples)
        waveform = waveform[first : first + num_samples]
    tokens = clip.semantic_tokens[start : start + num_tokens]
    return replace(clip, semantic_tokens=tokens, audio_codes=codes, waveform=waveform)


def _forget_codebooks(clip: Clip, share_of_all: float, codebook_size: int, rng) -> Clip:
    codes = clip.audio_codes
    keep = len(codes) if rng.random() < share_of_all else int(rng.integers(1, len(codes)))
    codes = np.where(np.arange(len(codes))[:, None] < keep, codes, codebook_size)
    return replace(clip, audio_codes=codes)


def collate(clips: Sequence[Clip], codebook_size: int) -> dict[str, torch.Tensor]:
    """Right-padded inputs and labels of clips with the same kinds of input."""
    inputs = {}
    if clips[0].waveform is not None:
        inputs["input_values"], inputs["attention_mask"] = _pad([clip.waveform for clip in clips], 0.0)
    if clips[0].audio_codes is not None:
        inputs["audio_codes"], inputs["audio_codes_mask"] = _pad([clip.audio_codes for clip in clips], codebook_size)
    inputs["labels"] = _pad([clip.semantic_tokens for clip in clips], -100)[0]
    for clip in clips:
        if clip.audio_codes is not None and num_semantic_tokens(clip.audio_codes.shape[1]) != clip.num_tokens:
            raise ValueError(
                f"{clip.id}: {clip.audio_codes.shape[1]} codec frames don't hold {clip.num_tokens} tokens."
            )
    return inputs


def _pad(rows: Sequence[np.ndarray], value) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(row.shape[-1] for row in rows)
    padded = [np.pad(r, [(0, 0)] * (r.ndim - 1) + [(0, longest - r.shape[-1])], constant_values=value) for r in rows]
    lengths = torch.tensor([row.shape[-1] for row in rows])
    return torch.from_numpy(np.stack(padded)), (torch.arange(longest)[None] < lengths[:, None]).long()
