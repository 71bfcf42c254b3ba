"""Configuration of the encoder from audio to Bark's semantic tokens, and the only place that has Bark's rates.

Two functions compute every length in the package: `num_semantic_tokens` (codec frames -> tokens) and its inverse
`num_codec_frames`. `token_frames` says which encoder frame belongs to which token. No other code trims or pads. All
of them take and return whole numbers, or integer tensors of any shape.
"""

import math

from transformers import AutoConfig, PretrainedConfig
from transformers.models.bark.generation_configuration_bark import BarkGenerationConfig, BarkSemanticGenerationConfig
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

SEMANTIC_VOCAB_SIZE = BarkSemanticGenerationConfig().semantic_vocab_size  # Suno's; another Bark has its own
SEMANTIC_RATE_HZ = 49.9  # suno-ai/bark, generation.py: SEMANTIC_RATE_HZ
CODEC_RATE_HZ = 75  # EnCodec 24 kHz: 24,000 samples / hop of 320
CODEC_SAMPLING_RATE = 24_000
CODEC_HOP_LENGTH = 320
NUM_CODEBOOKS = 8  # EnCodec at 6 kbps; suno-ai/bark, generation.py: N_FINE_CODEBOOKS
NUM_COARSE_CODEBOOKS = 2  # suno-ai/bark, generation.py: N_COARSE_CODEBOOKS
CODEBOOK_SIZE = BarkGenerationConfig().codebook_size  # Suno's; another Bark has its own

SAMPLING_RATE = 16_000  # Hz, of every backbone's input
FRAME_RATE_HZ = 50  # of every backbone's output: one frame per 20 ms
SAMPLES_PER_FRAME = SAMPLING_RATE // FRAME_RATE_HZ

# 75 / 49.9 and 50 / 49.9 as exact fractions, so that no length depends on floating-point rounding.
_CODEC_PER_TOKEN = (750, 499)
_FRAMES_PER_TOKEN = (500, 499)

WAVEFORM_BACKBONES = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")
SPECTROGRAM_BACKBONES = ("whisper", "wav2vec2-bert")
BACKBONES = WAVEFORM_BACKBONES + SPECTROGRAM_BACKBONES
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")  # of weights
INPUT_KINDS = ("audio", "codes", "audio+codes")
HEAD_TYPES = ("linear", "recurrent", "transformer", "embedding", "autoregressive")
AUTOREGRESSIVE_POSITIONS = 2_000  # github.com/huynhnhathao: positions of its decoder, one per token: 40 s


def num_codec_frames(num_tokens: int) -> int:
    """Codec frames (75 Hz) that Bark makes of `num_tokens` semantic tokens (49.9 Hz): `floor(n * 75 / 49.9)`.

    Source: suno-ai/bark, generation.py, `generate_coarse`. All public voice presets have these lengths.
    """
    numerator, denominator = _CODEC_PER_TOKEN
    return num_tokens * numerator // denominator


def num_semantic_tokens(num_frames: int) -> int:
    """Semantic tokens of `num_frames` codec frames: the largest `n` with `num_codec_frames(n) <= num_frames`.

    For every length that Bark itself can make, this is exactly the number of tokens that it was made from.
    """
    numerator, denominator = _CODEC_PER_TOKEN
    return -((-(num_frames + 1) * denominator) // numerator) - 1


def num_semantic_tokens_of_samples(num_samples: int, sampling_rate: int = SAMPLING_RATE) -> int:
    """Semantic tokens of a waveform, counted by its `ceil(samples at 24 kHz / 320)` EnCodec frames.

    One sample too many is tolerated, because a resampler rounds the length of its output up.
    """
    return num_semantic_tokens(-(-(num_samples - 1) * CODEC_SAMPLING_RATE // (CODEC_HOP_LENGTH * sampling_rate)))


def num_samples_of_codec_frames(num_frames: int, sampling_rate: int = SAMPLING_RATE) -> int:
    """Samples of `num_frames` codec frames after resampling: `ceil(320 * frames * rate / 24000)`."""
    return -(-num_frames * CODEC_HOP_LENGTH * sampling_rate // CODEC_SAMPLING_RATE)


def token_frames(token_index, frame_offset: int = 0):
    """The encoder frame (50 Hz) in which the middle of each semantic token (49.9 Hz) falls.

    This is the only alignment in the package, for training and for inference. `training/RESULTS.md` has the experiment
    that chose it.

    Args:
        token_index (`int`, or an integer tensor of any shape): position of the token from the start of the audio.
        frame_offset (`int`): frames to look ahead (positive) or back (negative).
    """
    numerator, denominator = _FRAMES_PER_TOKEN
    return (2 * token_index + 1) * numerator // (2 * denominator) + frame_offset


class BarkSemanticEncoderConfig(PretrainedConfig):
    """Configuration of a [`BarkSemanticEncoderModel`].

    ```python
    from transformers import AutoModel, HubertConfig

    config = BarkSemanticEncoderConfig(HubertConfig(num_hidden_layers=2), backbone_layers=[1], head_type="linear")
    model = AutoModel.from_config(config)  # random weights
    ```

    Args:
        backbone_config (`PretrainedConfig` or `dict`, *optional*): a speech model of transformers: `hubert`,
            `wav2vec2`, `wavlm`, `data2vec-audio`, `wav2vec2-bert` or `whisper` (its encoder). `None`: the model reads
            codes only. The config is that of the whole checkpoint; the model builds only the layers in use.
        backbone_layers (`list[int]`): indices into transformers' `hidden_states`; these layers are concatenated to one
            feature vector per frame. fairseq's "layer 9" is `[9]`. The last index, the depth of the checkpoint, means
            its `last_hidden_state`.
        normalize_features (`bool`): layer-normalize the output of each layer (without parameters) before they are
            concatenated.
        codec_hidden_size (`int`): width of the codec front end, which reads EnCodec codes; 0 for none.
        codec_num_layers (`int`), codec_kernel_size (`int`): convolutions over time of the codec front end.
        codec_output (`str`): output of the codec front end: `"features"` for the head, or `"spectrogram"`, the log-mel
            spectrogram that a spectrogram backbone reads.
        codec_weight (`float`): weight of the codes' log-probabilities when audio and codes are both given.
        head_type (`str`): `linear`, `recurrent`, `transformer`, `embedding` or `autoregressive`.
        hidden_size (`int`), num_hidden_layers (`int`), num_attention_heads (`int`): shape of the head, if its type
            has these parts.
        intermediate_size (`int`), dropout (`float`): also of the head; with `intermediate_size=0`, a recurrent head
            has no projection between the LSTM and the output.
        conv_kernel_size (`int`): kernel of the transformer head's convolution over tokens; 0 for none.
        embedding_size (`int`): width of Bark's input embeddings (`embedding` head; 1,024 for bark, 768 for small).
        vocab_size (`int`): number of semantic tokens.
        num_codebooks (`int`), codebook_size (`int`): EnCodec's. With fewer than 8 codebooks, the codec front end reads
            only the first ones.
        label_smoothing (`float`): of the cross-entropy.
        frame_offset (`int`): see [`token_frames`].
        input_level_db (`float`, *optional*): scale every waveform to this level (RMS, in dB of full scale), so that a
            quiet recording gets the same tokens as a loud one. `None`: do not scale.
        temperatures (`dict[str, float]`, *optional*): `encode` divides the logits by a temperature before it computes
            the confidence. There is one for each kind of input, `"audio"`, `"codes"` and `"audio+codes"`; a missing
            one is 1. They change neither the tokens nor their order.
        num_transitions (`int`): number of counted pairs of neighbouring tokens, which `encode` uses to reweight the
            likeliest tokens; 0 for none.
        transition_weight (`float`): weight of those pairs relative to the head; 0: they have no effect.
        window_s (`float`), overlap_s (`float`): longer audio is encoded in windows of `window_s` seconds; neighbouring
            windows overlap by `overlap_s`.

    Raises:
        ValueError: a value is outside its range; the message states the range.
    """

    model_type = "bark_semantic_encoder"
    keys_to_ignore_at_inference = ["num_tokens", "features", "hidden_states"]  # transformers' Trainer keeps the logits
    sub_configs = {"backbone_config": AutoConfig}

    def __init__(
        self,
        backbone_config=None,
        backbone_layers=(9,),
        normalize_features=False,
        codec_hidden_size=0,
        codec_num_layers=4,
        codec_kernel_size=5,
        codec_output="features",
        codec_weight=0.5,
        head_type="linear",
        hidden_size=384,
        num_hidden_layers=2,
        num_attention_heads=6,
        intermediate_size=1_536,
        dropout=0.0,
        conv_kernel_size=0,
        embedding_size=1_024,
        vocab_size=SEMANTIC_VOCAB_SIZE,
        num_codebooks=NUM_CODEBOOKS,
        codebook_size=CODEBOOK_SIZE,
        label_smoothing=0.0,
        frame_offset=0,
        input_level_db=None,
        temperatures=None,
        num_transitions=0,
        transition_weight=0.0,
        window_s=20.0,
        overlap_s=2.0,
        **kwargs,
    ):
        if isinstance(backbone_config, dict):
            backbone_config = _config_from_dict(backbone_config)
        self.backbone_config = backbone_config
        self.backbone_layers = list(backbone_layers) if isinstance(backbone_layers, (list, tuple)) else backbone_layers
        self.normalize_features = normalize_features
        self.codec_hidden_size = codec_hidden_size
        self.codec_num_layers = codec_num_layers
        self.codec_kernel_size = codec_kernel_size
        self.codec_output = codec_output
        self.codec_weight = codec_weight
        self.head_type = head_type
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.dropout = dropout
        self.conv_kernel_size = conv_kernel_size
        self.embedding_size = embedding_size
        self.vocab_size = vocab_size
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.label_smoothing = label_smoothing
        self.frame_offset = frame_offset
        self.input_level_db = input_level_db
        self.temperatures = temperatures
        self.num_transitions = num_transitions
        self.transition_weight = transition_weight
        self.window_s = window_s
        self.overlap_s = overlap_s
        self.dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        self._check()
        if not __name__.startswith(TRANSFORMERS_DYNAMIC_MODULE_NAME):
            kwargs.pop("custom_pipelines", None)  # the installed package has its own pipeline
        super().__init__(dtype=self.dtype, **kwargs)

    @property
    def backbone_depth(self) -> int:
        """Transformer layers of the backbone's checkpoint."""
        backbone = self.backbone_config
        return backbone.encoder_layers if backbone.model_type == "whisper" else backbone.num_hidden_layers

    @property
    def backbone_hidden_size(self) -> int:
        """Width of the backbone's hidden states."""
        backbone = self.backbone_config
        return backbone.d_model if backbone.model_type == "whisper" else backbone.hidden_size

    @property
    def feature_size(self) -> int:
        """Width of the features that the head reads."""
        if self.backbone_config is None:
            return self.codec_hidden_size
        return self.backbone_hidden_size * len(self.backbone_layers)

    @property
    def codec_output_size(self) -> int:
        """Width of the output of the codec front end."""
        if self.codec_output == "features":
            return self.feature_size
        backbone = self.backbone_config
        return backbone.num_mel_bins if backbone.model_type == "whisper" else backbone.feature_projection_input_dim

    def _check(self):
        for name, holds, rule in self._rules():
            if not holds:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; it must be {rule}.")

    def _rules(self):
        """Yield every rule as `(field, whether it holds, the rule in words)`; a rule may rely on earlier ones."""
        at_least_0, at_least_1 = "a whole number, 0 or more", "a whole number, 1 or more"
        for name in ("hidden_size", "num_attention_heads", "embedding_size", "vocab_size", "num_codebooks"):
            yield name, _is_count(getattr(self, name), 1), at_least_1
        for name in ("codebook_size", "codec_num_layers", "codec_kernel_size"):
            yield name, _is_count(getattr(self, name), 1), at_least_1
        for name in ("num_hidden_layers", "codec_hidden_size", "intermediate_size", "conv_kernel_size"):
            yield name, _is_count(getattr(self, name), 0), at_least_0
        for name in ("conv_kernel_size", "codec_kernel_size"):
            yield name, getattr(self, name) % 2 == 1 or not getattr(self, name), "odd, to keep the length"
        dtype = str(self.dtype).removeprefix("torch.")
        yield "dtype", self.dtype is None or dtype in DTYPES, f"None, or one of {', '.join(DTYPES)}"
        yield "normalize_features", isinstance(self.normalize_features, bool), "True or False"
        yield "codec_output", self.codec_output in ("features", "spectrogram"), "'features' or 'spectrogram'"
        yield "codec_weight", _is_number(self.codec_weight) and 0 <= self.codec_weight <= 1, "between 0 and 1"
        yield "dropout", _is_number(self.dropout) and 0 <= self.dropout < 1, "at least 0 and below 1"
        smoothing = self.label_smoothing
        yield "label_smoothing", _is_number(smoothing) and 0 <= smoothing < 1, "at least 0 and below 1"
        level = self.input_level_db
        within = level is None or (_is_number(level) and -80 <= level <= 0)
        yield "input_level_db", within, "None, or between -80 and 0"
        yield (
            "temperatures", self.temperatures is None or _are_temperatures(self.temperatures),
            f"None, or numbers between 0.1 and 10 for some of {', '.join(INPUT_KINDS)}",
        )  # fmt: skip
        yield "num_transitions", _is_count(self.num_transitions, 0), at_least_0
        weight = self.transition_weight
        yield "transition_weight", _is_number(weight) and 0 <= weight <= 10, "between 0 and 10"
        offset = self.frame_offset
        yield "frame_offset", _is_count(offset, -49) and offset <= 49, "a whole number within ±49"
        yield from self._rules_of_inputs()
        yield from self._rules_of_head()
        yield "overlap_s", _is_number(self.overlap_s) and self.overlap_s >= 0, "0 or more"
        yield "window_s", _is_number(self.window_s) and self.window_s > self.overlap_s + 0.5, "over overlap_s + 0.5"
        for reader, positions in self._positions().items():
            most = positions / FRAME_RATE_HZ
            yield "window_s", self.window_s <= most, f"{most:g} or less: {reader} has {positions:,} positions"

    def _rules_of_inputs(self):
        backbone, layers = self.backbone_config, self.backbone_layers
        are_counts = isinstance(layers, list) and bool(layers) and all(_is_count(layer, 0) for layer in layers)
        reads_spectrograms = self.codec_output == "spectrogram"
        if backbone is None:
            yield (
                "codec_hidden_size", self.codec_hidden_size > 0,
                "1 or more (to read codes) without a `backbone_config` (to read audio): the model needs one of them",
            )  # fmt: skip
            yield "codec_output", not reads_spectrograms, "'features' without a `backbone_config`"
            yield "backbone_layers", are_counts, "a list of indices, 0 or more"
            return
        known = ", ".join(BACKBONES)
        model_type = getattr(backbone, "model_type", None)
        yield "backbone_config", model_type in BACKBONES, f"the configuration of one of {known}"
        depth = self.backbone_depth
        yield (
            "backbone_layers", are_counts and max(layers) <= depth,
            f"a list of indices between 0 and {depth}, the depth of the {model_type} backbone",
        )  # fmt: skip
        fits = not (reads_spectrograms and self.codec_hidden_size) or model_type in SPECTROGRAM_BACKBONES
        yield "codec_output", fits, f"'features' with a {model_type} backbone, which reads waveforms"

    def _rules_of_head(self):
        yield "head_type", self.head_type in HEAD_TYPES, f"one of {', '.join(HEAD_TYPES)}"
        heads = self.num_attention_heads
        if self.head_type in ("recurrent", "transformer", "autoregressive"):
            layers = self.num_hidden_layers
            yield "num_hidden_layers", layers > 0, f"1 or more with the head {self.head_type!r}"
        if self.head_type == "autoregressive":
            fits, rule = self.feature_size % heads == 0, f"a divisor of the features' width, {self.feature_size}"
            yield "num_attention_heads", fits, rule
        if self.head_type == "transformer" or (self.head_type == "embedding" and self.num_hidden_layers):
            fits, rule = self.hidden_size % (2 * heads) == 0, f"a multiple of 2 * num_attention_heads = {2 * heads}"
            yield "hidden_size", fits, f"{rule}, for rotary attention"

    def _positions(self) -> dict[str, int]:
        """The parts of the model that have a table of positions, and its size: one row per frame or token."""
        tables = {}
        if getattr(self.backbone_config, "model_type", None) == "whisper":
            tables["the whisper backbone"] = self.backbone_config.max_source_positions
        if self.head_type == "autoregressive":
            tables["the autoregressive head"] = AUTOREGRESSIVE_POSITIONS
        return tables


def _config_from_dict(values: dict) -> PretrainedConfig:
    values = dict(values)
    model_type = values.pop("model_type", None)
    if model_type not in BACKBONES:
        raise ValueError(
            f"`backbone_config` is of `model_type` {model_type!r}; it must be one of {', '.join(BACKBONES)}."
        )
    return AutoConfig.for_model(model_type, **values)


def _are_temperatures(values) -> bool:
    if not isinstance(values, dict) or not set(values) <= set(INPUT_KINDS):
        return False
    return all(_is_number(value) and 0.1 <= value <= 10 for value in values.values())


def _is_count(value, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


__all__ = ["BarkSemanticEncoderConfig"]
