"""How good an encoder in training is on held-out clips: its loss, and how many tokens it names right by itself."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import nn

from ..configuration_bark_semantic import SEMANTIC_RATE_HZ
from ..corpus.rows import Clip
from ..heads_bark_semantic import AutoregressiveHead
from ..trainers.encoder_batches import CropBatches, Piece, collate

MIN_PIECE = 25  # tokens, half a second: what is left of a clip and shorter is not measured


class HeldOutFigures:
    """The `measure` of `validation.Validation`: `{"accuracy": ..., "loss": ...}` over all tokens of some clips.

    Clips longer than `config.window_s` are read in windows of that length, one after another. Nothing is augmented.
    Audio is heard where there is audio, codes are read where there is none. Processes share the clips.

    Args:
        model ([`BarkSemanticEncoderModel`]): that is trained, or whose head is.
        clips (`Sequence[Clip]`): held out.
        batches ([`CropBatches`]): of the training; says what the model reads, and has the codec.
        accelerator (`Accelerator`): of the training.
        front_is_frozen (`bool`): the features stay what they are: they are computed once and kept in memory.

    Raises:
        ValueError: there are no clips, or one that the model can't read.
    """

    def __init__(
        self,
        model,
        clips: Sequence[Clip],
        batches: CropBatches,
        accelerator: Accelerator,
        *,
        front_is_frozen: bool = False,
    ):
        if not clips:
            raise ValueError("No clip is held out to validate on: choose another `fold`, or a larger `share`.")
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
        """Of a [`BarkSemanticEncoderModel`], or of a module with its `head`, where the front is frozen."""
        trained.eval()
        head, sums = trained.head, torch.zeros(3, dtype=torch.float32, device=self.accelerator.device)
        for inputs, labels in self.pieces:
            labels = labels.to(self.accelerator.device)
            with self.accelerator.autocast():
                features = inputs["features"] if "features" in inputs else self._features(trained, inputs)
                features = features.to(self.accelerator.device, torch.float32)
                loss, logits = head.loss(features, None, labels, 0.0)
                if isinstance(head, AutoregressiveHead):  # whose loss is given the true tokens
                    logits = head(features, None)
            hits = (logits.argmax(-1) == labels).sum()
            sums += torch.stack([loss.float() * labels.numel(), hits.float(), hits.new_tensor(labels.numel()).float()])
        loss, hits, count = self.accelerator.reduce(sums, "sum").tolist()
        return {"accuracy": hits / count, "loss": loss / count}

    @torch.no_grad()
    def _features(self, model, inputs) -> torch.Tensor:
        return model.features(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
