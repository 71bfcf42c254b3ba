"""Accuracy and loss on held-out clips, for an encoder in training."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import nn

from ..configuration_bark_semantic import SEMANTIC_RATE_HZ
from ..corpus.rows import Clip
from ..heads_bark_semantic import AutoregressiveHead
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from .encoder_batches import CropBatches, Piece, collate

MIN_PIECE = 25  # tokens, half a second: a shorter remainder of a clip is left out


class HeldOutFigures:
    """The `measure` of [`Validation`]: `{"accuracy": ..., "loss": ...}`, means over all tokens of the held-out clips.

    The accuracy is free-running: an autoregressive head reads its own predictions. Clips longer than `config.window_s`
    are cut into windows of that length. Nothing is augmented. The model reads the audio of a clip or, without audio,
    its codes. The processes share the clips.

    Args:
        model ([`BarkSemanticEncoderModel`]): the model that is trained, or whose head is trained.
        clips (`Sequence[Clip]`): the held-out clips.
        batches ([`CropBatches`]): the training batches, with inputs and codec.
        accelerator (`Accelerator`): the accelerator of the training.
        front_is_frozen (`bool`): features don't change in training, so they are computed once and kept in memory.

    Raises:
        ValueError: there are no clips, or the model cannot read one.
    """

    def __init__(
        self,
        model: BarkSemanticEncoderModel,
        clips: Sequence[Clip],
        batches: CropBatches,
        accelerator: Accelerator,
        *,
        front_is_frozen: bool = False,
    ):
        if not clips:
            raise ValueError("No clip is held out for validation: choose another `fold`, or a larger `share`.")
        self.accelerator = accelerator
        clean = batches.without_augmentation()
        window = int(model.config.window_s * SEMANTIC_RATE_HZ)
        pieces = [
            Piece(clip, start, min(window, clip.num_tokens - start), 0)
            for clip in clips
            for start in range(0, clip.num_tokens, window)
            if start == 0 or clip.num_tokens - start >= MIN_PIECE
        ]
        self.pieces = []
        model.eval()
        for piece in pieces[accelerator.process_index :: accelerator.num_processes]:
            (crop,) = clean.crops_of([piece], [0])
            inputs = collate([crop], batches.codebook_size)
            labels = inputs.pop("labels")
            if "input_values" in inputs:
                inputs = {name: inputs[name] for name in ("input_values", "attention_mask")}
            if front_is_frozen:
                inputs = {"features": self._features(model, inputs).to("cpu", torch.float16)}
            self.pieces.append((inputs, labels))

    @torch.no_grad()
    def __call__(self, trained: nn.Module) -> dict[str, float]:
        """Measure a [`BarkSemanticEncoderModel`], or a module with its `head` where the front end is frozen."""
        trained.eval()
        head, sums = trained.head, torch.zeros(3, dtype=torch.float32, device=self.accelerator.device)
        for inputs, labels in self.pieces:
            labels = labels.to(self.accelerator.device)
            with self.accelerator.autocast():
                features = inputs["features"] if "features" in inputs else self._features(trained, inputs)
                features = features.to(self.accelerator.device, torch.float32)
                loss, logits = head.loss(features, None, labels, 0.0)
                if isinstance(head, AutoregressiveHead):  # its loss is teacher-forced
                    logits = head(features, None)
            hits = (logits.argmax(-1) == labels).sum()
            sums += torch.stack([loss.float() * labels.numel(), hits.float(), hits.new_tensor(labels.numel()).float()])
        loss, hits, count = self.accelerator.reduce(sums, "sum").tolist()
        return {"accuracy": hits / count, "loss": loss / count}

    @torch.no_grad()
    def _features(self, model, inputs) -> torch.Tensor:
        return model.features(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
