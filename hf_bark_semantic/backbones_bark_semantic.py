"""Speech models of transformers as backbones: waveform in, hidden states out.

`build_backbone(config)` returns a module with the checkpoint's own layers, up to the last one in use, and

    num_frames(num_samples)                     number of frames of 20 ms for samples at 16 kHz
    forward(input_values, num_samples)          list of hidden states (batch, frames, width): what the first layer
                                                reads, then the output of each layer; num_samples is None where no
                                                row is padded

A row gives the same result in a batch as alone. transformers' own `forward` does not guarantee this: a group norm over
time includes the padding, convolutions mix it into the last frames, and Whisper requires 30 s. So this module runs
transformers' layers itself. It deliberately leaves out the backbones' masking (SpecAugment) and LayerDrop.
"""

import copy
import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers.audio_utils import mel_filter_bank, window_function
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from .configuration_bark_semantic import SAMPLING_RATE, BarkSemanticEncoderConfig

SPECTROGRAM_HOP = 160  # samples at 16 kHz between spectrogram columns, Whisper's and w2v-BERT's: 100 per second
FFT_WINDOW = 400


def build_backbone(config: BarkSemanticEncoderConfig) -> nn.Module:
    """The backbone that `config.backbone_config` describes, cut after the last of `config.backbone_layers`."""
    model_type = config.backbone_config.model_type
    if model_type == "whisper":
        return WhisperBackbone(config)
    if model_type == "wav2vec2-bert":
        return Wav2Vec2BertBackbone(config)
    return WaveformBackbone(config)


def length_mask(lengths: torch.Tensor | None, max_length: int) -> torch.Tensor | None:
    """Boolean `(batch, max_length)`, True on the valid positions; None for `lengths=None`: every position is valid."""
    return None if lengths is None else torch.arange(max_length, device=lengths.device)[None] < lengths[:, None]


def zero_padding(hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """`(batch, time, width)` with zeros where `mask` is False."""
    return hidden_states if mask is None else hidden_states.masked_fill(~mask[..., None], 0)


class _Backbone(nn.Module):
    """The common part of all families: a shortened checkpoint, and the loop over its transformer layers."""

    model: PreTrainedModel

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__()
        self.reads_final_norm = max(config.backbone_layers) == config.backbone_depth
        cut = copy.deepcopy(config.backbone_config)
        cut.mask_time_prob = cut.mask_feature_prob = 0.0
        num_layers = max(config.backbone_layers)
        if cut.model_type == "whisper":
            cut.encoder_layers = num_layers
            self.model = WhisperEncoder(cut)
        else:
            cut.num_hidden_layers = num_layers
            self.model = AutoModel.from_config(cut)
        self.config = self.model.config  # has the attention that transformers chose

    def _collect(self, hidden_states, layers, call_layer, final_norm=None) -> list[torch.Tensor]:
        """Run `layers`, and keep their states; a norm may follow the last layer of a checkpoint."""
        states = [hidden_states]
        for layer in layers:
            states.append(call_layer(layer, states[-1]))
        if final_norm is not None and self.reads_final_norm:
            states[-1] = final_norm(states[-1])
        return states


class WaveformBackbone(_Backbone):
    """HuBERT, wav2vec 2.0, WavLM and data2vec-audio: strided convolutions over the waveform, then a transformer."""

    def num_frames(self, num_samples):
        if num_samples is None:
            return None
        lengths = num_samples
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def forward(self, input_values: torch.Tensor, num_samples: torch.Tensor | None) -> list[torch.Tensor]:
        model, encoder = self.model, self.model.encoder
        hidden_states = self._conv_features(input_values, num_samples)  # (batch, frames, conv width)
        hidden_states = model.feature_projection(hidden_states)
        if isinstance(hidden_states, tuple):  # all but HuBERT also return the unprojected features
            hidden_states = hidden_states[0]
        mask = length_mask(self.num_frames(num_samples), hidden_states.shape[1])
        hidden_states = zero_padding(hidden_states, mask)
        hidden_states = hidden_states + self._position_embedding(hidden_states, mask)
        stable_layer_norm = getattr(self.config, "do_stable_layer_norm", False)
        if not stable_layer_norm:
            hidden_states = encoder.layer_norm(hidden_states)
        hidden_states = encoder.dropout(hidden_states)
        final_norm = encoder.layer_norm if stable_layer_norm else None
        return self._collect(hidden_states, encoder.layers, self._layer_caller(hidden_states, mask), final_norm)

    def _layer_caller(self, hidden_states, mask):
        if self.config.model_type != "wavlm":
            attention_mask = create_bidirectional_mask(self.config, hidden_states, mask)
            return lambda layer, states: layer(states, attention_mask=attention_mask)
        position_bias = None

        def call(layer, states):
            nonlocal position_bias
            states, position_bias = layer(states, attention_mask=mask, position_bias=position_bias)[:2]
            return states

        return call

    def _conv_features(self, input_values, num_samples):
        hidden_states, lengths = input_values[:, None], num_samples
        for layer, kernel, stride in zip(
            self.model.feature_extractor.conv_layers, self.config.conv_kernel, self.config.conv_stride, strict=True
        ):
            lengths = None if lengths is None else (lengths - kernel) // stride + 1
            if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
                hidden_states = layer.conv(hidden_states)
                mask = length_mask(lengths, hidden_states.shape[-1])
                hidden_states = layer.activation(_group_norm_over_valid(layer.layer_norm, hidden_states, mask))
            else:
                hidden_states = layer(hidden_states)
        return hidden_states.transpose(1, 2)

    def _position_embedding(self, hidden_states, mask):
        position_embedding = self.model.encoder.pos_conv_embed
        if self.config.model_type != "data2vec-audio":
            return position_embedding(hidden_states)
        for layer in position_embedding.layers:  # convolutions; what each writes into the padding is set to zero
            hidden_states = zero_padding(layer(hidden_states.transpose(1, 2)).transpose(1, 2), mask)
        return hidden_states


def _group_norm_over_valid(norm: nn.GroupNorm, hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Group norm with one channel per group, `(batch, channels, time)`, its statistics taken where `mask` is True."""
    if mask is None:
        return norm(hidden_states)
    weight = mask[:, None] / mask.sum(-1)[:, None, None]  # (batch, 1, time), sums to 1
    values = hidden_states.float()
    mean = (values * weight).sum(-1, keepdim=True)
    variance = ((values - mean).square() * weight).sum(-1, keepdim=True)
    values = (values - mean) * torch.rsqrt(variance + norm.eps)
    return (values * norm.weight.float()[:, None] + norm.bias.float()[:, None]).to(hidden_states.dtype)


class _SpectrogramBackbone(_Backbone):
    def __init__(self, config):
        super().__init__(config)
        # Training may set a module that changes a computed or predicted spectrogram (batch, columns, bins). This is no
        # class attribute, because that would hide the module.
        self.augmentation = None

    def spectrogram(self, input_values, num_samples) -> tuple[torch.Tensor, torch.Tensor]:
        """The spectrogram of a waveform, `(batch, columns, bins)`, and the number of valid columns of each row."""
        raise NotImplementedError

    def forward(self, input_values: torch.Tensor, num_samples: torch.Tensor | None) -> list[torch.Tensor]:
        spectrogram, num_columns = self.spectrogram(input_values, num_samples)
        return self.hidden_states_of(self.augmented(spectrogram), num_columns)

    def augmented(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """The spectrogram, augmented if training has set an augmentation."""
        return spectrogram if self.augmentation is None else self.augmentation(spectrogram)


class WhisperBackbone(_SpectrogramBackbone):
    """Whisper's encoder, on audio of at most 30 s at its own length, without padding to 30 s."""

    spectrogram_hop_s = 0.01
    spectrogram_delay_s = 0.0  # column m is centred on m / 100 s

    def num_frames(self, num_samples):
        return None if num_samples is None else (num_samples // SPECTROGRAM_HOP + 1) // 2

    def num_columns(self, num_samples):
        return None if num_samples is None else num_samples // SPECTROGRAM_HOP

    def spectrogram(self, input_values, num_samples):
        return whisper_log_mel(input_values, num_samples, self.config.num_mel_bins), self.num_columns(num_samples)

    def hidden_states_of(self, spectrogram: torch.Tensor, num_columns: torch.Tensor | None) -> list[torch.Tensor]:
        """Hidden states of a log-mel spectrogram `(batch, columns, bins)`; `num_columns`: valid ones per row."""
        encoder = self.model
        num_frames = None if num_columns is None else (num_columns + 1) // 2
        max_frames = self.config.max_source_positions
        if spectrogram.shape[1] > 2 * max_frames:
            raise ValueError(
                f"The audio has {spectrogram.shape[1] / 100:.1f} s; Whisper reads at most {max_frames / 50:.0f} s at "
                "a time. Use `encode`, which cuts longer audio into windows, or crop it."
            )
        columns_mask = length_mask(num_columns, spectrogram.shape[1])
        spectrogram = zero_padding(spectrogram, columns_mask).to(encoder.conv1.weight.dtype)
        hidden_states = F.gelu(encoder.conv1(spectrogram.transpose(1, 2)))
        hidden_states = zero_padding(hidden_states.transpose(1, 2), columns_mask).transpose(1, 2)
        hidden_states = F.gelu(encoder.conv2(hidden_states)).transpose(1, 2).contiguous()  # (batch, frames, width)
        hidden_states = hidden_states + encoder.embed_positions.weight[: hidden_states.shape[1]]
        hidden_states = F.dropout(hidden_states, p=encoder.dropout, training=self.training)
        mask = length_mask(num_frames, hidden_states.shape[1])
        attention_mask = create_bidirectional_mask(self.config, hidden_states, mask)
        return self._collect(
            hidden_states,
            encoder.layers,
            lambda layer, states: _first(layer(states, attention_mask)),
            encoder.layer_norm,
        )


class Wav2Vec2BertBackbone(_SpectrogramBackbone):
    """w2v-BERT 2.0: a conformer over filter banks, two columns to a frame."""

    spectrogram_hop_s = 0.02
    spectrogram_delay_s = 0.0175  # middle of a column, which covers two windows of 25 ms, 10 ms apart

    def num_frames(self, num_samples):
        return None if num_samples is None else ((num_samples - FFT_WINDOW) // SPECTROGRAM_HOP + 1) // 2

    num_columns = num_frames

    def spectrogram(self, input_values, num_samples):
        bins = self.config.feature_projection_input_dim // 2
        return kaldi_filter_banks(input_values, num_samples, bins), self.num_columns(num_samples)

    def hidden_states_of(self, spectrogram: torch.Tensor, num_columns: torch.Tensor | None) -> list[torch.Tensor]:
        """Hidden states of stacked filter banks `(batch, frames, 2 * bins)` with `num_columns` valid frames a row."""
        encoder = self.model.encoder
        mask = length_mask(num_columns, spectrogram.shape[1])
        projection = self.model.feature_projection
        hidden_states = projection(spectrogram.to(projection.projection.weight.dtype))[0]
        hidden_states = encoder.dropout(zero_padding(hidden_states, mask))
        attention_mask = create_bidirectional_mask(self.config, hidden_states, mask)
        positions = None if encoder.embed_positions is None else encoder.embed_positions(hidden_states)

        def call(layer, states):
            return _first(layer(states, attention_mask, positions, conv_attention_mask=mask))

        return self._collect(hidden_states, encoder.layers, call)


def _first(output):
    return output[0] if isinstance(output, tuple) else output


@torch.compiler.disable
def whisper_log_mel(input_values: torch.Tensor, num_samples: torch.Tensor | None, num_mel_bins: int) -> torch.Tensor:
    """Whisper's log-mel spectrogram of each row at its own length.

    Args:
        input_values (`torch.FloatTensor` of shape `(batch, samples)`): 16 kHz, right-padded.
        num_samples (`torch.LongTensor` of shape `(batch,)`, *optional*): valid samples; None: all of them.

    Returns:
        `torch.FloatTensor` of shape `(batch, samples // 160, num_mel_bins)`, float32. Silence is assumed after the
        end, as in transformers' `WhisperFeatureExtractor`, which pads to 30 s.
    """
    half = FFT_WINDOW // 2
    waveform, num_samples = _valid_waveform(input_values, num_samples)
    start = waveform[:, 1 : half + 1].flip(-1)  # reflected, as torch.stft(center=True) does
    waveform = torch.cat([F.pad(start, (half - start.shape[1], 0)), F.pad(waveform, (0, half))], dim=1)
    window = torch.hann_window(FFT_WINDOW, device=waveform.device)
    spectrum = torch.stft(waveform, FFT_WINDOW, SPECTROGRAM_HOP, window=window, center=False, return_complex=True)
    num_columns = input_values.shape[1] // SPECTROGRAM_HOP
    power = spectrum[..., :num_columns].abs().square().transpose(1, 2)  # (batch, columns, 201)
    log_mel = (power @ _constant(_slaney_mel_filters, num_mel_bins, waveform.device)).clamp(min=1e-10).log10()
    valid = torch.arange(num_columns, device=waveform.device)[None] < (num_samples // SPECTROGRAM_HOP)[:, None]
    loudest = log_mel.masked_fill(~valid[..., None], -10.0).amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(log_mel, loudest - 8.0) + 4.0) / 4.0


@torch.compiler.disable
def kaldi_filter_banks(
    input_values: torch.Tensor, num_samples: torch.Tensor | None, num_mel_bins: int
) -> torch.Tensor:
    """Kaldi's log filter banks, normalized per row and bin, two neighbours side by side: what w2v-BERT 2.0 reads.

    Each row equals the output of transformers' `SeamlessM4TFeatureExtractor`. Both drop an odd last column.

    Args:
        input_values (`torch.FloatTensor` of shape `(batch, samples)`): 16 kHz, right-padded.
        num_samples (`torch.LongTensor` of shape `(batch,)`, *optional*): valid samples; None: all of them.

    Returns:
        `torch.FloatTensor` of shape `(batch, frames, 2 * num_mel_bins)`, float32.
    """
    waveform, num_samples = _valid_waveform(input_values, num_samples)
    waveform = waveform * 2**15  # Kaldi counts in 16-bit integers
    frames = waveform.unfold(-1, FFT_WINDOW, SPECTROGRAM_HOP)  # (batch, columns, 400)
    frames = frames - frames.mean(-1, keepdim=True)
    frames = torch.cat([frames[..., :1] * (1 - 0.97), frames[..., 1:] - 0.97 * frames[..., :-1]], dim=-1)
    frames = frames * _constant(_povey_window, FFT_WINDOW, waveform.device)
    power = torch.fft.rfft(frames, n=512).abs().square()
    energies = power @ _constant(_kaldi_mel_filters, num_mel_bins, waveform.device)
    log_energies = energies.clamp(min=1.192092955078125e-07).log()  # (batch, columns, bins)
    num_columns = (num_samples - FFT_WINDOW) // SPECTROGRAM_HOP + 1
    valid = (torch.arange(log_energies.shape[1], device=waveform.device)[None] < num_columns[:, None])[..., None]
    count = num_columns[:, None, None]
    mean = (log_energies * valid).sum(1, keepdim=True) / count
    variance = ((log_energies - mean).square() * valid).sum(1, keepdim=True) / (count - 1).clamp(min=1)
    normalized = (log_energies - mean) * torch.rsqrt(variance + 1e-7)
    return torch.cat([normalized[:, :-1:2], normalized[:, 1::2]], dim=-1)  # steps, so that export allows any length


def _valid_waveform(input_values, num_samples):
    """The waveform in float32 with zeros after each row's end, and the length of each row."""
    waveform = input_values.float()
    if num_samples is None:
        return waveform, torch.full(waveform.shape[:1], waveform.shape[1], device=waveform.device)
    return waveform.masked_fill(~length_mask(num_samples, waveform.shape[1]), 0), num_samples


def _constant(make, size: int, device) -> torch.Tensor:
    return torch.from_numpy(make(size)).to(device)


@functools.cache
def _slaney_mel_filters(num_mel_bins: int) -> np.ndarray:
    filters = mel_filter_bank(201, num_mel_bins, 0.0, 8_000.0, SAMPLING_RATE, norm="slaney", mel_scale="slaney")
    return filters.astype(np.float32)  # (201, bins)


@functools.cache
def _kaldi_mel_filters(num_mel_bins: int) -> np.ndarray:
    filters = mel_filter_bank(
        257, num_mel_bins, 20.0, 8_000.0, SAMPLING_RATE, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    return filters.astype(np.float32)  # (257, bins)


@functools.cache
def _povey_window(length: int) -> np.ndarray:
    return window_function(length, "povey", periodic=False).astype(np.float32)
