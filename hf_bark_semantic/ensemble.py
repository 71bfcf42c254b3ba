"""Several encoders as one: the weighted mean of their log-probabilities.

one_encoder        a model as it is, a list of models, folders and Hub ids as an ensemble
EncoderEnsemble    the ensemble
"""

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import AutoModel, PreTrainedModel

from .modeling_bark_semantic import BarkSemanticEncoderModel


def one_encoder(model: Any, weights: Sequence[float] | None = None, **kwargs) -> Any:
    """`model`, or the [`EncoderEnsemble`] of a list of models, folders and Hub ids.

    Args:
        weights (sequence of `float`, *optional*): of a list, see [`EncoderEnsemble`].
        kwargs: of transformers' `from_pretrained`, for each member that is loaded.

    Raises:
        ValueError: weights without a list, or a list that makes no ensemble.
    """
    if isinstance(model, (list, tuple)):
        loaded = [m if isinstance(m, nn.Module) else AutoModel.from_pretrained(m, **kwargs) for m in model]
        return EncoderEnsemble(loaded, weights)
    if weights is not None:
        raise ValueError(f"The weights {list(weights)} were given for one encoder; they are for a list of encoders.")
    return model


class EncoderEnsemble(BarkSemanticEncoderModel):
    """Encoders of one vocabulary as one: `encode` gives the tokens that they find likeliest together.

    Every encoder reads the same windows, those of the encoder whose `window_s` is shortest, at its own level and by
    its own backbone or codec front end. The log-probabilities of all, each at its own temperature, are averaged window
    by window, so memory does not grow with the length of the audio.

    An ensemble encodes and does nothing else; its encoders are trained and saved one by one.

    Args:
        members (sequence of [`BarkSemanticEncoderModel`]): of any backbones and heads.
        weights (sequence of `float`, *optional*): of each member's log-probabilities, above 0; they are divided by
            their sum. By default all are equal.

    Raises:
        TypeError: a member is no encoder.
        ValueError: no member, weights that do not fit, or members of different vocabularies or without a kind of input
            that all of them read.
    """

    _backbone_frozen = False

    def __init__(self, members: Sequence[BarkSemanticEncoderModel], weights: Sequence[float] | None = None):
        wrong = [type(member).__name__ for member in members if not isinstance(member, BarkSemanticEncoderModel)]
        if wrong:
            raise TypeError(f"An ensemble is made of BarkSemanticEncoderModels, not of {', '.join(wrong)}.")
        weights = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
        if not weights or len(weights) != len(members) or not all(0 < weight < float("inf") for weight in weights):
            raise ValueError(
                f"There are {len(members)} encoders and the weights {weights}; an ensemble needs at least one encoder "
                "and for each a weight above 0. Leave an encoder out instead of giving it 0."
            )
        reads_audio = all(member.backbone is not None for member in members)
        reads_codes = all(member.codec_front_end is not None for member in members)
        if not reads_audio and not reads_codes:
            raise ValueError("Some of these encoders read audio only and some codes only; all must read one of both.")
        for name in ("vocab_size", "codebook_size") if reads_codes else ("vocab_size",):
            values = [getattr(member.config, name) for member in members]
            if len(set(values)) > 1:
                raise ValueError(f"`{name}` of these encoders is {values}; it must be the same, that of one Bark.")
        config: Any = copy.deepcopy(min((member.config for member in members), key=lambda config: config.window_s))
        config.name_or_path, config.head_type, config.temperatures = "", "ensemble", None
        config.members = [member.config.to_dict() for member in members]
        config.weights = [weight / sum(weights) for weight in weights]
        PreTrainedModel.__init__(self, config)  # without the parts of a single encoder
        self.members = nn.ModuleList(members)
        self.backbone = members[0].backbone if reads_audio else None
        self.codec_front_end = members[0].codec_front_end if reads_codes else None
        self.head = None

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        raise ValueError("An ensemble has no folder of its own; `pipeline` takes a list of encoders.")

    def save_pretrained(self, *args, **kwargs):
        raise ValueError("An ensemble has no folder of its own; save its encoders, `ensemble.members`, one by one.")

    # ---- in the place of what one encoder does

    def _read(self, *inputs):
        raise ValueError("An ensemble only encodes; train its encoders, `ensemble.members`, one by one.")

    def _check_inputs(self, input_values, audio_codes):
        for member in self.members:
            member._check_inputs(input_values, audio_codes)

    def _goes_token_by_token(self):
        return any(member._goes_token_by_token() for member in self.members)

    def _read_windows(self, groups, batch_size, input_values, num_samples, audio_codes, num_frames, level=None):
        """Yield each group of windows with the weighted sum of all logits, which differs from that of the
        log-probabilities by a constant for each token.
        """
        inputs = (batch_size, input_values, num_samples, audio_codes, num_frames, level)
        readers = [member._read_windows(groups, *inputs) for member in self.members]
        scales = [member._temperature(input_values, audio_codes) for member in self.members]
        for group in groups:
            yield group, self._summed([next(reader)[1] for reader in readers], scales), None

    def _summed(self, members, scales):
        """Yield the weighted sum of what the members yield."""
        for parts in zip(*members, strict=True):
            weighted = zip(parts, self.config.weights, scales, strict=True)
            yield sum(part.float() / temperature * weight for part, weight, temperature in weighted)


__all__ = ["EncoderEnsemble", "one_encoder"]
