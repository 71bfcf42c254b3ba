"""What transformers' Bark lacks for training: batches and losses of its three models, laid out as inference runs them.

    Utterance                     one clip: text ids, semantic tokens, codec codes
    semantic_example              text + voice history, infer token -> semantic tokens, end
    coarse_example                a window of semantic tokens, infer token, past -> interleaved coarse ids
    fine_example                  a window of codes, some codebooks unknown -> one of them
    random_example                one of those, drawn as training wants them
    UtteranceBatches              a training set of any number of batches, their rows of similar length
    SemanticLoss, CoarseLoss, FineLoss    a model of transformers, unmodified, with `.loss`

`train(SemanticLoss(bark.semantic, configs), UtteranceBatches(utterances, configs, "semantic"), arguments)` trains one.

Labels are already shifted: `labels[p]` is what position `p` predicts, -100 where it predicts nothing. The models run
through their own modules (so adapters and dropout work), but with fused attention, and nothing beyond the last
attention is computed for positions without a label.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

from .configs import BarkGenerationConfigs, bark_generation_configs
from .prompting import (
    check_text,
    coarse_columns,
    coarse_history,
    coarse_ids,
    coarse_inputs,
    coarse_window,
    fine_history,
    fits_one_generation,
    join_clips,
    num_fine_windows,
    padded,
    text_prefix,
)

STAGES = ("semantic", "coarse", "fine")
IGNORED = -100
JOINT = "+"  # between the ids of joined utterances
QUERY_SLICE = 192  # queries whose scores are in memory at once on a CPU

# What random_example draws: constants, because they mirror how Bark is prompted and how its fine stage runs.
MAX_HISTORY_CLIPS = 3  # as many clips of the voice make a history, or fewer
PROMPT_SHARE = 0.5  # fine windows whose known part is the voice history, as at the start of inference
COPIED_SHARE = 0.2  # fine windows in which known frames are targets: inference predicts overlaps anew
JUNK_TAIL_SHARE = 0.5  # fine windows with codes behind the clip's end: inference leaves its own guesses there
POOLED_BATCHES = 8  # a batch is drawn from as many batches' examples, sorted by length


@dataclass(frozen=True, eq=False)
class Utterance:
    """One clip of speech, as Bark's models see it.

    Args:
        text_ids (`np.ndarray` of shape `(num_text_ids,)`): the tokenizer's ids, without special tokens and offset.
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): ids in `[0, semantic_vocab_size)`.
        audio_codes (`np.ndarray` of shape `(8, num_frames)`, *optional*): ids in `[0, codebook_size)`; the semantic
            stage does without.
        complete (`bool`): the speech really ends where the tokens end, so the end is learnt.
        voice (`str`): clips of one voice are each other's history.
        id (`str`): named by errors; those of joined utterances have a "+" between them.
    """

    text_ids: np.ndarray
    semantic_tokens: np.ndarray
    audio_codes: np.ndarray | None = None
    complete: bool = True
    voice: str = ""
    id: str = ""

    @property
    def num_tokens(self) -> int:
        return len(self.semantic_tokens)

    @property
    def num_frames(self) -> int:
        return self.audio_codes.shape[1]

    @property
    def parts(self) -> set[str]:
        """Ids of the clips that it is joined of."""
        return set(self.id.split(JOINT)) - {""}


def semantic_example(
    utterance: Utterance, history: Utterance | None, configs: BarkGenerationConfigs
) -> dict[str, np.ndarray]:
    """What the semantic model sees of an utterance: the text and the voice's last tokens, whose embeddings it adds up.

    Tokens beyond `max_new_tokens` are left out, as inference would never reach them; then the end is no target.

    Returns:
        `text_ids` and `history_ids` of shape `(max_input_semantic_length,)`, `input_ids` (the infer token and all
        tokens that a target follows) and `labels` (the tokens, and the end where it is one) of shape `(num_targets,)`.

    Raises:
        ValueError: the text is longer than the model reads.
    """
    config = configs.semantic
    text_ids, history_ids = text_prefix(utterance.text_ids, history, configs)
    targets = np.asarray(utterance.semantic_tokens)
    if utterance.complete:
        targets = np.append(targets, config.eos_token_id)
    targets = targets[: config.max_new_tokens]
    return {
        "text_ids": text_ids,
        "history_ids": history_ids,
        "input_ids": np.append(config.semantic_infer_token, targets[:-1]),
        "labels": targets,
    }


def coarse_example(
    utterance: Utterance,
    history: Utterance | None,
    configs: BarkGenerationConfigs,
    *,
    num_generated: int = 0,
    past_targets: bool = True,
    history_targets: bool = False,
) -> dict[str, np.ndarray]:
    """What the coarse model sees when it has generated `num_generated` ids of an utterance and continues.

    Inference rebuilds its input for every window of `sliding_window_len` ids: a window of semantic tokens, padded; the
    infer token; the last `max_coarse_history` coarse ids, of which the voice history's end lags by one frame.

    Args:
        utterance (`Utterance`), history (`Utterance`, *optional*): the clip, and one of the same voice before it.
        num_generated (`int`): whole frames; inference stops at multiples of `sliding_window_len`.
        past_targets (`bool`): the utterance's earlier ids in the window are targets too, not only those that
            inference generates in this window.
        history_targets (`bool`): so are the history's.

    Returns:
        `input_ids` and `labels` of shape `(max_coarse_input_length + num_past + num_new,)`.

    Raises:
        ValueError: `num_generated` ends within a frame or behind the clip, or the history has less than two tokens.
    """
    config = configs.coarse
    num_ids = config.n_coarse_codebooks * utterance.num_frames
    if num_generated % config.n_coarse_codebooks or not 0 <= num_generated < num_ids:
        raise ValueError(
            f"{utterance.id}: `num_generated` is {num_generated}; it must be a multiple of "
            f"{config.n_coarse_codebooks} in [0, {num_ids})."
        )
    if history is not None and history.num_tokens < 2:
        raise ValueError(f"The history {history.id} has {history.num_tokens} tokens; Bark needs 2 or more.")
    past_tokens, past = coarse_history(history, configs)
    coarse = np.concatenate([past, coarse_ids(utterance.audio_codes, configs)])
    tokens = np.concatenate([past_tokens, utterance.semantic_tokens])
    first_token, start = coarse_window(len(past_tokens), len(past), num_generated, configs)
    now = len(past) + num_generated
    stop = min(len(coarse), now + config.sliding_window_len)
    first_target = now if not past_targets else start if history_targets else max(start, len(past))
    targets = coarse[start:stop].copy()
    targets[: first_target - start] = IGNORED
    return {
        "input_ids": coarse_inputs(tokens[first_token:], coarse[start : stop - 1], configs),
        "labels": np.concatenate([np.full(config.max_coarse_input_length, IGNORED), targets]),
    }


def fine_example(
    utterance: Utterance,
    history: Utterance | None,
    configs: BarkGenerationConfigs,
    *,
    codebook: int,
    start: int = 0,
    num_known: int | None = None,
    known_targets: bool = False,
    tail_codes: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """What the fine model sees of a window of the history's end and the utterance when it predicts a codebook.

    Codebooks below `codebook` are known; `codebook` itself and those above only in the first `num_known` frames.

    Args:
        utterance (`Utterance`), history (`Utterance`, *optional*): the clip, and one of the same voice before it.
        codebook (`int`): in `[n_coarse_codebooks, n_fine_codebooks)`.
        start (`int`): first frame of the window, counted from the history's first frame that is used.
        num_known (`int`, *optional*): the default is the history's.
        known_targets (`bool`): known frames are targets too. Where inference's windows overlap, it predicts frames
            anew that it sees; a model that never learnt to copy spoils them.
        tail_codes (`np.ndarray` of shape `(n_fine_codebooks, num_frames)`, *optional*): codes behind the clip's end.
            Inference has its own guesses there in the codebooks between the coarse ones and this one.

    Returns:
        `codes` of shape `(max_fine_input_length, n_fine_codebooks)`, `codebook` of shape `()` and `labels` of shape
        `(max_fine_input_length,)`: codes of that codebook.
    """
    length, num_codebooks = configs.fine.max_fine_input_length, configs.fine.n_fine_codebooks
    num_coarse = configs.coarse.n_coarse_codebooks
    if not num_coarse <= codebook < num_codebooks:
        raise ValueError(f"`codebook` is {codebook}; the fine stage predicts {num_coarse} to {num_codebooks - 1}.")
    past = fine_history(history, configs)
    num_known = max(0, past.shape[1] - start) if num_known is None else num_known
    stream = np.concatenate([past, utterance.audio_codes], axis=1)[:, start : start + length]
    num_frames = stream.shape[1]
    codes = np.full((num_codebooks, length), configs.codebook_size)
    codes[:, :num_frames] = stream
    codes[codebook:, num_known:] = configs.codebook_size
    if tail_codes is not None:
        guessed = slice(num_coarse, codebook)
        codes[guessed, num_frames:] = tail_codes[guessed, : length - num_frames]
    labels = np.full(length, IGNORED)
    first = 0 if known_targets else num_known
    labels[first:num_frames] = stream[codebook, first:]
    return {"codes": codes.T, "codebook": np.array(codebook), "labels": labels}


def join_utterances(utterances: Sequence[Utterance], configs: BarkGenerationConfigs) -> Utterance:
    """Make one utterance of several of one voice, in their order; its text is theirs without a pause between them."""
    tokens, codes = join_clips(utterances, configs.num_frames)
    last = utterances[-1]
    return Utterance(
        text_ids=np.concatenate([utterance.text_ids for utterance in utterances]),
        semantic_tokens=tokens,
        audio_codes=codes,
        complete=last.complete,
        voice=last.voice,
        id=JOINT.join(utterance.id for utterance in utterances),
    )


def random_example(
    stage: str,
    utterance: Utterance,
    history: Utterance | None,
    configs: BarkGenerationConfigs,
    rng: np.random.Generator,
    *,
    history_targets: bool = False,
) -> dict[str, np.ndarray]:
    """One example of a stage, its windows drawn as often as inference generates from such windows."""
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
    """Values of `num_generated` that make different inputs, and how many ids inference generates from each.

    Until a window slides, every input continues the one before, so the last of those stands for all of them.
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
    """Batch number `step` of a training set of one stage: a list with one dictionary of tensors.

    Args:
        utterances (sequence of `Utterance`): the clips.
        configs (`BarkGenerationConfigs`): of the model that is trained.
        stage (`str`): "semantic", "coarse" or "fine".
        num_positions (`int`): of a batch, padding included: rows times the longest row.
        steps (`int`), seed (`int`), process (`int`): a batch is a pure function of (seed, process, step).
        history_probability (`float`): share of examples with other clips of the voice as history, where there are any.
        history_targets (`bool`): the coarse model learns the history's ids too.
        join_probability (`float`): share of semantic examples of two clips of a voice, where both fit.

    Raises:
        ValueError: no utterances, an unknown stage, or an utterance that the model cannot have made; the message
            names it.
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
        process: int = 0,
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
        self.num_positions, self.steps, self.seed, self.process = num_positions, steps, seed, process
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
        rng = np.random.default_rng([self.seed, self.process, step])
        examples, drawn = [], 0
        while drawn < POOLED_BATCHES * self.num_positions:
            examples.append(self.example(rng))
            drawn += num_example_positions(examples[-1])
        batches = _batches_of_similar_length(examples, self.num_positions)
        sizes = np.array([len(batch) * num_example_positions(batch[-1]) for batch in batches], float)
        return [collate(batches[rng.choice(len(batches), p=sizes / sizes.sum())], self.configs)]

    def example(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A random example of a random utterance."""
        index = int(self.cumulative[:-1].searchsorted(rng.random() * self.cumulative[-1], side="right"))
        utterance, used = self.utterances[index], [index]
        if self.stage == "semantic" and rng.random() < self.join_probability:
            utterance, used = self.joined(index, rng)
        history = self.history(used, rng) if rng.random() < self.history_probability else None
        return random_example(self.stage, utterance, history, self.configs, rng, history_targets=self.history_targets)

    def joined(self, index: int, rng: np.random.Generator) -> tuple[Utterance, list[int]]:
        """The utterance followed by another of its voice, if both fit into one generation; and who they are."""
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
        """One to three other clips of the voice, until the history is as long as Bark reads it."""
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
    """Positions of the model that an example takes."""
    return len(example.get("text_ids", ())) + len(example["labels"])


def collate(examples: Sequence[dict[str, np.ndarray]], configs: BarkGenerationConfigs) -> dict[str, torch.Tensor]:
    """Stack examples of one stage, right-padded: the causal models never see what is behind a row's last label."""
    pads = {"input_ids": configs.semantic.semantic_pad_token, "labels": IGNORED}
    batch = {}
    for name in examples[0]:
        rows = [example[name] for example in examples]
        if name in pads:
            longest = max(len(row) for row in rows)
            rows = [padded(row, longest, pads[name]) for row in rows]
        batch[name] = torch.from_numpy(np.stack(rows).astype(np.int64))
    return batch


def _batches_of_similar_length(examples: list, num_positions: int) -> list[list]:
    """Sort by length and cut, so that the rows of every batch, padded, have at most `num_positions` positions."""
    batches = [[]]
    for example in sorted(examples, key=num_example_positions):
        if batches[-1] and (len(batches[-1]) + 1) * num_example_positions(example) > num_positions:
            batches.append([])
        batches[-1].append(example)
    return batches


def _utterance_weights(utterances, configs, stage) -> np.ndarray:
    """How often to draw each utterance: what exceeds a window is drawn more, so that it is seen as often."""
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


@dataclass
class BarkLossOutput(ModelOutput):
    """The mean loss over targets; how many they are; and, outside training, how many the model would say greedily.

    Args:
        loss (`torch.FloatTensor` of shape `()`), num_targets (`torch.LongTensor` of shape `()`), num_correct
            (`torch.LongTensor` of shape `()`).
    """

    loss: torch.FloatTensor | None = None
    num_targets: torch.LongTensor | None = None
    num_correct: torch.LongTensor | None = None


class _StageLoss(nn.Module):
    """A Bark model whose forward takes a batch with labels and returns the cross-entropy over legal classes.

    Args:
        model (`nn.Module`): transformers' model of the stage, with adapters or without.
        configs (`BarkGenerationConfigs`): of the Bark that it belongs to.
        label_smoothing (`float`): of the cross-entropy, over legal classes.
        gradient_checkpointing (`bool`): compute every layer twice to keep only its input.
    """

    def __init__(
        self,
        model: nn.Module,
        configs: BarkGenerationConfigs,
        *,
        label_smoothing: float = 0.0,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        self.model, self.configs = model, configs
        self.label_smoothing, self.gradient_checkpointing = label_smoothing, gradient_checkpointing

    def gradient_checkpointing_enable(self) -> None:
        self.gradient_checkpointing = True

    def forward(self, **batch: torch.Tensor) -> BarkLossOutput:
        logits, classes = self.target_logits(**batch)
        if not len(classes):
            raise ValueError("No position of the batch has a label, so there is nothing to learn from it.")
        loss = F.cross_entropy(logits.float(), classes, label_smoothing=self.label_smoothing)
        num_correct = None if self.training else (logits.argmax(-1) == classes).sum()
        return BarkLossOutput(loss, torch.tensor(len(classes), device=loss.device), num_correct)

    def target_states(self, embeddings: torch.Tensor, labels: torch.LongTensor) -> torch.Tensor:
        """Final hidden states `(num_targets, hidden_size)` of the positions that have a label, row by row."""
        model, length = self.model, embeddings.shape[1]
        if length > model.config.block_size:
            raise ValueError(f"An example has {length} positions; the model has {model.config.block_size}.")
        positions = model.position_embeds_layer(torch.arange(length, device=embeddings.device))
        hidden = model.drop(embeddings + positions)  # (batch, length, hidden_size)
        targets = labels != IGNORED
        for index, block in enumerate(model.layers):
            kept = targets if index == len(model.layers) - 1 else None
            if self.gradient_checkpointing and self.training:
                hidden = checkpoint(block_states, block, hidden, kept, use_reentrant=False)
            else:
                hidden = block_states(block, hidden, kept)
        return model.layernorm_final(hidden)


class SemanticLoss(_StageLoss):
    def target_logits(self, text_ids, history_ids, input_ids, labels) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `(num_targets, semantic_vocab_size + 1)`, the end last, and the right classes `(num_targets,)`."""
        embed, config = self.model.input_embeds_layer, self.configs.semantic
        embeddings = torch.cat([embed(text_ids) + embed(history_ids), embed(input_ids)], dim=1)
        labels = F.pad(labels, (text_ids.shape[1], 0), value=IGNORED)
        states, classes = self.target_states(embeddings, labels), labels[labels != IGNORED]
        num_tokens, end = config.semantic_vocab_size, config.eos_token_id
        if end == num_tokens:
            return _head_logits(self.model.lm_head, states, 0, num_tokens + 1), classes
        logits = [_head_logits(self.model.lm_head, states, *columns) for columns in ((0, num_tokens), (end, end + 1))]
        return torch.cat(logits, -1), classes.where(classes != end, num_tokens)


class CoarseLoss(_StageLoss):
    def target_logits(self, input_ids, labels) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `(num_targets, codebook_size)` of each target's own codebook, and the right codes."""
        states = self.target_states(self.model.input_embeds_layer(input_ids), labels)
        ids = labels[labels != IGNORED] - self.configs.semantic.semantic_vocab_size
        size = self.configs.codebook_size
        heads = [(self.model.lm_head, columns.start, columns.stop) for columns in coarse_columns(self.configs)]
        return _logits_by_head(states, ids // size, heads), ids % size


class FineLoss(_StageLoss):
    def target_logits(self, codes, codebook, labels) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `(num_targets, codebook_size)` of every row's codebook, and the right codes."""
        model, config = self.model, self.model.config
        embeddings = 0
        for index, embed in enumerate(model.input_embeds_layers):
            embeddings = embeddings + embed(codes[:, :, index]) * (index <= codebook)[:, None, None]
        states = self.target_states(embeddings, labels)
        targets = labels != IGNORED
        heads = [(head, 0, self.configs.codebook_size) for head in model.lm_heads]
        groups = (codebook - config.n_codes_given)[:, None].expand_as(labels)[targets]
        return _logits_by_head(states, groups, heads), labels[targets]


def block_states(block: nn.Module, hidden: torch.Tensor, kept: torch.BoolTensor | None = None) -> torch.Tensor:
    """One `BarkBlock` with fused attention.

    Args:
        block (`BarkBlock`): its modules are called, not its forward.
        hidden (`torch.FloatTensor` of shape `(batch, length, hidden_size)`): the block's input.
        kept (`torch.BoolTensor` of shape `(batch, length)`, *optional*): positions that go on behind the attention.

    Returns:
        `torch.FloatTensor` of the input's shape, or `(num_kept, hidden_size)`.
    """
    attention, (batch, length, _) = block.attn, hidden.shape
    projected = attention.att_proj(block.layernorm_1(hidden))
    projected = projected.view(batch, length, 3, attention.num_heads, attention.head_dim)
    query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (batch, num_heads, length, head_dim)
    dropout = attention.attn_dropout.p if attention.training else 0.0
    mixed = _attended(query, key, value, is_causal=attention.is_causal, dropout=dropout)
    mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
    if kept is not None:
        hidden, mixed = hidden[kept], mixed[kept]  # (num_kept, hidden_size)
    hidden = hidden + attention.resid_dropout(attention.out_proj(mixed))
    return hidden + block.mlp(block.layernorm_2(hidden))


def _attended(query, key, value, *, is_causal: bool, dropout: float) -> torch.Tensor:
    """Softmax attention over `(batch, num_heads, length, head_dim)`.

    PyTorch's fused kernel is half as fast on a CPU in bfloat16 as plain products of slices of the queries.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=is_causal)
    length, query, mixed = query.shape[2], query * query.shape[3] ** -0.5, []
    future = query.new_full((QUERY_SLICE, QUERY_SLICE), -torch.inf).triu(1)
    for start in range(0, length, QUERY_SLICE):
        stop = min(length, start + QUERY_SLICE)
        num_keys = stop if is_causal else length
        scores = query[:, :, start:stop] @ key[:, :, :num_keys].transpose(2, 3)
        if is_causal:
            scores[..., start:] += future[: stop - start, : stop - start]
        mixed.append(F.dropout(scores.softmax(-1), dropout) @ value[:, :, :num_keys])
    return torch.cat(mixed, dim=2)


def _logits_by_head(states: torch.Tensor, groups: torch.Tensor, heads: list[tuple]) -> torch.Tensor:
    """Row `i` of `states` times the columns of `heads[groups[i]]`: `(num_rows, num_columns)`.

    Heads without a row take part too, so that every parameter has a gradient on every process.
    """
    order = groups.argsort(stable=True)
    counts = groups.bincount(minlength=len(heads)).tolist()
    parts = states[order].split(counts)
    logits = torch.cat([_head_logits(head[0], part, *head[1:]) for head, part in zip(heads, parts, strict=True)])
    return logits[order.argsort()]


def _head_logits(head: nn.Module, states: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    if type(head) is nn.Linear and head.bias is None:
        return F.linear(states, head.weight[start:stop])
    return head(states)[:, start:stop]


__all__ = [
    "BarkGenerationConfigs",
    "BarkLossOutput",
    "CoarseLoss",
    "FineLoss",
    "SemanticLoss",
    "Utterance",
    "UtteranceBatches",
    "bark_generation_configs",
    "coarse_example",
    "collate",
    "fine_example",
    "join_utterances",
    "random_example",
    "semantic_example",
]
