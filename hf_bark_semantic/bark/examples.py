"""Training examples for Bark's three models: the tokens and codes of a clip, in the layout of inference.

    Utterance           one clip: text ids, semantic tokens, codec codes
    semantic_example    text + voice history, infer token -> semantic tokens, end token
    coarse_example      a window of semantic tokens, infer token, past ids -> interleaved coarse ids
    fine_example        a window of codes, some codebooks unknown -> one codebook
    join_utterances     join consecutive clips to one
    collate             make a batch of examples

Labels are already shifted: `labels[p]` is the target of position `p`, -100 without a target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .configs import BarkGenerationConfigs
from .prompting import (
    coarse_history,
    coarse_ids,
    coarse_inputs,
    coarse_window,
    fine_history,
    join_clips,
    padded,
    text_prefix,
)

IGNORED = -100
JOINT = "+"  # separates the ids of joined utterances


@dataclass(frozen=True, eq=False)
class Utterance:
    """One clip of speech, for Bark's models.

    Args:
        text_ids (`np.ndarray` of shape `(num_text_ids,)`): the tokenizer's ids, without special tokens and offset.
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): ids in `[0, semantic_vocab_size)`.
        audio_codes (`np.ndarray` of shape `(8, num_frames)`, *optional*): ids in `[0, codebook_size)`; the semantic
            stage does not need them.
        complete (`bool`): whether the speech ends with the last token, so that the end token is a target.
        voice (`str`): the speaker; clips of one voice can be the history of each other.
        id (`str`): an id, for errors; ids of joined utterances are separated by "+".
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
        """The ids of its clips, if it was joined."""
        return set(self.id.split(JOINT)) - {""}


def semantic_example(
    utterance: Utterance, history: Utterance | None, configs: BarkGenerationConfigs
) -> dict[str, np.ndarray]:
    """An example for the semantic model: the text and the last tokens of the voice, whose embeddings it adds.

    Tokens beyond `max_new_tokens` are left out, because inference never generates them; then the end token is not a
    target.

    Returns:
        `text_ids` and `history_ids` of shape `(max_input_semantic_length,)`, `input_ids` (the infer token, then all
        targets but the last) and `labels` (the tokens, and the end token) of shape `(num_targets,)`.

    Raises:
        ValueError: the text is too long for the model.
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
    """An example for the coarse model: its input after it has generated `num_generated` ids of an utterance.

    Inference rebuilds its input for every window of `sliding_window_len` ids: a window of semantic tokens, padded; the
    infer token; the last `max_coarse_history` coarse ids, of which the voice history's end lags by one frame.

    Args:
        utterance (`Utterance`), history (`Utterance`, *optional*): the clip, and one of the same voice before it.
        num_generated (`int`): a number of ids in whole frames; in inference, a multiple of `sliding_window_len`.
        past_targets (`bool`): whether earlier ids of the utterance in the window are targets, in addition to those
            that inference generates in this window.
        history_targets (`bool`): whether the history's ids are targets, too.

    Returns:
        `input_ids` and `labels` of shape `(max_coarse_input_length + num_past + num_new,)`.

    Raises:
        ValueError: `num_generated` splits a frame or exceeds the clip, or the history has fewer than two tokens.
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
    """An example for the fine model: its input to predict one codebook of a window over history and utterance.

    Codebooks below `codebook` are known; `codebook` and those above only in the first `num_known` frames.

    Args:
        utterance (`Utterance`), history (`Utterance`, *optional*): the clip, and one of the same voice before it.
        codebook (`int`): in `[n_coarse_codebooks, n_fine_codebooks)`.
        start (`int`): first frame of the window, counted from the first frame of the used history.
        num_known (`int`, *optional*): number of known frames; by default, those of the history.
        known_targets (`bool`): whether known frames are targets, too. In inference, overlapping windows predict known
            frames again, and only a model that was trained to copy them keeps them correct.
        tail_codes (`np.ndarray` of shape `(n_fine_codebooks, num_frames)`, *optional*): codes after the clip's end,
            where inference has predictions in the codebooks between the coarse ones and this one.

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
    """Join utterances of one voice, in their order, to one; its text ids are theirs, concatenated."""
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


def collate(examples: Sequence[dict[str, np.ndarray]], configs: BarkGenerationConfigs) -> dict[str, torch.Tensor]:
    """Stack examples of one stage, right-padded, which has no effect on the causal models before a row's end."""
    pads = {"input_ids": configs.semantic.semantic_pad_token, "labels": IGNORED}
    batch = {}
    for name in examples[0]:
        rows = [example[name] for example in examples]
        if name in pads:
            longest = max(len(row) for row in rows)
            rows = [padded(row, longest, pads[name]) for row in rows]
        batch[name] = torch.from_numpy(np.stack(rows).astype(np.int64))
    return batch


__all__ = [
    "Utterance",
    "coarse_example",
    "collate",
    "fine_example",
    "join_utterances",
    "semantic_example",
]
