"""An encoder from audio to Bark's semantic tokens, as a Transformers model. Suno did not publish theirs.

    waveform (16 kHz) ──> backbone (layers of a speech encoder) ──┐
                                                                  ├──> one feature vector per token ──> head ──> logits
    audio codes (8, T) ──> codec front end ───────────────────────┘

Features are taken at the middle of every token (`token_frames`). So the head runs at Bark's own rate, each row of the
logits belongs to one token, and the labels are the tokens. One of the two inputs is enough. With both, the model
returns the weighted mean of their log-probabilities.

`forward` is for training and short audio. `encode` is for users: it returns the tokens of audio of any length.
"""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import ModelOutput

from .backbones_bark_semantic import build_backbone, length_mask, zero_padding
from .configuration_bark_semantic import (
    CODEC_RATE_HZ,
    FRAME_RATE_HZ,
    NUM_CODEBOOKS,
    SAMPLES_PER_FRAME,
    SAMPLING_RATE,
    SEMANTIC_RATE_HZ,
    WAVEFORM_BACKBONES,
    BarkSemanticEncoderConfig,
    num_samples_of_codec_frames,
    num_semantic_tokens,
    num_semantic_tokens_of_samples,
    token_frames,
)
from .heads_bark_semantic import AutoregressiveHead, EmbeddingHead, RecurrentHead, TokenTransitions, build_head

TOKENS_AT_ONCE = 100  # tokens whose logits are in memory: 4 MB instead of 40 MB for a window of 20 s
MIN_SAMPLES = 800  # 50 ms; of less, no backbone makes a frame


@dataclass
class BarkSemanticEncoderOutput(ModelOutput):
    """Output of [`BarkSemanticEncoderModel.forward`].

    ```python
    import torch

    output = model(**processor(waveform, sampling_rate=16_000), labels=torch.tensor([semantic_tokens]))
    output.loss.backward()
    ```

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*): with `labels`, the head's loss, mean over the tokens.
        logits (`torch.FloatTensor` of shape `(batch, num_tokens, vocab_size)`): a score for every token of the
            vocabulary, at every position.
        num_tokens (`torch.LongTensor` of shape `(batch,)`): tokens of each row; positions after them are padding.
        features (`torch.FloatTensor` of shape `(batch, num_tokens, feature_size)`): input of the head; that of the
            audio, if audio and codes were given.
        hidden_states (`tuple[torch.FloatTensor]`, *optional*): on request, the backbone's, each `(batch, frames,
            width)`: the input of its first layer, then the output of each layer up to the last of `backbone_layers`.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    num_tokens: torch.LongTensor | None = None
    features: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class BarkSemanticTokens(ModelOutput):
    """Output of [`BarkSemanticEncoderModel.encode`]. Rows are right-padded; the padding of token ids is -100.

    ```python
    result = model.encode(**processor([waveform, waveform[:16_000]], sampling_rate=16_000), top_k=5)
    first = result.semantic_tokens[0, : result.num_tokens[0]]
    unsure = result.confidence[0, : result.num_tokens[0]] < 0.1
    ```

    Args:
        semantic_tokens (`torch.LongTensor` of shape `(batch, max_num_tokens)`): the most probable tokens.
        num_tokens (`torch.LongTensor` of shape `(batch,)`): tokens of each row, as many as Bark has for that duration.
        confidence (`torch.FloatTensor` of shape `(batch, max_num_tokens)`): probability of each token, at the config's
            temperature for this kind of input; 0 in the padding.
        top_k_tokens (`torch.LongTensor` of shape `(batch, max_num_tokens, top_k)`, *optional*): best first.
        top_k_confidence (`torch.FloatTensor` of the same shape, *optional*): their probabilities.
        embeddings (`torch.FloatTensor` of shape `(batch, max_num_tokens, embedding_size)`, *optional*): on request,
            from an `embedding` head: vectors in Bark's input-embedding space, which Bark can take as a prompt.
    """

    semantic_tokens: torch.LongTensor | None = None
    num_tokens: torch.LongTensor | None = None
    confidence: torch.FloatTensor | None = None
    top_k_tokens: torch.LongTensor | None = None
    top_k_confidence: torch.FloatTensor | None = None
    embeddings: torch.FloatTensor | None = None


class BarkSemanticEncoderModel(PreTrainedModel):
    """Encodes audio, EnCodec codes, or both to the semantic tokens of Suno's Bark.

    [`~BarkSemanticEncoderModel.encode`] returns the tokens of audio of any length; `forward` returns logits and a
    loss.

    ```python
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained("encoder"), AutoProcessor.from_pretrained("encoder")
    inputs = processor(waveform, sampling_rate=16_000)  # float32 (num_samples,)
    tokens = model.encode(**inputs).semantic_tokens  # int64 (1, num_tokens), audio of any length
    logits = model(**inputs).logits  # float32 (1, num_tokens, 10_000), for training
    ```

    Args:
        config ([`BarkSemanticEncoderConfig`]): backbone, front end for codes, and head; the weights are random.
    """

    config_class = BarkSemanticEncoderConfig
    base_model_prefix = "bark_semantic_encoder"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # for transformers' Trainer: the loss is already a mean over tokens
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True  # the backbone raises if it does not
    _no_split_modules = [
        "HubertEncoderLayer",
        "Wav2Vec2EncoderLayer",
        "WavLMEncoderLayer",
        "Data2VecAudioEncoderLayer",
    ]
    _no_split_modules += ["Wav2Vec2BertEncoderLayer", "WhisperEncoderLayer", "TokenEncoderLayer", "CodecFrontEnd"]

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__(config)
        self.backbone: Any = build_backbone(config) if config.backbone_config is not None else None
        self.codec_front_end = CodecFrontEnd(config) if config.codec_hidden_size else None
        self.head = build_head(config)
        self.transitions = TokenTransitions(config) if config.transition_weight else None
        self._backbone_frozen = False
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args, output_loading_info: bool = False, **kwargs):
        """Load a model as transformers does, but refuse a checkpoint that lacks weights, which would be random.

        Raises:
            ValueError: the checkpoint lacks weights of the model.
        """
        model, loading = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        if missing := sorted(loading["missing_keys"]):
            raise ValueError(
                f"{model.config.name_or_path!r} lacks {len(missing)} of its weights, such as {missing[0]!r}. It is "
                "damaged, or its config belongs to another model. Download it again."
            )
        if model.transitions is not None:  # integers stay views of the file, and would keep all of it in memory
            model.transitions.pairs = model.transitions.pairs.clone()
        return (model, loading) if output_loading_info else model

    @classmethod
    def from_backbone(cls, backbone, **config) -> "BarkSemanticEncoderModel":
        """A new encoder with a pretrained backbone and an untrained head.

        Args:
            backbone (`str` or `PreTrainedModel`): a Hub id (`"facebook/hubert-base-ls960"`), a folder, or a loaded
                model. Of a [`BarkSemanticEncoderModel`], the backbone is used.
            config: fields of [`BarkSemanticEncoderConfig`], such as `backbone_layers=[9]` and `head_type="linear"`.

        Raises:
            ValueError: the checkpoint lacks weights that the backbone needs, or an encoder has no backbone.
        """
        missing, name = set(), "The model"
        if isinstance(backbone, (str, os.PathLike)):
            name, backbone_config = str(backbone), AutoConfig.from_pretrained(backbone)
            loader = WhisperEncoder if backbone_config.architectures == ["WhisperEncoder"] else AutoModel
            backbone, info = loader.from_pretrained(backbone, output_loading_info=True)
            missing = {key.removeprefix("encoder.") if loader is AutoModel else key for key in info["missing_keys"]}
            missing |= set(info["missing_keys"])
        backbone_config = backbone.config
        if isinstance(backbone, BarkSemanticEncoderModel):  # its config describes the backbone before it was cut
            if backbone.backbone is None:
                raise ValueError(f"{name} is an encoder without a backbone; it reads only codes.")
            backbone_config, backbone = backbone.config.backbone_config, backbone.backbone.model
        if backbone_config.model_type == "whisper":
            backbone = getattr(backbone, "encoder", backbone)
        model = cls(BarkSemanticEncoderConfig(backbone_config=copy.deepcopy(backbone_config), **config))
        wanted, weights = model.backbone.model.state_dict(), backbone.state_dict()
        missing = set(wanted) & (missing | (set(wanted) - set(weights)))
        if missing:
            raise ValueError(
                f"{name} has no weights for {', '.join(sorted(missing)[:3])}, which the backbone needs. "
                f"It is not a checkpoint of a complete {backbone_config.model_type} model."
            )
        model.backbone.model.load_state_dict({k: v for k, v in weights.items() if k in wanted})
        return model

    def forward(
        self,
        input_values: torch.FloatTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        audio_codes: torch.LongTensor | None = None,
        audio_codes_mask: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **unused,
    ) -> BarkSemanticEncoderOutput:
        """Logits of every semantic token of short audio, and the loss if labels are given.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, samples)`, *optional*): waveform at 16 kHz.
            attention_mask (`torch.LongTensor` of shape `(batch, samples)`, *optional*): 1 on samples, 0 on right
                padding.
            audio_codes (`torch.LongTensor` of shape `(batch, codebooks, frames)`, *optional*): EnCodec codes at 75 Hz
                of the first one to eight codebooks; `codebook_size` stands for an unknown code.
            audio_codes_mask (`torch.LongTensor` of shape `(batch, frames)`, *optional*): 1 on frames, 0 on right
                padding.
            labels (`torch.LongTensor` of shape `(batch, num_tokens)`, *optional*): Bark's tokens, -100 to ignore one.
            output_hidden_states (`bool`, *optional*): also return the backbone's hidden states; by default, as the
                config says.
            unused: arguments that peft passes to text models, such as `input_ids`; each must be `None`.

        Returns:
            [`BarkSemanticEncoderOutput`]: logits of shape `(batch, num_tokens, vocab_size)`, and the loss.

        Raises:
            TypeError: an argument of another name.
            ValueError: no input, an input that this model cannot read, or an invalid shape.
        """
        if given := [name for name, value in unused.items() if value is not None]:
            raise TypeError(f"The encoder has no input {', '.join(given)}: it reads `input_values` and `audio_codes`.")
        inputs = (input_values, attention_mask, audio_codes, audio_codes_mask)
        sources, hidden_states, num_tokens, mask = self._read(*inputs)
        max_tokens = sources[0].shape[1]
        if labels is not None and labels.shape[1] != max_tokens:
            raise ValueError(
                f"There are labels for {labels.shape[1]} tokens, but the longest input has {max_tokens} tokens. Give "
                "one label per token; `num_semantic_tokens_of_samples` counts the tokens of audio."
            )
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states = tuple(hidden_states) if wanted and hidden_states is not None else None
        loss, logits = self._read_out(sources, mask, labels)
        output = BarkSemanticEncoderOutput(loss, logits, num_tokens, sources[0], hidden_states)
        use_dict = return_dict if return_dict is not None else getattr(self.config, "return_dict", True)
        return output if use_dict else output.to_tuple()

    def features(
        self, input_values=None, attention_mask=None, audio_codes=None, audio_codes_mask=None
    ) -> torch.FloatTensor:
        """Input of the head, `(batch, num_tokens, feature_size)`, for audio or codes; arguments as in [`forward`]."""
        return self._read(input_values, attention_mask, audio_codes, audio_codes_mask)[0][0]

    def codec_regression_loss(
        self, input_values, audio_codes, attention_mask=None, audio_codes_mask=None
    ) -> torch.FloatTensor:
        """The difference between the spectrogram that the codec front end predicts and that of the waveform.

        Takes audio and its codes, as [`forward`] does. This loss trains a front end with `codec_output="spectrogram"`;
        it needs no tokens.

        Returns:
            `torch.FloatTensor` of shape `()`: mean absolute difference, in the units of the backbone's spectrogram.
        """
        num_samples = _lengths("attention_mask", attention_mask, input_values)
        num_frames = _lengths("audio_codes_mask", audio_codes_mask, audio_codes)
        predicted, num_columns, _ = self._predicted_spectrogram(audio_codes, num_frames)
        computed, _ = self.backbone.spectrogram(input_values, num_samples)
        columns = min(predicted.shape[1], computed.shape[1])
        difference = (predicted[:, :columns].float() - computed[:, :columns]).abs().mean(-1)
        mask = length_mask(num_columns, columns)
        return difference.mean() if mask is None else (difference * mask).sum() / mask.sum()

    @torch.no_grad()
    def encode(
        self,
        input_values: torch.FloatTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        audio_codes: torch.LongTensor | None = None,
        audio_codes_mask: torch.LongTensor | None = None,
        top_k: int | None = None,
        output_embeddings: bool = False,
        batch_size: int | None = None,
        level: torch.FloatTensor | None = None,
        on_tokens: Callable[[int], Any] | None = None,
    ) -> BarkSemanticTokens:
        """Semantic tokens of audio of any length, exactly as many as Bark has for that duration.

        Audio longer than `config.window_s` is encoded in windows that overlap by `config.overlap_s`. Each token comes
        from the window in which it is farthest from the edges. Windows and rows of similar length share a batch. Apart
        from the audio itself, memory does not grow with its length.

        Args:
            input_values, attention_mask, audio_codes, audio_codes_mask: as in [`forward`]; the processor returns them.
            top_k (`int`, *optional*): also return the `top_k` most probable tokens.
            output_embeddings (`bool`): also return the embeddings of an `embedding` head.
            batch_size (`int`, *optional*): windows that the backbone computes at once. By default 8, or 1 on a CPU,
                where one window fits the caches best. Heads that decode token by token get at least 8 windows at once.
            level (`torch.FloatTensor` of shape `(batch,)`, *optional*): RMS of the whole recordings, for
                `config.input_level_db`, if `input_values` are parts of them; by default the RMS of `input_values`.
            on_tokens (`Callable[[int], Any]`, *optional*): called every few windows with the number of newly finished
                tokens. An exception that it raises ends the call.

        Returns:
            [`BarkSemanticTokens`]: tokens and confidence, both `(batch, max_num_tokens)`, and the length of each row.

        Raises:
            ValueError: as in [`forward`]; `top_k` is not between 1 and the size of the vocabulary; or the head has no
                embeddings.
        """
        if top_k is not None and not 1 <= top_k <= self.config.vocab_size:
            raise ValueError(f"`top_k` is {top_k}; it must be between 1 and {self.config.vocab_size}.")
        if output_embeddings and self.config.head_type != "embedding":
            raise ValueError(
                f"A {self.config.head_type!r} head has no embeddings; `output_embeddings` needs 'embedding'."
            )
        self._check_inputs(input_values, audio_codes)
        num_samples = _lengths("attention_mask", attention_mask, input_values)
        num_frames = _lengths("audio_codes_mask", audio_codes_mask, audio_codes)
        num_tokens, max_tokens = self._count_tokens(input_values, num_samples, audio_codes, num_frames)
        batch, device = len(num_tokens), num_tokens.device
        tokens = torch.full((batch, max_tokens, top_k or 1), -100, device=device)
        confidence = torch.zeros(tokens.shape, device=device)
        embeddings = torch.zeros(batch, max_tokens, self.config.embedding_size) if output_embeddings else None
        windows = [w for row, n in enumerate(num_tokens.tolist()) for w in plan_windows(n, self.config, row)]
        windows.sort(key=lambda window: window.num_tokens)
        batch_size = batch_size or (1 if device.type == "cpu" else 8)
        head_batch_size = max(batch_size, 8) if self._goes_token_by_token() else batch_size
        groups = [windows[i : i + head_batch_size] for i in range(0, len(windows), head_batch_size)]
        inputs = (input_values, num_samples, audio_codes, num_frames, level)
        temperature = self._temperature(input_values, audio_codes)
        for group, parts, states in self._read_windows(groups, batch_size, *inputs):
            likeliest = [_likeliest(part, top_k, temperature) for part in parts]
            best, best_confidence = (torch.cat(columns, dim=1) for columns in zip(*likeliest, strict=True))
            for i, window in enumerate(group):
                inside = slice(window.keep_from - window.first_token, window.keep_to - window.first_token)
                tokens[window.row, window.keep_from : window.keep_to] = best[i, inside]
                confidence[window.row, window.keep_from : window.keep_to] = best_confidence[i, inside]
                if embeddings is not None:
                    embeddings[window.row, window.keep_from : window.keep_to] = states[0][i, inside].float().cpu()
            if on_tokens is not None:
                on_tokens(sum(window.keep_to - window.keep_from for window in group))
        return BarkSemanticTokens(
            semantic_tokens=tokens[..., 0],
            num_tokens=num_tokens,
            confidence=confidence[..., 0],
            top_k_tokens=tokens if top_k else None,
            top_k_confidence=confidence if top_k else None,
            embeddings=embeddings,
        )

    def get_input_embeddings(self) -> None:
        """`None`: the model has no input embeddings. Accelerate calls this before it wraps a model in FSDP."""
        return None

    def freeze_backbone(self) -> "BarkSemanticEncoderModel":
        """Exclude the backbone from training, and keep it in evaluation mode."""
        if self.backbone is not None:
            self.backbone.requires_grad_(False)
            self._backbone_frozen = True
            self.backbone.eval()
        return self

    def train(self, mode: bool = True):
        """Set training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self._backbone_frozen:
            self.backbone.eval()
        return self

    # ---- the parts of forward and encode, in order of use

    def _read(self, input_values, attention_mask, audio_codes, audio_codes_mask):
        """Features of every source, the backbone's states, the number of tokens of each row, and their mask."""
        self._check_inputs(input_values, audio_codes)
        num_samples = _lengths("attention_mask", attention_mask, input_values)
        num_frames = _lengths("audio_codes_mask", audio_codes_mask, audio_codes)
        num_tokens, max_tokens = self._count_tokens(input_values, num_samples, audio_codes, num_frames)
        gain = self._gain(input_values, num_samples)
        input_values = input_values if gain is None else input_values * gain
        token_index = torch.arange(max_tokens, device=num_tokens.device).expand(num_tokens.shape[0], -1)
        unpadded = num_samples is num_frames is None or _holds((num_tokens == max_tokens).all())
        valid_tokens = None if unpadded else num_tokens
        inputs = (input_values, num_samples, audio_codes, num_frames)
        sources, hidden_states = self._features(*inputs, token_index, valid_tokens)
        return sources, hidden_states, num_tokens, length_mask(valid_tokens, max_tokens)

    def _check_inputs(self, input_values, audio_codes):
        if input_values is None and audio_codes is None:
            raise ValueError("Nothing to encode: pass `input_values` (a waveform at 16 kHz), `audio_codes`, or both.")
        if input_values is not None:
            if self.backbone is None:
                raise ValueError("This encoder reads codes only; it has no backbone for `input_values`.")
            if input_values.ndim != 2 or input_values.shape[1] < MIN_SAMPLES:
                raise ValueError(
                    f"`input_values` has shape {tuple(input_values.shape)}; it must be (batch, samples) at "
                    f"{SAMPLING_RATE} Hz with at least {MIN_SAMPLES} samples."
                )
        if audio_codes is None:
            return
        if self.codec_front_end is None:
            raise ValueError(
                "This encoder has no codec front end for `audio_codes`; pass a waveform as `input_values`."
            )
        most = max(NUM_CODEBOOKS, self.config.num_codebooks)
        if audio_codes.ndim != 3 or not 1 <= audio_codes.shape[1] <= most or audio_codes.shape[2] < 2:
            raise ValueError(
                f"`audio_codes` has shape {tuple(audio_codes.shape)}; it must be (batch, codebooks, frames) with 1 to "
                f"{most} codebooks and at least 2 frames."
            )
        outside = (audio_codes < 0) | (audio_codes > self.config.codebook_size)
        if audio_codes.is_floating_point() or _holds(outside.any()):
            raise ValueError(
                f"`audio_codes` must be whole numbers from 0 to {self.config.codebook_size - 1}, or "
                f"{self.config.codebook_size} where a code is unknown."
            )
        if input_values is not None and len(input_values) != len(audio_codes):
            raise ValueError(
                f"There are {len(input_values)} waveforms, but codes of {len(audio_codes)}. Pass both of each."
            )

    def _count_tokens(self, input_values, num_samples, audio_codes, num_frames):
        """Number of tokens of each row, `(batch,)`, and of the longest row; of audio and codes, the smaller number."""
        counts, most = [], []  # by kind of input: of each row, and of the batch's length
        if input_values is not None:
            if num_samples is not None and _holds((num_samples < MIN_SAMPLES).any()):
                raise ValueError(f"A row has {num_samples.min()} samples; it needs at least {MIN_SAMPLES} (50 ms).")
            most.append(num_semantic_tokens_of_samples(input_values.shape[1]))
            counts.append(most[-1] if num_samples is None else num_semantic_tokens_of_samples(num_samples))
        if audio_codes is not None:
            most.append(num_semantic_tokens(audio_codes.shape[2]))
            counts.append(most[-1] if num_frames is None else num_semantic_tokens(num_frames))
        inputs = input_values if input_values is not None else audio_codes
        rows = torch.zeros(inputs.shape[0], dtype=torch.long, device=inputs.device)
        counts = [rows + count for count in counts]
        if len(counts) == 2:
            of_audio, of_codes = counts
            apart = (of_audio - of_codes).abs() > (0.02 * of_audio).clamp(min=2)
            if _holds(apart.any()):
                row = apart.nonzero()[0, 0]
                raise ValueError(
                    f"Row {row} has {of_audio[row]} tokens by its audio and {of_codes[row]} by its codes. Audio and "
                    "codes must be of the same recording."
                )
        num_tokens = torch.stack(counts).amin(0)
        if num_samples is num_frames is None or torch.compiler.is_exporting():
            return num_tokens, min(most)
        return num_tokens, int(num_tokens.max())

    def _gain(self, input_values, num_samples, level=None):
        """Gain that brings each row to `config.input_level_db`, `(batch, 1)`, at most 40 dB; None: do not scale."""
        if input_values is None or self.config.input_level_db is None:
            return None
        if level is None:
            mask = length_mask(num_samples, input_values.shape[1])
            power = input_values.float().square() if mask is None else input_values.float().square() * mask
            count = input_values.shape[1] if num_samples is None else num_samples
            level = (power.sum(-1) / count).sqrt()
        gain = 10 ** (self.config.input_level_db / 20) / level.clamp(min=1e-6)
        return gain.clamp(max=100.0).to(input_values.dtype)[:, None]

    def _features(self, input_values, num_samples, audio_codes, num_frames, token_index, num_tokens, start_frame=None):
        """Features of every source, each `(batch, num_tokens, feature_size)`, and the backbone's states.

        `token_index` `(batch, num_tokens)` counts from the start of the recording. The inputs begin at `start_frame`
        `(batch,)` of the recording, in frames of 20 ms; None for 0. `num_tokens` `(batch,)` is None if no row is
        padded.
        """
        start_frame = 0 if start_frame is None else start_frame[:, None]
        frame_index = token_frames(token_index, self.config.frame_offset) - start_frame
        sources, hidden_states = [], None
        if input_values is not None:
            if self.config.backbone_config.model_type in WAVEFORM_BACKBONES:  # spectrograms are made in float32
                input_values = input_values.to(self.dtype)
            hidden_states = self.backbone(input_values, num_samples)
            sources.append(self._at_tokens(hidden_states, self.backbone.num_frames(num_samples), frame_index))
        if audio_codes is not None:
            token_s = (token_index + 0.5) / SEMANTIC_RATE_HZ - start_frame / FRAME_RATE_HZ
            features, states = self._codec_features(audio_codes, num_frames, token_s, frame_index, num_tokens)
            sources.append(features)
            hidden_states = states if input_values is None else hidden_states
        return sources, hidden_states

    def _at_tokens(self, states, num_frames, frame_index):
        """Pick the frame of each token, or the last one if it lies beyond the end; normalize and join the layers."""
        states = [states[layer] for layer in self.config.backbone_layers]
        index = _clamped(frame_index, states[0].shape[1] if num_frames is None else num_frames)[..., None]
        states = [state.gather(1, index.expand(-1, -1, state.shape[-1])) for state in states]
        if self.config.normalize_features:
            states = [F.layer_norm(state, state.shape[-1:]) for state in states]
        return torch.cat(states, dim=-1)  # (batch, tokens, feature_size)

    def _codec_features(self, audio_codes, num_frames, token_s, frame_index, num_tokens):
        if self.config.codec_output == "features":
            return self.codec_front_end(audio_codes, num_frames, token_s, num_tokens), None
        spectrogram, num_columns, num_samples = self._predicted_spectrogram(audio_codes, num_frames)
        states = self.backbone.hidden_states_of(self.backbone.augmented(spectrogram), num_columns)
        return self._at_tokens(states, self.backbone.num_frames(num_samples), frame_index), states

    def _predicted_spectrogram(self, audio_codes, num_frames):
        """Spectrogram predicted from the codes, and the valid columns and samples of each row (None: no padding)."""
        longest = self.backbone.num_columns(num_samples_of_codec_frames(audio_codes.shape[2]))
        column_s = torch.arange(longest, device=audio_codes.device) * self.backbone.spectrogram_hop_s
        column_s = (column_s + self.backbone.spectrogram_delay_s).expand(audio_codes.shape[0], -1)
        num_samples = None if num_frames is None else num_samples_of_codec_frames(num_frames)
        num_columns = self.backbone.num_columns(num_samples)
        return self.codec_front_end(audio_codes, num_frames, column_s, num_columns), num_columns, num_samples

    def _read_out(self, sources, mask, labels=None):
        """Loss (None without labels) and logits of the sources, one or two."""
        if labels is None:
            return None, self._joined([self.head(features, mask) for features in sources])
        smoothing = self.config.label_smoothing
        losses, logits = zip(*(self.head.loss(features, mask, labels, smoothing) for features in sources), strict=True)
        loss = sum(weight * part for weight, part in zip(self._weights(losses), losses, strict=True))
        return loss, self._joined(logits)

    def _joined(self, logits):
        """The logits of one source, or the weighted log-probabilities of two."""
        if len(logits) == 1:
            return logits[0]
        weighted = zip(self._weights(logits), logits, strict=True)
        return sum(weight * part.float().log_softmax(-1) for weight, part in weighted)

    def _weights(self, sources):
        return [1.0] if len(sources) == 1 else [1 - self.config.codec_weight, self.config.codec_weight]

    def _goes_token_by_token(self):
        return self.config.head_type in ("recurrent", "autoregressive")

    def _temperature(self, input_values, audio_codes):
        kind = "+".join(k for k, v in (("audio", input_values), ("codes", audio_codes)) if v is not None)
        return (self.config.temperatures or {}).get(kind, 1.0)

    def _read_windows(self, groups, batch_size, input_values, num_samples, audio_codes, num_frames, level=None):
        """Yield each group of windows with an iterator over its logits, and the head's states of every source."""
        gain = self._gain(input_values, num_samples, level)
        inputs = (input_values, num_samples, audio_codes, num_frames)
        for group in groups:
            yield group, *self._read_group(group, batch_size, gain, *inputs)  # no reference keeps it in memory

    def _read_group(self, group, batch_size, *inputs):
        """An iterator over the logits of a group of windows, and the states that they are computed from."""
        parts = [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
        sources = _stack_rows([self._window_features(part, *inputs) for part in parts])
        num_read = torch.tensor([window.num_tokens for window in group], device=sources[0].device)
        padded = bool((num_read < sources[0].shape[1]).any())
        mask = length_mask(num_read if padded else None, sources[0].shape[1])
        states = [self.head.states(features, mask) for features in sources]
        return self._logits_in_parts(states, mask), states

    def _logits_in_parts(self, states, mask):
        """Yield the logits of `TOKENS_AT_ONCE` tokens at a time, `(batch, tokens, vocab_size)`."""
        if self.transitions is None:
            yield from self._head_logits(states)
            return
        weighed = self.transitions(self._head_logits(states), mask)
        weighed = zip(*(values.split(TOKENS_AT_ONCE, dim=1) for values in weighed), strict=True)
        for part, (candidates, logits) in zip(self._head_logits(states), weighed, strict=True):  # recomputed, not kept
            yield part.scatter_(-1, candidates, logits.to(part.dtype))

    def _head_logits(self, states):
        for part in zip(*(own.split(TOKENS_AT_ONCE, dim=1) for own in states), strict=True):
            yield self._joined([self.head.logits(own) for own in part])

    def _window_features(self, group, gain, input_values, num_samples, audio_codes, num_frames):
        """Cut the windows out of the inputs and compute their features."""
        device = self.device
        start_frame = torch.tensor([window.start_frame for window in group], device=device)
        num_tokens = torch.tensor([window.num_tokens for window in group], device=device)
        token_index = torch.tensor([window.first_token for window in group], device=device)[:, None]
        token_index = token_index + torch.arange(int(num_tokens.max()), device=device)
        if input_values is not None:
            starts = [window.start_frame * SAMPLES_PER_FRAME for window in group]
            stops = [window.stop_frame * SAMPLES_PER_FRAME for window in group]
            input_values, num_samples = _cut(input_values, num_samples, group, starts, stops, 0)
            input_values = input_values if gain is None else input_values * gain[[window.row for window in group]]
        if audio_codes is not None:
            starts = [window.start_frame * CODEC_RATE_HZ // FRAME_RATE_HZ for window in group]
            stops = [window.stop_frame * CODEC_RATE_HZ // FRAME_RATE_HZ for window in group]
            audio_codes, num_frames = _cut(audio_codes, num_frames, group, starts, stops, self.config.codebook_size)
        valid_tokens = num_tokens if bool((num_tokens < token_index.shape[1]).any()) else None
        inputs = (input_values, num_samples, audio_codes, num_frames)
        return self._features(*inputs, token_index, valid_tokens, start_frame)[0]

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, AutoregressiveHead):
            nn.init.normal_(module.pos_embedding, std=0.02)
        elif isinstance(module, EmbeddingHead):
            nn.init.normal_(module.token_embeddings)
        elif isinstance(module, RecurrentHead):
            module.lstm.reset_parameters()


@dataclass(frozen=True)
class Window:
    """A part of one recording: its frames of 20 ms, its tokens, and the tokens that are taken from it."""

    row: int
    start_frame: int
    stop_frame: int
    first_token: int
    num_tokens: int
    keep_from: int
    keep_to: int


def plan_windows(num_tokens: int, config: BarkSemanticEncoderConfig, row: int = 0) -> list[Window]:
    """Cover `num_tokens` tokens with windows of `config.window_s` that overlap by `config.overlap_s`.

    Starts are multiples of 40 ms, which is 2 frames and 3 codec frames. Every token is kept once.
    """
    num_frames = int(token_frames(num_tokens - 1)) + 3 if num_tokens else 0  # the last frame may extend beyond the end
    length = int(config.window_s * FRAME_RATE_HZ) // 2 * 2
    hop = max(2, int((config.window_s - config.overlap_s) * FRAME_RATE_HZ) // 2 * 2)
    if num_frames <= length:
        return [Window(row, 0, num_frames + 2, 0, num_tokens, 0, num_tokens)]
    windows, kept = [], 0
    starts = list(range(0, num_frames - length + hop, hop))
    for start in starts:
        last = start == starts[-1]
        start = min(start, (num_frames - length + 1) // 2 * 2)  # the last window starts earlier, to have full length
        first, stop = _first_token_from(start), num_tokens if last else _first_token_from(start + length)
        keep_to = num_tokens if last else _first_token_from(start + length - (length - hop) // 2)
        windows.append(Window(row, start, start + length + (2 if last else 0), first, stop - first, kept, keep_to))
        kept = keep_to
    return windows


def _first_token_from(frame: int) -> int:
    """The first token whose middle lies in or after `frame`."""
    token = max(0, num_semantic_tokens(frame * CODEC_RATE_HZ // FRAME_RATE_HZ) - 2)
    while token_frames(token) < frame:
        token += 1
    return token


def _holds(condition: torch.Tensor) -> bool:
    """Whether a condition on tensor values is true; False in `torch.export`, where only shapes are known."""
    return not torch.compiler.is_exporting() and bool(condition)


def _clamped(index: torch.Tensor, lengths) -> torch.Tensor:
    """Indices `(batch, n)`, limited to positions of their row; `lengths` is `(batch,)` or one number."""
    index = index.clamp(min=0)
    return index.minimum(lengths[:, None] - 1) if isinstance(lengths, torch.Tensor) else index.clamp(max=lengths - 1)


def _lengths(name, mask, inputs) -> torch.Tensor | None:
    """Valid length of each row, or None if no row is padded."""
    if mask is None or inputs is None:
        return None
    if mask.shape != (inputs.shape[0], inputs.shape[-1]):
        raise ValueError(f"`{name}` has shape {tuple(mask.shape)}; it must be {(inputs.shape[0], inputs.shape[-1])}.")
    if _holds(mask.all()):
        return None
    if _holds((mask[:, 1:] > mask[:, :-1]).any()):
        raise ValueError(f"`{name}` has a gap or padding on the left; rows must be padded on the right.")
    return mask.long().sum(-1)


def _likeliest(logits: torch.Tensor, top_k: int | None, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest tokens, best first, and their probabilities at a temperature: `(batch, tokens, top_k or 1)`."""
    best = logits.topk(top_k) if top_k else logits.max(-1, keepdim=True)
    normalizer = (logits.float() / temperature).logsumexp(-1, keepdim=True)
    return best.indices, (best.values.float() / temperature - normalizer).exp()


def _stack_rows(parts: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    """Batches of features, one list of sources each, as one batch, right-padded."""
    if len(parts) == 1:
        return parts[0]
    longest = max(sources[0].shape[1] for sources in parts)
    padded = [[F.pad(source, (0, 0, 0, longest - source.shape[1])) for source in sources] for sources in parts]
    return [torch.cat(batches) for batches in zip(*padded, strict=True)]


def _cut(inputs, lengths, group, starts, stops, padding):
    """Rows `inputs[window.row, ..., start:stop]` as one right-padded batch, and their lengths (None: no padding)."""
    ends = [inputs.shape[-1] if lengths is None else int(lengths[window.row]) for window in group]
    parts = [inputs[w.row, ..., a : min(b, end)] for w, a, b, end in zip(group, starts, stops, ends, strict=True)]
    sizes = [part.shape[-1] for part in parts]
    batch = torch.stack(
        [F.pad(part, (0, max(sizes) - size), value=padding) for part, size in zip(parts, sizes, strict=True)]
    )
    return batch, None if min(sizes) == max(sizes) else torch.tensor(sizes, device=inputs.device)


class CodecFrontEnd(nn.Module):
    """Turns EnCodec codes at 75 Hz into features, or a log-mel spectrogram, at any times.

    The embeddings of a frame's codes are summed, as in EnCodec itself; unknown codes have an embedding of their own.
    Residual convolutions follow, half of them before and half after the interpolation to the given times.
    """

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__()
        width = config.codec_hidden_size
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.embedding = nn.Embedding(config.num_codebooks * (config.codebook_size + 1), width)
        half = (config.codec_num_layers + 1) // 2
        blocks = [ResidualConvolution(width, config.codec_kernel_size) for _ in range(config.codec_num_layers)]
        self.before, self.behind = nn.ModuleList(blocks[:half]), nn.ModuleList(blocks[half:])
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, config.codec_output_size)

    def forward(self, audio_codes: torch.LongTensor, num_frames, time_s: torch.Tensor, num_times) -> torch.Tensor:
        """Predict at the times `time_s` `(batch, times)`, in seconds from the first frame: `(batch, times, size)`.

        `num_frames` and `num_times` are the valid ones of each row, `(batch,)`, or None where no row is padded.
        """
        codes = self._fill(audio_codes)
        offset = torch.arange(self.num_codebooks, device=codes.device) * (self.codebook_size + 1)
        hidden_states = self.embedding(codes + offset[:, None]).sum(1)  # (batch, frames, width)
        mask = length_mask(num_frames, hidden_states.shape[1])
        for block in self.before:
            hidden_states = block(hidden_states, mask)
        hidden_states = self._interpolate(hidden_states, num_frames, time_s)
        times_mask = length_mask(num_times, hidden_states.shape[1])
        for block in self.behind:
            hidden_states = block(hidden_states, times_mask)
        return self.output(self.norm(hidden_states))

    def _fill(self, audio_codes):
        """The codes of the first `num_codebooks` codebooks; missing codebooks are filled with unknown codes."""
        audio_codes = audio_codes[:, : self.num_codebooks]
        missing = self.num_codebooks - audio_codes.shape[1]
        return F.pad(audio_codes, (0, 0, 0, missing), value=self.codebook_size) if missing else audio_codes

    def _interpolate(self, hidden_states, num_frames, time_s):
        """Interpolate linearly between the middles of the codec frames."""
        lengths = hidden_states.shape[1] if num_frames is None else num_frames
        position = _clamped(time_s * CODEC_RATE_HZ - 0.5, lengths)
        left = position.floor().long()
        right = _clamped(left + 1, lengths)
        part = (position - left).to(hidden_states.dtype)[..., None]
        width = hidden_states.shape[-1]
        left, right = (hidden_states.gather(1, i[..., None].expand(-1, -1, width)) for i in (left, right))
        return left + (right - left) * part


class ResidualConvolution(nn.Module):
    def __init__(self, width: int, kernel_size: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, 2 * width, kernel_size, padding=kernel_size // 2)
        self.mix = nn.Linear(2 * width, width)

    def forward(self, hidden_states, mask):
        states = zero_padding(self.norm(hidden_states), mask)
        states = F.gelu(self.conv(states.transpose(1, 2))).transpose(1, 2)
        return hidden_states + self.mix(states)


__all__ = ["BarkSemanticEncoderModel", "BarkSemanticEncoderOutput", "BarkSemanticTokens"]
