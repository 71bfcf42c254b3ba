"""Training data of the encoder: rows of a corpus, cut to crops, collated to the model's inputs.

A row has `id`, `voice`, `kind` or `language`, `fold`, `semantic_tokens` (n,), `audio_codes` (8, T) or empty, and
`audio` (16 kHz, a `datasets` audio value, empty or none). A crop is a whole number of tokens with exactly the samples
and codec frames that Bark makes of them, so the model counts the same tokens that the labels have. Batches are a pure
function of (seed, step, process): nothing has to be saved to resume them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from datasets import Audio, Dataset, load_dataset, load_from_disk

from .audio import load_audio
from .configuration_bark_semantic import (
    CODEC_RATE_HZ,
    SAMPLING_RATE,
    SEMANTIC_RATE_HZ,
    num_codec_frames,
    num_samples_of_codec_frames,
    num_semantic_tokens,
)

COLUMNS = ("id", "voice", "semantic_tokens", "audio_codes")


@dataclass(frozen=True)
class Clip:
    """One row of a corpus, as arrays."""

    id: str
    source: str
    kind: str
    voice: str
    fold: int
    in_folds: bool
    semantic_tokens: np.ndarray  # (num_tokens,) int64
    audio_codes: np.ndarray | None  # (8, num_frames) int64; codebook_size where unknown
    waveform: np.ndarray | None  # (num_samples,) float32, 16 kHz

    @property
    def num_tokens(self) -> int:
        return len(self.semantic_tokens)


def load_corpus(path: str) -> list[Clip]:
    """Read a corpus from a `datasets` folder or Hub id into memory.

    Raises:
        ValueError: a column is missing, or tokens, codes and audio of a row have lengths that don't belong together
            (the formula of `num_codec_frames`); the message names the row.
    """
    return list(read_corpus(path))


def read_corpus(path: str) -> Iterator[Clip]:
    """Read a corpus clip by clip, for one that is larger than memory; see [`load_corpus`]."""
    dataset = _load_dataset(path)
    missing = [column for column in COLUMNS if column not in dataset.column_names]
    if missing:
        raise ValueError(f"The corpus {path} lacks the columns {missing}; it has {dataset.column_names}.")
    if isinstance(dataset.features.get("audio"), Audio):
        dataset = dataset.cast_column("audio", Audio(decode=False))  # load_audio decodes, without torchcodec
    for row in dataset.with_format("numpy"):
        yield _clip(row)


def _load_dataset(path: str) -> Dataset:
    try:
        return load_from_disk(path)
    except FileNotFoundError:
        return load_dataset(path, split="train")


def _clip(row) -> Clip:
    tokens, codes = np.asarray(row["semantic_tokens"]), row["audio_codes"]
    codes = np.stack([np.asarray(codebook) for codebook in codes]) if len(codes) else np.zeros((0, 0), int)
    audio = row.get("audio")
    if isinstance(audio, Mapping):
        audio = load_audio(audio, SAMPLING_RATE)
    waveform = np.asarray([] if audio is None else audio, np.float32)
    num_frames = num_codec_frames(len(tokens))
    if codes.size and codes.shape[1] != num_frames:
        raise ValueError(
            f"{row['id']}: {len(tokens)} tokens make {num_frames} codec frames, but there are {codes.shape[1]}. "
            "The pair is corrupt; remove it."
        )
    num_samples = num_samples_of_codec_frames(num_frames)
    if waveform.size and abs(len(waveform) - num_samples) > 2:
        raise ValueError(
            f"{row['id']}: {len(tokens)} tokens make {num_samples} samples at 16 kHz, but there are {len(waveform)}. "
            "The pair is corrupt; remove it."
        )
    return Clip(
        id=str(row["id"]),
        source=str(row.get("source", "")),
        kind=str(row.get("kind") or row.get("language") or ""),
        voice=str(row["voice"]),
        fold=int(row.get("fold", -1)),
        in_folds=bool(row.get("in_folds", True)),
        semantic_tokens=tokens.astype(np.int64),
        audio_codes=codes.astype(np.int64) if codes.size else None,
        waveform=np.pad(waveform, (0, max(0, num_samples - len(waveform)))) if waveform.size else None,
    )


def split_fold(clips: Sequence[Clip], fold: int | None) -> tuple[list[Clip], list[Clip]]:
    """Training and held-out clips. With a fold, clips that may share a voice or a text with it are in neither."""
    if fold is None:
        return list(clips), []
    usable = [clip for clip in clips if clip.in_folds]
    return [c for c in usable if c.fold != fold], [c for c in usable if c.fold == fold]


@dataclass(frozen=True)
class BatchPlan:
    """How many crops of each source make a batch, and how long they are.

    Args:
        crops (`dict[str, int]`): crops per batch from clips of each `source`, such as `{"pair": 8, "prompt": 8}`.
        num_tokens (`int`): tokens per crop; shorter clips are taken whole.
        known_codebooks (`float`): share of crops whose codes keep all codebooks; the others keep 1 to 7 of them.
    """

    crops: dict[str, int] = field(default_factory=lambda: {"pair": 16})
    num_tokens: int = 256
    known_codebooks: float = 1.0


class CropBatches(torch.utils.data.Dataset):
    """Batch number `step` of an endless training set: a list of inputs of the model, one for each kind of input."""

    def __init__(
        self,
        clips: Sequence[Clip],
        plan: BatchPlan,
        steps: int,
        seed: int,
        codebook_size: int,
        process: int = 0,
        waveform_augmentation=None,
    ):
        self.plan, self.steps, self.seed, self.process = plan, steps, seed, process
        self.clips, self.codebook_size, self.waveform_augmentation = clips, codebook_size, waveform_augmentation
        self.pools = {}
        for source, count in plan.crops.items():
            pool = [clip for clip in clips if clip.source == source]
            if count and not pool:
                raise ValueError(
                    f"The batch plan wants {count} crops of {source!r} clips; the corpus has none of them to train on."
                )
            if count:
                lengths = np.array([clip.num_tokens for clip in pool], float)
                self.pools[source] = (pool, lengths / lengths.sum())

    def __len__(self):
        return self.steps

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        rng = np.random.default_rng([self.seed, self.process, step])
        crops = []
        for source, (pool, probabilities) in self.pools.items():
            for index in rng.choice(len(pool), self.plan.crops[source], p=probabilities):
                crops.append(random_crop(pool[index], self.plan.num_tokens, rng))
        groups = {}
        for crop in crops:
            crop = self.augmented(crop, rng)
            groups.setdefault((crop.waveform is not None, crop.audio_codes is not None), []).append(crop)
        return [collate(group, self.codebook_size) for group in groups.values()]

    def augmented(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """The clip with fewer codebooks, and its sound as it may be in other places."""
        if clip.audio_codes is not None:
            clip = _forget_codebooks(clip, self.plan.known_codebooks, self.codebook_size, rng)
        if clip.waveform is not None and self.waveform_augmentation is not None:
            clip = replace(clip, waveform=self.waveform_augmentation(clip.waveform, rng))
        return clip


class FeatureBatches(torch.utils.data.Dataset):
    """Batch number `step` for a head on a frozen front: features are computed once, not at every step.

    Every clip is there in several copies, each heard through its own augmentation. Audio is heard where a clip has
    audio; codes are read where it has none, and in `code_copies` more copies where it has both.
    """

    def __init__(self, model, batches: CropBatches, copies: dict[str, int], code_copies: int = 0, batch_size: int = 8):
        self.batches = batches
        rng = np.random.default_rng([batches.seed, batches.process])
        self.copies = {
            source: [features_of(model, pool, batches, rng, batch_size) for _ in range(copies.get(source, 1))]
            for source, (pool, _) in batches.pools.items()
        }
        for source, (pool, _) in batches.pools.items():
            silent = [replace(clip, waveform=None) for clip in pool]
            if pool[0].waveform is not None and pool[0].audio_codes is not None:
                extra = [features_of(model, silent, batches, rng, batch_size) for _ in range(code_copies)]
                self.copies[source] += extra

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        rng = np.random.default_rng([self.batches.seed, self.batches.process, step])
        num_tokens, features, labels = self.batches.plan.num_tokens, [], []
        for source, (pool, probabilities) in self.batches.pools.items():
            for index in rng.choice(len(pool), self.batches.plan.crops[source], p=probabilities):
                copies = self.copies[source]
                states, tokens = copies[rng.integers(len(copies))][index], pool[index].semantic_tokens
                start = int(rng.integers(max(0, len(tokens) - num_tokens) + 1))
                features.append(states[start : start + num_tokens].T.numpy())
                labels.append(tokens[start : start + num_tokens])
        features, mask = _pad(features, 0)
        return [{"features": features.transpose(1, 2), "mask": mask.bool(), "labels": _pad(labels, -100)[0]}]


@torch.no_grad()
def features_of(model, clips: Sequence[Clip], batches: CropBatches, rng, batch_size: int) -> list[torch.Tensor]:
    """One augmented copy of the features of every clip, each `(num_tokens, feature_size)` in float16."""
    model.eval()
    features = [None] * len(clips)
    order = sorted(range(len(clips)), key=lambda i: clips[i].num_tokens)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        heard = [batches.augmented(clips[i], rng) for i in part]
        if heard[0].waveform is not None:
            heard = [replace(clip, audio_codes=None) for clip in heard]
        inputs = {name: tensor.to(model.device) for name, tensor in collate(heard, batches.codebook_size).items()}
        inputs.pop("labels")
        for i, states in zip(part, model.features(**inputs), strict=True):
            features[i] = states[: clips[i].num_tokens].to("cpu", torch.float16)
    return features


def random_crop(clip: Clip, num_tokens: int, rng: np.random.Generator) -> Clip:
    """`num_tokens` tokens from a random start, with their samples and codec frames; at most the whole clip."""
    if clip.num_tokens <= num_tokens:
        return clip
    start = int(rng.integers(clip.num_tokens - num_tokens + 1))
    return crop(clip, start, num_tokens)


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
    """Right-padded inputs and labels of clips that all have the same kinds of input."""
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
