"""Batches of utterances for the training and validation of Bark's three models.

    random_example      an example of a stage, with windows distributed as in inference
    UtteranceBatches    training batches with rows of similar length
    ReplayBatches       training batches that also contain Bark's own speech
    judged_batches      fixed validation batches, so that losses can be compared
    split_held_out      split utterances for training and validation
    voice_prompt_of     a voice prompt from utterances

`train(SemanticLoss(bark.semantic, configs), UtteranceBatches(utterances, configs, "semantic"), arguments)` trains one.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..bark.configs import STAGES, BarkGenerationConfigs
from ..bark.examples import (
    IGNORED,
    Utterance,
    coarse_example,
    collate,
    fine_example,
    join_utterances,
    semantic_example,
)
from ..bark.prompting import (
    check_text,
    coarse_history,
    coarse_window,
    fine_history,
    fits_one_generation,
    num_fine_windows,
)
from ..bark.voice_prompt import VoicePrompt
from ..configuration_bark_semantic import SEMANTIC_RATE_HZ
from .shares import Share, loss_weight

# Distribution of random_example: constants, because they follow how Bark is prompted and runs its fine stage.
MAX_HISTORY_CLIPS = 3  # clips of the voice in a history, at most
PROMPT_SHARE = 0.5  # share of fine windows whose known part is the history, as at the start of inference
COPIED_SHARE = 0.2  # share of fine windows with known frames as targets: inference predicts overlaps again
JUNK_TAIL_SHARE = 0.5  # share of fine windows with codes after the clip's end, where inference has predictions
WHOLE = Share()
POOLED_BATCHES = 8  # examples of this many batches are sorted by length together


def random_example(
    stage: str,
    utterance: Utterance,
    history: Utterance | None,
    configs: BarkGenerationConfigs,
    rng: np.random.Generator,
    *,
    history_targets: bool = False,
) -> dict[str, np.ndarray]:
    """A random example of a stage; its windows are distributed as in inference."""
    if stage == "semantic":
        return semantic_example(utterance, history, configs)
    if stage == "coarse":
        steps, weights = _coarse_windows(utterance, history, configs)
        num_generated = int(rng.choice(steps, p=weights / weights.sum()))
        return coarse_example(
            utterance, history, configs, num_generated=num_generated, history_targets=history_targets
        )
    return _random_fine_example(utterance, history, configs, rng)


def _coarse_windows(utterance, history, configs) -> tuple[np.ndarray, np.ndarray]:
    """Values of `num_generated` with different inputs, and the number of ids that inference generates from each.

    Until the window slides, each input continues the one before it, so the last of them covers all.
    """
    past_tokens, past = coarse_history(history, configs)
    num_ids, stride = configs.coarse.n_coarse_codebooks * utterance.num_frames, configs.coarse.sliding_window_len
    steps = np.arange(0, num_ids, stride)
    first_tokens, first_ids = coarse_window(len(past_tokens), len(past), steps, configs)
    weights = np.minimum(stride, num_ids - steps).astype(float)
    first = max(0, int(((first_tokens == 0) & (first_ids == 0)).sum()) - 1)
    weights[first] += weights[:first].sum()
    return steps[first:], weights[first:]


def _random_fine_example(utterance, history, configs, rng) -> dict[str, np.ndarray]:
    config, num_codebooks = configs.fine, configs.fine.n_fine_codebooks
    codebook = int(rng.integers(configs.coarse.n_coarse_codebooks, num_codebooks))
    num_past = fine_history(history, configs).shape[1]
    num_windows = num_fine_windows(num_past + utterance.num_frames, configs)
    last_start = max(0, num_past + utterance.num_frames - config.max_fine_input_length)
    start = int(rng.integers(last_start + 1)) if rng.random() >= 1 / num_windows else 0
    num_frames = min(config.max_fine_input_length, num_past + utterance.num_frames - start)
    num_known = num_past if start == 0 else config.max_fine_history_length
    if rng.random() >= PROMPT_SHARE:
        num_known = int(rng.integers(min(config.max_fine_history_length, num_frames // 2) + 1))
    known_targets = rng.random() < COPIED_SHARE
    if known_targets:
        num_known = int(rng.integers(num_frames + 1))
    tail_codes = None
    if rng.random() < JUNK_TAIL_SHARE:
        tail_codes = rng.integers(configs.codebook_size, size=(num_codebooks, config.max_fine_input_length))
    return fine_example(
        utterance,
        history,
        configs,
        codebook=codebook,
        start=start,
        num_known=num_known,
        known_targets=known_targets,
        tail_codes=tail_codes,
    )


class UtteranceBatches(torch.utils.data.Dataset):
    """Training batches of one stage: `batches[step]` has a dictionary of tensors for each turn of a process.

    The loss of a dictionary is multiplied by its `loss_weight`, 1 where it has none; see [`Share`].

    Args:
        utterances (sequence of `Utterance`): the clips.
        configs (`BarkGenerationConfigs`): of the Bark that is trained.
        stage (`str`): "semantic", "coarse" or "fine".
        num_positions (`int`): size of a batch of all processes together: rows times the length of the longest row.
        steps (`int`): the number of batches.
        seed (`int`): a batch is a pure function of (seed, step).
        share ([`Share`]): this process's share of each batch; by default, one process computes a batch at once.
        history_probability (`float`): probability of a history of other clips of the voice, if there are any.
        history_targets (`bool`): whether the history's ids are targets of the coarse model, too.
        join_probability (`float`): probability that a semantic example joins two clips of a voice, if they fit.

    Raises:
        ValueError: no utterances, an unknown stage, or an invalid utterance, which the message names.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        configs: BarkGenerationConfigs,
        stage: str,
        *,
        num_positions: int = 8_192,
        steps: int = 1_000,
        seed: int = 0,
        share: Share = WHOLE,
        history_probability: float = 0.5,
        history_targets: bool = False,
        join_probability: float = 0.0,
    ):
        if stage not in STAGES:
            raise ValueError(f"`stage` is {stage!r}; it must be one of {', '.join(STAGES)}.")
        if not utterances:
            raise ValueError("There are no utterances to train on.")
        for utterance in utterances:
            _check(utterance, configs, stage)
        self.utterances, self.configs, self.stage = utterances, configs, stage
        self.num_positions, self.steps, self.seed, self.share = num_positions, steps, seed, share
        self.history_probability, self.history_targets = history_probability, history_targets
        self.join_probability = join_probability
        self.by_voice = {}
        for index, utterance in enumerate(utterances):
            self.by_voice.setdefault(utterance.voice, []).append(index)
        self.cumulative = np.cumsum(_utterance_weights(utterances, configs, stage))

    def __len__(self):
        return self.steps

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        if not 0 <= step < self.steps:
            raise IndexError(f"There is no batch {step}: `steps` is {self.steps}.")
        rng = np.random.default_rng([self.seed, 0, step])
        examples, drawn = [], 0
        while drawn < POOLED_BATCHES * self.num_positions:
            examples.append(self.example(rng))
            drawn += num_example_positions(examples[-1])
        batches = _batches_of_similar_length(examples, self.num_positions)
        sizes = np.array([len(batch) * num_example_positions(batch[-1]) for batch in batches], float)
        rows = batches[rng.choice(len(batches), p=sizes / sizes.sum())]
        num_targets = [int((row["labels"] != IGNORED).sum()) for row in rows]
        parts = self.share.of(rows, num_targets)
        return [{**collate(part, self.configs), **loss_weight(weight)} for part, weight in parts]

    def example(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A random example of a random utterance."""
        index = int(self.cumulative[:-1].searchsorted(rng.random() * self.cumulative[-1], side="right"))
        utterance, used = self.utterances[index], [index]
        if self.stage == "semantic" and rng.random() < self.join_probability:
            utterance, used = self.joined(index, rng)
        history = self.history(used, rng) if rng.random() < self.history_probability else None
        return random_example(self.stage, utterance, history, self.configs, rng, history_targets=self.history_targets)

    def joined(self, index: int, rng: np.random.Generator) -> tuple[Utterance, list[int]]:
        """The utterance, followed by another one of its voice if both fit into one generation, and their indices."""
        utterance = self.utterances[index]
        other = next(self.others([index], rng), None)
        if other is None or not utterance.complete:
            return utterance, [index]
        both = [utterance, self.utterances[other]]
        num_text_ids, num_tokens = sum(len(part.text_ids) for part in both), sum(part.num_tokens for part in both)
        if not fits_one_generation(num_text_ids, num_tokens, self.configs):
            return utterance, [index]
        return join_utterances(both, self.configs), [index, other]

    def history(self, used: list[int], rng: np.random.Generator) -> Utterance | None:
        """A history of one to three other clips of the voice, up to the length that Bark reads."""
        chosen, num_tokens, num_clips = [], 0, rng.integers(1, MAX_HISTORY_CLIPS + 1)
        for other in self.others(used, rng):
            chosen.append(self.utterances[other])
            num_tokens += chosen[-1].num_tokens
            if len(chosen) == num_clips or num_tokens >= self.configs.history_lengths.most_tokens:
                break
        return join_utterances(chosen, self.configs) if num_tokens >= 2 else None

    def others(self, used: list[int], rng: np.random.Generator) -> Iterator[int]:
        """Utterances of the same voice in random order, without those that share a clip with the `used` ones."""
        parts = set().union(*(self.utterances[index].parts for index in used))
        for other in rng.permutation(self.by_voice[self.utterances[used[0]].voice]):
            if other not in used and not parts & self.utterances[other].parts:
                yield int(other)


def num_example_positions(example: dict[str, np.ndarray]) -> int:
    """The number of the model's positions that an example takes."""
    return len(example.get("text_ids", ())) + len(example["labels"])


def _batches_of_similar_length(examples: list, num_positions: int) -> list[list]:
    """Divide examples, sorted by length, into batches with at most `num_positions` positions, with padding."""
    batches = [[]]
    for example in sorted(examples, key=num_example_positions):
        if batches[-1] and (len(batches[-1]) + 1) * num_example_positions(example) > num_positions:
            batches.append([])
        batches[-1].append(example)
    return batches


def _utterance_weights(utterances, configs, stage) -> np.ndarray:
    """Sampling weights: utterances longer than a window are drawn more often, so that all parts are seen equally."""
    if stage == "semantic":
        return np.ones(len(utterances))
    window = configs.coarse.max_coarse_history / configs.coarse.n_coarse_codebooks
    window = window if stage == "coarse" else configs.fine.max_fine_input_length
    return np.array([max(window, utterance.num_frames) for utterance in utterances], float)


def _check(utterance: Utterance, configs: BarkGenerationConfigs, stage: str):
    tokens, vocab_size = np.asarray(utterance.semantic_tokens), configs.semantic.semantic_vocab_size
    if tokens.ndim != 1 or not len(tokens) or tokens.min() < 0 or tokens.max() >= vocab_size:
        raise ValueError(f"{utterance.id}: `semantic_tokens` must be a row of ids in [0, {vocab_size}).")
    if stage == "semantic":
        check_text(len(utterance.text_ids), configs, f"{utterance.id}: the text")
    codes = utterance.audio_codes
    if codes is None:
        if stage == "semantic":
            return
        raise ValueError(f"{utterance.id}: the {stage} stage needs `audio_codes`.")
    num_codebooks, size = configs.fine.n_fine_codebooks, configs.codebook_size
    if codes.ndim != 2 or len(codes) != num_codebooks or not codes.size or codes.min() < 0 or codes.max() >= size:
        raise ValueError(
            f"{utterance.id}: `audio_codes` must be {num_codebooks} rows of ids in [0, {size}); the shape is "
            f"{codes.shape}."
        )
    expected = configs.num_frames(len(tokens))
    if abs(codes.shape[1] - expected) > 1:
        raise ValueError(
            f"{utterance.id}: {len(tokens)} semantic tokens make {expected} codec frames, but there are "
            f"{codes.shape[1]}. The pair is corrupt; remove it."
        )


def split_held_out(utterances: Sequence[Utterance], share: float) -> tuple[list[Utterance], list[Utterance]]:
    """Hold some utterances out, the same ones every time; utterances of the same text stay together.

    Args:
        share (`float`): share of the utterances, above 0 and at most 0.5.

    Returns:
        Utterances to train on, and held-out ones; at least one of each.

    Raises:
        ValueError: a share out of range, or only one text.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"The share of held-out utterances is {share!r}; it must be above 0 and at most 0.5.")
    groups: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        groups.setdefault(hashlib.sha256(utterance.text_ids.tobytes()).hexdigest(), []).append(utterance)
    if len(groups) < 2:
        raise ValueError(f"There are {len(utterances)} utterances of one text; at least two texts are needed.")
    held_out = []
    for digest in sorted(groups)[:-1]:
        held_out += groups.pop(digest)
        if len(held_out) >= share * len(utterances):
            break
    return [utterance for group in groups.values() for utterance in group], held_out


class ReplayBatches(UtteranceBatches):
    """Training batches in which some examples are Bark's own speech, so that it forgets less.

    Args:
        utterances, configs, stage, kwargs: as in [`UtteranceBatches`].
        replay (`Sequence[Utterance]`): Bark's own speech.
        replay_share (`float`): its share of the examples.
    """

    def __init__(self, utterances, configs, stage, *, replay=(), replay_share: float = 0.0, **kwargs):
        super().__init__(utterances, configs, stage, **kwargs)
        if not 0 <= replay_share < 1 or (replay_share > 0) != (len(replay) > 0):
            raise ValueError(
                f"The share of replayed examples is {replay_share!r}, and there are {len(replay)} utterances to "
                "replay; it must be below 1, and above 0 with utterances only."
            )
        self.replay_share = replay_share
        self.replay = UtteranceBatches(replay, configs, stage, **kwargs) if replay else None

    def example(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if self.replay is not None and rng.random() < self.replay_share:
            return self.replay.example(rng)
        return super().example(rng)


def judged_batches(
    utterances: Sequence[Utterance],
    configs: BarkGenerationConfigs,
    stage: str,
    *,
    histories: Sequence[Utterance | None] | None = None,
    num_positions: int = 8_192,
) -> list[dict[str, torch.Tensor]]:
    """Validation batches, always the same for the same utterances, so that losses can be compared.

    Args:
        utterances (`Sequence[Utterance]`): the utterances to measure the loss on.
        configs (`BarkGenerationConfigs`), stage (`str`): as in [`UtteranceBatches`].
        histories (`Sequence[Utterance | None]`, *optional*): the voice prompt of each utterance. By default, every
            utterance occurs without a history and, if there are other clips of its voice, with one.
        num_positions (`int`): largest size of a batch.

    Returns:
        `list[dict[str, torch.Tensor]]`: inputs of the stage's loss.
    """
    drawn = UtteranceBatches(utterances, configs, stage)  # checks the utterances, too
    examples = []
    for index, utterance in enumerate(utterances):
        rng = np.random.default_rng(index)
        pasts = [None, drawn.history([index], rng)] if histories is None else [histories[index]]
        for past in pasts[:1] if pasts[-1] is None else pasts:
            examples.append(random_example(stage, utterance, past, configs, rng))
    examples.sort(key=num_example_positions)
    size = max(1, num_positions // num_example_positions(examples[-1]))
    return [collate(examples[start : start + size], configs) for start in range(0, len(examples), size)]


def voice_prompt_of(utterances: Sequence[Utterance], configs: BarkGenerationConfigs) -> VoicePrompt:
    """A voice prompt made of the longest utterances of the most frequent voice."""
    voice = Counter(utterance.voice for utterance in utterances).most_common(1)[0][0]
    chosen = []
    for utterance in sorted((u for u in utterances if u.voice == voice), key=lambda u: -u.num_tokens):
        chosen.insert(0, utterance)  # the longest last, because Bark reads the end of a prompt
        if sum(part.num_tokens for part in chosen) >= configs.history_lengths.semantic_tokens:
            break
    joined = join_utterances(chosen, configs)
    prompt = VoicePrompt.from_tokens_and_codes(joined.semantic_tokens, joined.audio_codes, **configs.vocabularies)
    return prompt.tail(configs.history_lengths.most_tokens)


def utterance_of(voice_prompt: VoicePrompt) -> Utterance:
    """A voice prompt as an utterance that can be a history."""
    return Utterance(np.zeros(0, np.int64), voice_prompt.semantic_tokens, voice_prompt.audio_codes)


def minutes(utterances: Sequence[Utterance]) -> float:
    return sum(utterance.num_tokens for utterance in utterances) / SEMANTIC_RATE_HZ / 60


__all__ = [
    "ReplayBatches",
    "UtteranceBatches",
    "judged_batches",
    "minutes",
    "random_example",
    "split_held_out",
    "utterance_of",
    "voice_prompt_of",
]
