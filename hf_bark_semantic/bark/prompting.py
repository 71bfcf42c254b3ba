"""Bark's input layout: how each stage uses a text, a voice, and the ids that it has generated so far.

    text_to_ids, check_text   a text -> the ids of Bark's tokenizer; whether Bark reads as many at once
    text_prefix               text ids and a voice -> the first positions of the text stage
    longest_generation        semantic tokens that the text stage generates at once
    longest_piece_s           seconds of speech that a text may ask for at once
    fits_one_generation       whether a text and the tokens that say it fit into one generation
    semantic_columns          the ids that the text stage may generate
    coarse_columns            the ids of each codebook in the coarse stage
    coarse_ids, coarse_codes  codes of the coarse codebooks <-> ids of the coarse stage
    coarse_history            a voice -> the tokens and the ids that the coarse stage starts after
    coarse_window             the first token and the first id that it reads when it has generated some
    coarse_inputs             tokens and ids -> its input
    fine_history              a voice -> the codes that the fine stage starts after
    num_fine_windows          windows in which the fine stage completes a clip
    join_clips                clips one after another, with as many frames as their tokens make

Lengths, windows and paddings are those of suno-ai/bark, generation.py, as transformers implements them; all sizes are
those of the Bark's own generation config.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from .configs import BarkGenerationConfigs, HistoryLengths

MAX_PIECE_S = 14.0  # of text or of a recording at once; suno-ai/bark, README: "around 13 seconds of spoken text"
SPARE_SHARE = 0.91  # of the longest generation, because Bark may speak more slowly than a text's estimate


class Voice(Protocol):
    """Speech in Bark's tokens: a `VoicePrompt`, or an `Utterance`, which may be without codes."""

    @property
    def semantic_tokens(self) -> np.ndarray: ...  # (num_tokens,)

    @property
    def audio_codes(self) -> Any: ...  # (num_codebooks, num_frames), or None


def text_to_ids(text: str, tokenizer: Any) -> np.ndarray:
    """The ids of a text, without special tokens and without Bark's offset.

    Args:
        text (`str`): what is to be said.
        tokenizer: Bark's, or its processor.

    Returns:
        `np.ndarray`: int64 of shape `(num_text_ids,)`.

    Raises:
        ValueError: half of a surrogate pair in the text, which is no character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The text has {text[error.start]!r} as its character {error.start + 1}, which is half of one: a text in "
            "UTF-16 was cut there, or one in another encoding was read as UTF-8. Remove it."
        ) from error
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a BarkProcessor has one
    return np.asarray(tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)


def check_text(num_text_ids: int, configs: "BarkGenerationConfigs", name: str = "The text") -> None:
    """Raise a `ValueError` that names the text if it has more ids than the text stage reads."""
    longest = configs.semantic.max_input_semantic_length
    if num_text_ids > longest:
        raise ValueError(f"{name} has {num_text_ids} ids; Bark reads {longest} at once. Split it.")


def text_prefix(
    text_ids: Sequence[int] | np.ndarray, voice: Voice | None, configs: "BarkGenerationConfigs"
) -> np.ndarray:
    """The first positions of the text stage, where it adds up two embeddings: one of the text, one of the voice.

    Args:
        text_ids (`np.ndarray` of shape `(num_text_ids,)`): the tokenizer's; none where the text is unknown.
        voice (`VoicePrompt` or `Utterance`, *optional*): its last semantic tokens are read.
        configs (`BarkGenerationConfigs`): of the Bark.

    Returns:
        `np.ndarray`: int64 of shape `(2, max_input_semantic_length)`.

    Raises:
        ValueError: the text has more ids than that.
    """
    check_text(len(text_ids), configs)
    config, length = configs.semantic, configs.semantic.max_input_semantic_length
    text = np.asarray(text_ids, np.int64) + config.text_encoding_offset
    history = () if voice is None else voice.semantic_tokens[-length:]
    return np.stack([padded(text, length, config.text_pad_token), padded(history, length, config.semantic_pad_token)])


def longest_generation(configs: "BarkGenerationConfigs", block_size: int) -> int:
    """Semantic tokens that the text stage generates at once: what its config allows, and its positions.

    Args:
        configs (`BarkGenerationConfigs`): of the Bark.
        block_size (`int`): positions of its text stage, `bark.semantic.config.block_size`; the last token needs none.
    """
    return min(configs.semantic.max_new_tokens, block_size - configs.semantic.max_input_semantic_length)


def longest_piece_s(configs: "BarkGenerationConfigs", block_size: int) -> float:
    """Seconds that a text may take by an estimate, so that Bark comes to its end: 14.0 of Suno's 15.4."""
    most_s = longest_generation(configs, block_size) / configs.semantic.semantic_rate_hz
    return min(MAX_PIECE_S, SPARE_SHARE * most_s)


def longest_recording_s(configs: "BarkGenerationConfigs") -> float:
    """Seconds that a recording may last for Bark to learn all of it: its tokens and the end are one generation."""
    return min(MAX_PIECE_S, (configs.semantic.max_new_tokens - 1) / configs.semantic.semantic_rate_hz)


def fits_one_generation(num_text_ids: int, num_tokens: int, configs: "BarkGenerationConfigs") -> bool:
    """Whether the text stage can read as many text ids, and generate as many tokens and the end after them."""
    config = configs.semantic
    return num_text_ids <= config.max_input_semantic_length and num_tokens < config.max_new_tokens


def semantic_columns(configs: "BarkGenerationConfigs") -> slice | np.ndarray:
    """The ids that the text stage may generate: semantic tokens, and the end behind them."""
    vocab_size, end = configs.semantic.semantic_vocab_size, configs.semantic.eos_token_id
    return slice(0, vocab_size + 1) if end == vocab_size else np.array([*range(vocab_size), end])


def coarse_columns(configs: "BarkGenerationConfigs") -> list[slice]:
    """The ids of each coarse codebook, which follow the semantic tokens."""
    first, size = configs.semantic.semantic_vocab_size, configs.codebook_size
    starts = [first + codebook * size for codebook in range(configs.coarse.n_coarse_codebooks)]
    return [slice(start, start + size) for start in starts]


def coarse_ids(audio_codes: np.ndarray, configs: "BarkGenerationConfigs") -> np.ndarray:
    """The coarse codebooks, interleaved frame by frame, each with its own ids.

    Args:
        audio_codes (`np.ndarray` of shape `(num_codebooks, num_frames)`): of all codebooks, or of the coarse ones.
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
    """What the coarse stage reads of a voice, cut to lengths that belong together.

    Args:
        voice (`VoicePrompt` or `Utterance`, *optional*): with codes.
        configs (`BarkGenerationConfigs`): of the Bark.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: semantic tokens `(num_kept,)` and coarse ids `(num_kept_ids - 2,)`, none of
            them for no voice. The last frame is left out: "bit of a hack for time alignment (sounds better)",
            suno-ai/bark, generation.py.
    """
    if voice is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ids = coarse_ids(voice.audio_codes, configs)
    num_kept, num_kept_ids = coarse_history_lengths(len(voice.semantic_tokens), len(ids), configs.history_lengths)
    # of a voice of one token, both slices keep everything, as they do in Suno's program
    return voice.semantic_tokens[-num_kept:], ids[-num_kept_ids:][:-2]


def coarse_history_lengths(num_tokens: int, num_ids: int, histories: "HistoryLengths") -> tuple[int, int]:
    """How many semantic tokens of a voice, and how many coarse ids, the coarse stage keeps.

    As `BarkCoarseModel.preprocess_histories`: `m = min(209, n - n % 2, floor(num_ids / r))` tokens and the last
    `round(m * r)` ids, of which it then drops the last two; `r = 2 * 75 / 49.9`. Ids alternate between two codebooks,
    so where `round(m * r)` is odd, the history starts with the second one, in a position where the model only ever saw
    the first. With as many codes as the tokens make, `m = min(209, n - 1)`, and the start is wrong for every even n up
    to 84 and every odd n from 85 to 209: 105 of the 209 lengths below 210, and none from there on.

    Args:
        num_tokens (`int`), num_ids (`int`): semantic tokens and coarse ids of the voice.
        histories (`HistoryLengths`): what the Bark reads; the numbers above are Suno's.
    """
    ratio = histories.coarse_per_token
    num_kept = min(histories.coarse_tokens, num_tokens - num_tokens % 2, int(num_ids / ratio))
    return num_kept, round(num_kept * ratio)


def coarse_window(num_tokens: int, num_ids: int, num_generated: int, configs: "BarkGenerationConfigs"):
    """Where the semantic tokens and the coarse ids begin that the coarse stage reads for its next ids.

    Args:
        num_tokens (`int`), num_ids (`int`): of the voice, as [`coarse_history`] cuts it.
        num_generated (`int`, or an array of them): ids that it has generated.
        configs (`BarkGenerationConfigs`): of the Bark.

    Returns:
        The first token of the voice's and the clip's, and the first id of the voice's and the generated ones, both of
            the shape of `num_generated`.
    """
    position = num_tokens + np.round(num_generated / configs.coarse_per_token).astype(int)
    first_token = np.maximum(0, position - configs.history_lengths.coarse_tokens)
    return first_token, np.maximum(0, num_ids + num_generated - configs.history_lengths.coarse_ids)


def coarse_inputs(
    semantic_tokens: Sequence[int] | np.ndarray, ids: Sequence[int] | np.ndarray, configs: "BarkGenerationConfigs"
) -> np.ndarray:
    """The input of the coarse stage: the semantic tokens of a window, padded; a mark; the coarse ids so far.

    Args:
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): from the window's first on; those behind it are cut.
        ids (`np.ndarray` of shape `(num_ids,)`): from the window's first on.
        configs (`BarkGenerationConfigs`): of the Bark.

    Returns:
        `np.ndarray`: int64 of shape `(max_coarse_input_length + 1 + num_ids,)`.
    """
    config, length = configs.coarse, configs.coarse.max_coarse_input_length
    tokens = padded(semantic_tokens[:length], length, config.coarse_semantic_pad_token)
    return np.concatenate([tokens, [config.coarse_infer_token], ids]).astype(np.int64)


def fine_history(voice: Voice | None, configs: "BarkGenerationConfigs") -> np.ndarray:
    """What the fine stage reads of a voice, its last codes: `(n_fine_codebooks, num_frames)`."""
    if voice is None:
        return np.zeros((configs.fine.n_fine_codebooks, 0), np.int64)
    return voice.audio_codes[:, -configs.fine.max_fine_history_length :]


def num_fine_windows(num_frames: int, configs: "BarkGenerationConfigs") -> int:
    """Windows in which the fine stage completes a clip of `num_frames`, those of the voice before it included."""
    beyond = max(0, num_frames - configs.fine.max_fine_input_length)
    return 1 + -(-beyond // configs.fine.max_fine_history_length)


def join_clips(clips: Sequence[Voice], num_frames: Callable[[int], int]) -> tuple[np.ndarray, Any]:
    """Tokens and codes of clips one after another.

    Sums of rounded lengths would drift: where a clip has a frame too few for all its tokens, it gives up its last one.

    Args:
        clips (sequence of `VoicePrompt` or `Utterance`): in their order.
        num_frames: the number of frames that a number of tokens makes, `configs.num_frames`.

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
    """Ids with padding behind them: int64 of shape `(length,)`."""
    return np.concatenate([ids, np.full(length - len(ids), pad)]).astype(np.int64)
