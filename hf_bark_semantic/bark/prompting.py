"""Bark's input layout: how each stage uses a text, a voice, and the ids that it has generated so far.

    text_to_ids, check_text   the ids of a text by Bark's tokenizer; check their number
    text_prefix               the first positions of the text stage, from text ids and a voice
    longest_generation        largest number of semantic tokens in one generation
    longest_piece_s           longest duration of a text in one generation
    fits_one_generation       whether a text and its semantic tokens fit into one generation
    semantic_columns          the ids that the text stage may generate
    coarse_columns            the ids of each codebook in the coarse stage
    coarse_ids, coarse_codes  convert codes of the coarse codebooks to ids of the coarse stage, and back
    coarse_history            the tokens and ids of a voice for the coarse stage
    coarse_window             the start of the coarse stage's window, by the number of generated ids
    coarse_inputs             the input of the coarse stage, from tokens and ids
    fine_history              the codes of a voice for the fine stage
    num_fine_windows          number of windows of the fine stage for a clip
    join_clips                concatenate clips, with the number of frames that their tokens make

Lengths, windows and paddings are those of suno-ai/bark, generation.py, as transformers implements them; all sizes are
those of the Bark's own generation config.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from .configs import BarkGenerationConfigs, HistoryLengths

MAX_PIECE_S = 14.0  # of text or recording in one generation; suno-ai/bark, README: "around 13 seconds of spoken text"
SPARE_SHARE = 0.91  # share of the longest generation to use, because Bark may speak more slowly than estimated


class Voice(Protocol):
    """Speech as Bark's tokens: a `VoicePrompt`, or an `Utterance`, which may have no codes."""

    @property
    def semantic_tokens(self) -> np.ndarray: ...  # (num_tokens,)

    @property
    def audio_codes(self) -> Any: ...  # (num_codebooks, num_frames), or None


def text_to_ids(text: str, tokenizer: Any) -> np.ndarray:
    """The ids of a text, without special tokens and without Bark's offset.

    Args:
        text (`str`): the text.
        tokenizer: Bark's tokenizer or processor.

    Returns:
        `np.ndarray`: int64 of shape `(num_text_ids,)`.

    Raises:
        ValueError: the text has an unpaired surrogate, which is not a character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The text has {text[error.start]!r} as its character {error.start + 1}, which is half of one: a text in "
            "UTF-16 was cut there, or a text in another encoding was read as UTF-8. Remove it."
        ) from error
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a BarkProcessor has one
    return np.asarray(tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)


def check_text(num_text_ids: int, configs: "BarkGenerationConfigs", name: str = "The text") -> None:
    """Raise a `ValueError` if a text has more ids than the text stage reads."""
    longest = configs.semantic.max_input_semantic_length
    if num_text_ids > longest:
        raise ValueError(f"{name} has {num_text_ids} ids; Bark reads {longest} at once. Split it.")


def text_prefix(
    text_ids: Sequence[int] | np.ndarray, voice: Voice | None, configs: "BarkGenerationConfigs"
) -> np.ndarray:
    """The first positions of the text stage, where it adds the embeddings of the text and of the voice.

    Args:
        text_ids (`np.ndarray` of shape `(num_text_ids,)`): the tokenizer's ids; empty if the text is unknown.
        voice (`VoicePrompt` or `Utterance`, *optional*): the voice, of which the last semantic tokens are used.
        configs (`BarkGenerationConfigs`): of the Bark.

    Returns:
        `np.ndarray`: int64 of shape `(2, max_input_semantic_length)`.

    Raises:
        ValueError: the text has more ids than `max_input_semantic_length`.
    """
    check_text(len(text_ids), configs)
    config, length = configs.semantic, configs.semantic.max_input_semantic_length
    text = np.asarray(text_ids, np.int64) + config.text_encoding_offset
    history = () if voice is None else voice.semantic_tokens[-length:]
    return np.stack([padded(text, length, config.text_pad_token), padded(history, length, config.semantic_pad_token)])


def longest_generation(configs: "BarkGenerationConfigs", block_size: int) -> int:
    """The largest number of semantic tokens in one generation, limited by the config and by the positions.

    Args:
        configs (`BarkGenerationConfigs`): of the Bark.
        block_size (`int`): positions of its text stage, `bark.semantic.config.block_size`; the last token needs none.
    """
    return min(configs.semantic.max_new_tokens, block_size - configs.semantic.max_input_semantic_length)


def longest_piece_s(configs: "BarkGenerationConfigs", block_size: int) -> float:
    """The longest estimated duration of a text, so that Bark can finish it: 14.0 s of Suno's 15.4 s."""
    most_s = longest_generation(configs, block_size) / configs.semantic.semantic_rate_hz
    return min(MAX_PIECE_S, SPARE_SHARE * most_s)


def longest_recording_s(configs: "BarkGenerationConfigs") -> float:
    """The longest duration of a training recording: its tokens and the end token must fit into one generation."""
    return min(MAX_PIECE_S, (configs.semantic.max_new_tokens - 1) / configs.semantic.semantic_rate_hz)


def fits_one_generation(num_text_ids: int, num_tokens: int, configs: "BarkGenerationConfigs") -> bool:
    """Whether the text stage can read this number of text ids, and generate this number of tokens and an end token."""
    config = configs.semantic
    return num_text_ids <= config.max_input_semantic_length and num_tokens < config.max_new_tokens


def semantic_columns(configs: "BarkGenerationConfigs") -> slice | np.ndarray:
    """The ids that the text stage may generate: semantic tokens, then the end token."""
    vocab_size, end = configs.semantic.semantic_vocab_size, configs.semantic.eos_token_id
    return slice(0, vocab_size + 1) if end == vocab_size else np.array([*range(vocab_size), end])


def coarse_columns(configs: "BarkGenerationConfigs") -> list[slice]:
    """The ids of each coarse codebook, which follow the semantic tokens."""
    first, size = configs.semantic.semantic_vocab_size, configs.codebook_size
    starts = [first + codebook * size for codebook in range(configs.coarse.n_coarse_codebooks)]
    return [slice(start, start + size) for start in starts]


def coarse_ids(audio_codes: np.ndarray, configs: "BarkGenerationConfigs") -> np.ndarray:
    """The coarse codebooks as ids of the coarse stage, interleaved frame by frame.

    Args:
        audio_codes (`np.ndarray` of shape `(num_codebooks, num_frames)`): all codebooks, or the coarse ones.
        configs (`BarkGenerationConfigs`): of the Bark.

    Returns:
        `np.ndarray`: of shape `(n_coarse_codebooks * num_frames,)`.
    """
    offsets = np.array([columns.start for columns in coarse_columns(configs)])
    return (audio_codes[: len(offsets)] + offsets[:, None]).T.reshape(-1)


def coarse_codes(ids: Sequence[int] | np.ndarray, configs: "BarkGenerationConfigs") -> np.ndarray:
    """The codes `(n_coarse_codebooks, num_frames)` of whole frames of ids: the inverse of [`coarse_ids`]."""
    frames = np.asarray(ids, np.int64).reshape(-1, configs.coarse.n_coarse_codebooks)
    return (frames.T - configs.semantic.semantic_vocab_size) % configs.codebook_size


def coarse_history(voice: Voice | None, configs: "BarkGenerationConfigs") -> tuple[np.ndarray, np.ndarray]:
    """The part of a voice that the coarse stage reads, cut to matching lengths.

    Args:
        voice (`VoicePrompt` or `Utterance`, *optional*): a voice with codes.
        configs (`BarkGenerationConfigs`): of the Bark.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: semantic tokens `(num_kept,)` and coarse ids `(num_kept_ids - 2,)`, both empty
            without a voice. The last frame is left out: "bit of a hack for time alignment (sounds better)",
            suno-ai/bark, generation.py.
    """
    if voice is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ids = coarse_ids(voice.audio_codes, configs)
    num_kept, num_kept_ids = coarse_history_lengths(len(voice.semantic_tokens), len(ids), configs.history_lengths)
    # For a voice of one token, both slices keep everything, as in Suno's program.
    return voice.semantic_tokens[-num_kept:], ids[-num_kept_ids:][:-2]


def coarse_history_lengths(num_tokens: int, num_ids: int, histories: "HistoryLengths") -> tuple[int, int]:
    """The numbers of a voice's semantic tokens and coarse ids that the coarse stage keeps.

    As in `BarkCoarseModel.preprocess_histories`: `m = min(209, n - n % 2, floor(num_ids / r))` tokens and the last
    `round(m * r)` ids, of which the last two are then dropped; `r = 2 * 75 / 49.9`. Ids alternate between two
    codebooks, so if `round(m * r)` is odd, the history starts with the second one, where the model was only trained on
    the first. For codes and tokens of equal duration, `m = min(209, n - 1)`, and the start is wrong for every even n
    up to 84 and every odd n from 85 to 209: 105 of the 209 lengths below 210, and none from 210 on.

    Args:
        num_tokens (`int`), num_ids (`int`): numbers of semantic tokens and coarse ids of the voice.
        histories (`HistoryLengths`): the histories of the Bark; the numbers above are for Suno's.
    """
    ratio = histories.coarse_per_token
    num_kept = min(histories.coarse_tokens, num_tokens - num_tokens % 2, int(num_ids / ratio))
    return num_kept, round(num_kept * ratio)


def coarse_window(num_tokens: int, num_ids: int, num_generated: int, configs: "BarkGenerationConfigs"):
    """The start of the coarse stage's window in the semantic tokens and in the coarse ids.

    Args:
        num_tokens (`int`), num_ids (`int`): numbers of tokens and ids of the voice, from [`coarse_history`].
        num_generated (`int`, or an array of them): number of generated ids.
        configs (`BarkGenerationConfigs`): of the Bark.

    Returns:
        The index of the first token (voice, then clip) and of the first id (voice, then generated ids), both of the
            shape of `num_generated`.
    """
    position = num_tokens + np.round(num_generated / configs.coarse_per_token).astype(int)
    first_token = np.maximum(0, position - configs.history_lengths.coarse_tokens)
    return first_token, np.maximum(0, num_ids + num_generated - configs.history_lengths.coarse_ids)


def coarse_inputs(
    semantic_tokens: Sequence[int] | np.ndarray, ids: Sequence[int] | np.ndarray, configs: "BarkGenerationConfigs"
) -> np.ndarray:
    """The input of the coarse stage: the semantic tokens of a window, padded; the infer token; the coarse ids.

    Args:
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): tokens from the window's start; those after its end
            are cut off.
        ids (`np.ndarray` of shape `(num_ids,)`): ids from the window's start.
        configs (`BarkGenerationConfigs`): of the Bark.

    Returns:
        `np.ndarray`: int64 of shape `(max_coarse_input_length + 1 + num_ids,)`.
    """
    config, length = configs.coarse, configs.coarse.max_coarse_input_length
    tokens = padded(semantic_tokens[:length], length, config.coarse_semantic_pad_token)
    return np.concatenate([tokens, [config.coarse_infer_token], ids]).astype(np.int64)


def fine_history(voice: Voice | None, configs: "BarkGenerationConfigs") -> np.ndarray:
    """The last codes of a voice, which the fine stage reads: `(n_fine_codebooks, num_frames)`."""
    if voice is None:
        return np.zeros((configs.fine.n_fine_codebooks, 0), np.int64)
    return voice.audio_codes[:, -configs.fine.max_fine_history_length :]


def num_fine_windows(num_frames: int, configs: "BarkGenerationConfigs") -> int:
    """The number of fine-stage windows for a clip of `num_frames`, including the frames of the voice."""
    beyond = max(0, num_frames - configs.fine.max_fine_input_length)
    return 1 + -(-beyond // configs.fine.max_fine_history_length)


def join_clips(clips: Sequence[Voice], num_frames: Callable[[int], int]) -> tuple[np.ndarray, Any]:
    """Concatenate the tokens and codes of clips.

    Sums of rounded lengths would drift: if a clip has one frame too few for its tokens, its last token is dropped.

    Args:
        clips (sequence of `VoicePrompt` or `Utterance`): the clips, in order.
        num_frames: returns the number of frames for a number of tokens, `configs.num_frames`.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: tokens `(num_tokens,)` and codes `(num_codebooks, num_frames(num_tokens))`;
            no codes (`None`) if a clip has none.
    """
    tokens, codes, total = [], [], 0
    for clip in clips:
        kept = len(clip.semantic_tokens)
        if clip.audio_codes is not None:
            start = num_frames(total)
            while kept and num_frames(total + kept) - start > clip.audio_codes.shape[1]:
                kept -= 1
            codes.append(clip.audio_codes[:, : num_frames(total + kept) - start])
        tokens.append(clip.semantic_tokens[:kept])
        total += kept
    return np.concatenate(tokens), np.concatenate(codes, axis=1) if len(codes) == len(tokens) else None


def padded(ids: Sequence[int] | np.ndarray, length: int, pad: int) -> np.ndarray:
    """Ids, right-padded: int64 of shape `(length,)`."""
    return np.concatenate([ids, np.full(length - len(ids), pad)]).astype(np.int64)
