"""Voice prompts: the semantic tokens and codec codes of a few seconds of speech, which Bark continues.

    VoicePrompt         a checked voice prompt, which reads and writes the formats of Bark programs (.npz, dict)
    join_prompts        join the prompts of several clips of one speaker

Bark ties the two lengths together: `num_tokens` tokens (49.9 per second) have exactly `floor(num_tokens * 75 / 49.9)`
codec frames (75 per second). With a prompt that breaks this rule, Suno's program fails with a bare AssertionError, or
voice and words do not match in time. All of 305 public prompts follow it.

A prompt belongs to one kind of Bark, because ids of another vocabulary mean other sounds. Its file has the vocabulary
sizes (see prompt_files); without them, the ids distinguish nano's prompts from Suno's.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..configuration_bark_semantic import (
    CODEBOOK_SIZE,
    CODEC_RATE_HZ,
    NUM_COARSE_CODEBOOKS,
    NUM_CODEBOOKS,
    SEMANTIC_RATE_HZ,
    SEMANTIC_VOCAB_SIZE,
    num_codec_frames,
    num_semantic_tokens,
)
from ..files import atomic_write
from .configs import SUNO_HISTORIES
from .prompt_files import VoicePromptError, integers, npz_content, read_entries
from .prompting import join_clips

NANO_VOCAB_SIZE = 500  # semantic tokens of the packaged nano
NANO_DIFFERENT_IDS = 10  # among 50 tokens below 500: 19 or more in nano's prompts, 7 or fewer in Suno's
LENGTH_TOLERANCE = 0.02  # largest difference in duration between tokens and codes ...
LENGTH_TOLERANCE_FRAMES = 2  # ... or in frames, which an encoder's first and last window may lose


@dataclass(frozen=True, eq=False)
class VoicePrompt:
    """A voice for Bark: the semantic tokens and the codec codes of some speech.

    ```python
    import hf_bark_semantic

    voice = hf_bark_semantic.VoicePrompt.load("voice.npz")  # Suno's format, and that of other Bark programs
    voice.semantic_tokens, voice.audio_codes  # int64 (num_tokens,) and (8, num_frames)
    voice.save("copy.npz")
    ```

    Args:
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): ids in `[0, semantic_vocab_size)`, 49.9 per second.
        audio_codes (`np.ndarray` of shape `(8, num_frames)`): EnCodec ids in `[0, codebook_size)`, 75 frames per
            second, with `num_frames == num_codec_frames(num_tokens)`.
        semantic_vocab_size (`int`): semantic tokens of the Bark; by default Suno's 10,000.
        codebook_size (`int`): entries of each of its codebooks; by default Suno's 1,024.

    Integer arrays and tensors of any type are accepted; they are stored as read-only int64 copies.

    Raises:
        VoicePromptError: wrong shape, dtype or ids, or codes of another length than the tokens.
    """

    semantic_tokens: np.ndarray
    audio_codes: np.ndarray
    semantic_vocab_size: int = field(default=SEMANTIC_VOCAB_SIZE, kw_only=True)
    codebook_size: int = field(default=CODEBOOK_SIZE, kw_only=True)

    def __post_init__(self):
        tokens, codes = _check_ids(
            self.semantic_tokens,
            self.audio_codes,
            semantic_vocab_size=self.semantic_vocab_size,
            codebook_size=self.codebook_size,
        )
        num_frames = num_codec_frames(len(tokens))
        if codes.shape[1] != num_frames:
            raise VoicePromptError(
                f"{codes.shape[1]} codec frames do not belong to {len(tokens)} semantic tokens: Bark needs "
                f"floor({len(tokens)} * 75 / 49.9) = {num_frames}. If both are of one utterance, trim them with "
                "VoicePrompt.from_tokens_and_codes(tokens, codes), or a file with VoicePrompt.load(path, trim=True)."
            )
        for array in (tokens, codes):
            array.setflags(write=False)
        object.__setattr__(self, "semantic_tokens", tokens)
        object.__setattr__(self, "audio_codes", codes)

    @property
    def coarse(self) -> np.ndarray:
        """The codes of the coarse stage, `(2, num_frames)`: the first rows of `audio_codes`."""
        return self.audio_codes[:NUM_COARSE_CODEBOOKS]

    @property
    def num_tokens(self) -> int:
        """Number of semantic tokens."""
        return len(self.semantic_tokens)

    @property
    def num_frames(self) -> int:
        """Number of codec frames, 75 per second."""
        return self.audio_codes.shape[1]

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.num_frames / CODEC_RATE_HZ

    @property
    def vocabularies(self) -> dict[str, int]:
        """The two vocabulary sizes, as keyword arguments for another prompt."""
        return {"semantic_vocab_size": self.semantic_vocab_size, "codebook_size": self.codebook_size}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VoicePrompt):
            return NotImplemented
        return np.array_equal(self.semantic_tokens, other.semantic_tokens) and np.array_equal(
            self.audio_codes, other.audio_codes
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"VoicePrompt({self.num_tokens} tokens, {self.num_frames} frames, {self.duration_s:.2f} s)"

    @classmethod
    def from_tokens_and_codes(
        cls,
        semantic_tokens: Any,
        audio_codes: Any,
        *,
        semantic_vocab_size: int = SEMANTIC_VOCAB_SIZE,
        codebook_size: int = CODEBOOK_SIZE,
    ) -> "VoicePrompt":
        """Build a prompt from tokens and codes of one utterance, trimmed to matching lengths.

        Both start at the same moment, so only their ends are cut:
        `n = min(num_tokens, num_semantic_tokens(num_frames))` tokens and `num_codec_frames(n)` frames remain.

        Args:
            semantic_tokens (array or tensor of shape `(num_tokens,)`): integer ids.
            audio_codes (array or tensor of shape `(8, num_frames)`): integer ids.
            semantic_vocab_size (`int`), codebook_size (`int`): see [`VoicePrompt`].

        Raises:
            VoicePromptError: the lengths differ by more than 2 % and by more than two frames, so these are not one
                utterance; or anything that [`VoicePrompt`] refuses.
        """
        sizes = {"semantic_vocab_size": semantic_vocab_size, "codebook_size": codebook_size}
        tokens, codes = _check_ids(semantic_tokens, audio_codes, **sizes)
        expected, num_frames = num_codec_frames(len(tokens)), codes.shape[1]
        allowed = max(LENGTH_TOLERANCE * max(expected, num_frames), LENGTH_TOLERANCE_FRAMES)
        if abs(expected - num_frames) > allowed:
            raise VoicePromptError(
                f"{len(tokens)} semantic tokens last {len(tokens) / SEMANTIC_RATE_HZ:.2f} s and {num_frames} codec "
                f"frames {num_frames / CODEC_RATE_HZ:.2f} s. More than 2 % apart, they are not one utterance: encode "
                "the same waveform for both."
            )
        num_tokens = min(len(tokens), num_semantic_tokens(num_frames))
        return cls(tokens[:num_tokens], codes[:, : num_codec_frames(num_tokens)], **sizes)

    @classmethod
    def load(
        cls,
        source: str | os.PathLike | Mapping,
        *,
        trim: bool = False,
        semantic_vocab_size: int | None = None,
        codebook_size: int | None = None,
    ) -> "VoicePrompt":
        """Read a voice prompt of this package, of Suno's Bark and its forks, or of transformers.

        Only the three known entries are read, and nothing is unpickled or extracted. Other entries, such as the
        `metadata` of some programs, are ignored.

        Args:
            source (`str`, `Path` or `dict`): an `.npz`, or a mapping, with `semantic_prompt` `(num_tokens,)`,
                `coarse_prompt` `(2, num_frames)` and `fine_prompt` `(8, num_frames)` in any integer type. A leading
                batch axis of size 1, which some programs leave, is dropped. The old names `text`, `coarse_1` and
                `coarse_2` `(num_frames,)` and `fine` are read too.
            trim (`bool`): trim lengths that do not match, as [`VoicePrompt.from_tokens_and_codes`] does.
            semantic_vocab_size (`int`, *optional*), codebook_size (`int`, *optional*): of the Bark that the prompt is
                for. By default the values in the file, otherwise nano's 500 if the ids are nano's, otherwise Suno's.

        Raises:
            VoicePromptError: no such file, not an .npz, entries missing, pickled, too large or not integers, coarse
                codes that are not the first two rows of the fine codes, a prompt for another Bark, or anything that
                [`VoicePrompt`] refuses.
        """
        name, tokens, coarse, codes, vocabularies = read_entries(source)
        if not np.array_equal(coarse, codes[:NUM_COARSE_CODEBOOKS]):
            raise VoicePromptError(
                f"{name}: coarse_prompt {coarse.shape} is not the first two rows of fine_prompt {codes.shape}, so the "
                "two come from different audio. Encode the recording again, or keep one with "
                "VoicePrompt.from_tokens_and_codes(semantic_prompt, fine_prompt)."
            )
        stated, likely = vocabularies.get("semantic_vocab_size"), _likely_vocab_size(tokens)
        wanted = semantic_vocab_size or stated or likely
        if stated not in (None, wanted) or (
            stated is None and {likely, wanted} == {NANO_VOCAB_SIZE, SEMANTIC_VOCAB_SIZE}
        ):
            raise VoicePromptError(_for_another_bark(name, stated or likely, wanted))
        codebook_size = codebook_size or vocabularies.get("codebook_size") or CODEBOOK_SIZE
        make = cls.from_tokens_and_codes if trim else cls
        return make(tokens, codes, semantic_vocab_size=wanted, codebook_size=codebook_size)

    def for_bark(self, *, semantic_vocab_size: int, codebook_size: int) -> "VoicePrompt":
        """The prompt, if it belongs to a Bark of these vocabularies; see `BarkGenerationConfigs.vocabularies`.

        Raises:
            VoicePromptError: it belongs to another Bark.
        """
        is_smaller = self.semantic_vocab_size < semantic_vocab_size
        if is_smaller or int(self.semantic_tokens.max()) >= semantic_vocab_size:
            raise VoicePromptError(
                _for_another_bark("The voice prompt", self.semantic_vocab_size, semantic_vocab_size)
            )
        sizes = {"semantic_vocab_size": semantic_vocab_size, "codebook_size": codebook_size}
        return VoicePrompt(self.semantic_tokens, self.audio_codes, **sizes)

    def save(self, path: str | os.PathLike) -> Path:
        """Write the `.npz` that Suno's Bark, its forks and transformers' `BarkProcessor` read (int64, no pickle).

        A comment in the file has the vocabulary sizes, so that the prompt is not used with another Bark.

        Args:
            path (`str` or `Path`): the file; must end in `.npz`, and its folder must exist.

        Returns:
            `Path`: the file, which appears complete or not at all.

        Raises:
            VoicePromptError: another extension, or a place that cannot hold a file.
        """
        path = Path(path)
        if path.suffix.lower() != ".npz":
            raise VoicePromptError(
                f"Cannot write {path.name!r}: Bark reads voice prompts from .npz files. Name it so."
            )
        with atomic_write(path, error_class=VoicePromptError) as file:
            file.write(npz_content(self.to_dict(), self.vocabularies))
        return path

    def to_dict(self, return_tensors: Literal["np", "pt"] = "np", *, device: Any = None) -> dict[str, Any]:
        """Return the prompt in transformers' layout, as new int64 arrays or tensors.

        `BarkProcessor(text, voice_preset=...)` takes `"np"`, and `BarkModel.generate(history_prompt=...)` takes `"pt"`
        on the model's device.

        Args:
            return_tensors (`str`): `"np"` or `"pt"`.
            device (`torch.device`, *optional*): device of the tensors.

        Returns:
            `dict`: `semantic_prompt` `(num_tokens,)`, `coarse_prompt` `(2, num_frames)` and `fine_prompt`
                `(8, num_frames)`.

        Raises:
            ValueError: `return_tensors` is neither.
        """
        arrays = {
            "semantic_prompt": self.semantic_tokens.copy(),
            "coarse_prompt": self.coarse.copy(),
            "fine_prompt": self.audio_codes.copy(),
        }
        if return_tensors == "np":
            return arrays
        if return_tensors != "pt":
            raise ValueError(f"return_tensors must be 'np' or 'pt', not {return_tensors!r}.")
        import torch

        return {key: torch.from_numpy(array).to(device) for key, array in arrays.items()}

    def tail(self, num_tokens: int) -> "VoicePrompt":
        """The last `num_tokens` tokens (or all, if there are fewer) and their frames.

        Raises:
            VoicePromptError: `num_tokens` is below 1.
        """
        if num_tokens < 1:
            raise VoicePromptError(f"A voice prompt has at least one token, so its tail cannot have {num_tokens}.")
        num_tokens = min(num_tokens, self.num_tokens)
        num_frames = num_codec_frames(num_tokens)
        return VoicePrompt(self.semantic_tokens[-num_tokens:], self.audio_codes[:, -num_frames:], **self.vocabularies)


def join_prompts(prompts: Sequence[VoicePrompt], *, max_tokens: int = SUNO_HISTORIES.most_tokens) -> VoicePrompt:
    """Make one prompt of several clips of one speaker, in their order; the last one weighs most.

    Where the clips exceed `max_tokens` together, the longest give up their beginnings first: each keeps at most the
    same number of its last tokens. Where a clip would then need one frame more than it has, it gives up its last token
    (20 ms), and at most two frames. Its remaining tokens and codes stay aligned.

    Args:
        prompts (sequence of `VoicePrompt`): the clips, of one model's vocabularies.
        max_tokens (`int`): length of the result at most; the default is all that any stage of Bark reads.

    Raises:
        VoicePromptError: no clips, more clips than `max_tokens`, or clips of different vocabularies.
    """
    prompts = list(prompts)
    if not prompts:
        raise VoicePromptError("Nothing to join: pass at least one VoicePrompt.")
    if len(prompts) > max_tokens:
        raise VoicePromptError(f"{len(prompts)} clips cannot share max_tokens={max_tokens}. Pass fewer clips.")
    vocabularies = {tuple(prompt.vocabularies.values()) for prompt in prompts}
    if len(vocabularies) > 1:
        raise VoicePromptError(f"The clips are of different models: (semantic, codec) vocabularies {vocabularies}.")
    lengths = [prompt.num_tokens for prompt in prompts]
    share = next(n for n in range(max_tokens, 0, -1) if sum(min(length, n) for length in lengths) <= max_tokens)

    tokens, codes = join_clips([prompt.tail(share) for prompt in prompts], num_codec_frames)
    return VoicePrompt(tokens, codes, **prompts[0].vocabularies)


def bark_of_vocabulary(semantic_vocab_size: int) -> str:
    """A name for the Barks with this number of semantic tokens."""
    names = {NANO_VOCAB_SIZE: "nano", SEMANTIC_VOCAB_SIZE: "Suno's Bark"}
    return names.get(semantic_vocab_size, f"a Bark of {semantic_vocab_size:,} semantic tokens")


def _likely_vocab_size(tokens: np.ndarray) -> int:
    """The likely vocabulary of a prompt's ids: nano's or Suno's."""
    is_nano = tokens.max(initial=0) <= NANO_VOCAB_SIZE and len(np.unique(tokens)) >= NANO_DIFFERENT_IDS  # pad: 500
    return NANO_VOCAB_SIZE if is_nano else SEMANTIC_VOCAB_SIZE


def _for_another_bark(name: str, own: int, wanted: int) -> str:
    return (
        f"{name} is for another Bark: for {bark_of_vocabulary(own)}, and this is {bark_of_vocabulary(wanted)}. Clone "
        "the recording for this one, or speak with the other."
    )


def _check_ids(
    semantic_tokens: Any, audio_codes: Any, *, semantic_vocab_size: int, codebook_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both as new int64 arrays, after checking rank, length and ids."""
    tokens, codes = integers(semantic_tokens, "semantic_tokens"), integers(audio_codes, "audio_codes")
    if tokens.ndim != 1:
        raise VoicePromptError(f"semantic_tokens must have shape (num_tokens,), not {tokens.shape}. Pass one row.")
    if codes.ndim != 2 or codes.shape[0] != NUM_CODEBOOKS:
        raise VoicePromptError(
            f"audio_codes must have shape ({NUM_CODEBOOKS}, num_frames), not {codes.shape}: Bark uses EnCodec 24 kHz "
            "at 6 kbps. Transpose the codes, drop the batch axis, or encode with bandwidth=6.0."
        )
    for name, ids, vocab_size in (
        ("semantic_tokens", tokens, semantic_vocab_size),
        ("audio_codes", codes, codebook_size),
    ):
        if ids.size == 0:
            raise VoicePromptError(f"{name} of shape {ids.shape} is empty; a voice prompt has at least one token.")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= vocab_size:
            raise VoicePromptError(
                f"{name} holds ids from {low} to {high}; the vocabulary is [0, {vocab_size}). Remove padding and end "
                "tokens and the offsets of Bark's flattened ids, or pass the vocabulary sizes of the model."
            )
    return tokens, codes


__all__ = [
    "VoicePrompt",
    "VoicePromptError",
    "bark_of_vocabulary",
    "join_prompts",
]
