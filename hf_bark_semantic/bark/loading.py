"""Load a Bark from a folder, the Hub or the package, and check it.

    load_bark             a Bark and its processor
    load_bark_codec       a Bark's codec, processor and configs, without its three large models
    load_bark_processor   a Bark's tokenizer and voice presets only
    load_codec            Bark's codec, from an EnCodec or a Bark checkpoint
    load_configs          a Bark's generation configs, without its weights
    check_encoder         check that an encoder has a Bark's vocabulary
    check_bark            check that a Bark has the rates and codebooks of Suno's; vocabularies may differ

`"nano"` is the packaged Bark.
"""

import math
import os
from pathlib import Path

from transformers import (
    AutoConfig,
    BarkModel,
    BarkProcessor,
    EncodecModel,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from ..configuration_bark_semantic import (
    CODEC_RATE_HZ,
    CODEC_SAMPLING_RATE,
    NUM_COARSE_CODEBOOKS,
    NUM_CODEBOOKS,
    SEMANTIC_RATE_HZ,
)
from ..conversion.hub import hub_answer, hub_errors
from ..packaged import NANO, bark_folder
from .configs import BarkGenerationConfigs, bark_generation_configs

DEFAULT_CODEC = "facebook/encodec_24khz"  # the codec in Suno's Barks
REMADE_ON_LOADING = (r"\.attn\.bias$", r"codebook\.(embed_avg|cluster_size|inited)$")  # masks, and training statistics
BANDWIDTH = 6.0  # kbps: 8 codebooks; suno-ai/bark, generation.py: load_codec_model


def load_bark(name: str | os.PathLike, **kwargs) -> tuple[BarkModel, BarkProcessor]:
    """Load a Bark and its processor. The codec stays in float32: it takes little time, and the audio depends on it.

    ```python
    import hf_bark_semantic

    bark, processor = hf_bark_semantic.load_bark("nano")  # or "suno/bark-small", or a folder
    processor.available_voice_presets
    ```

    Args:
        name (`str` or `Path`): Hub id or folder; `"nano"` for the packaged one.
        kwargs: as in `from_pretrained`: `dtype`, `device_map`, `revision`, `cache_dir`, ...

    Returns:
        `tuple[BarkModel, BarkProcessor]`: the model in evaluation mode, and its tokenizer with the voice presets.

    Raises:
        OSError: there is no such model, or it isn't cached and the Hub cannot be reached.
        ValueError: it is not a Bark, or it has other rates.
    """
    place = _find_bark(name, kwargs)
    processor = load_bark_processor(place, **_location(kwargs))
    bark = _QuietBark.from_pretrained(place, **kwargs).eval()
    bark.__class__ = BarkModel
    check_bark(bark)
    bark.codec_model.float()
    return bark, processor


def load_bark_codec(name: str | os.PathLike, **kwargs) -> tuple[EncodecModel, BarkProcessor, BarkGenerationConfigs]:
    """Load the codec of a Bark, its processor and its generation configurations; no other weights are read.

    Args:
        name (`str` or `Path`), kwargs: as in [`load_bark`].

    Raises:
        OSError, ValueError: as in [`load_bark`].
    """
    place = _find_bark(name, kwargs)
    processor = load_bark_processor(place, **_location(kwargs))
    codec = load_codec(place, **kwargs).float()
    return codec, processor, _check(GenerationConfig.from_pretrained(place, **_location(kwargs)), codec)


def load_bark_processor(name: str | os.PathLike, **kwargs) -> BarkProcessor:
    """Load the tokenizer and the voice presets of a Bark.

    Args:
        name (`str` or `Path`): as in [`load_bark`].
        kwargs: `revision`, `cache_dir`, `token`, `local_files_only`.

    Raises:
        OSError: there is none, or it isn't cached and the Hub cannot be reached.
    """
    place = str(bark_folder(name))
    way_out = "Save one there (`BarkProcessor(tokenizer).save_pretrained(folder)`), or pass bark_processor=."
    try:
        processor = BarkProcessor.from_pretrained(place, **kwargs)
    except (OSError, ValueError) as error:
        way_out = way_out if os.path.isdir(place) else "Name a folder, or a Hub id such as suno/bark-small."
        raise OSError(f"Cannot load the processor of the Bark {place!r}: {_first_line(error)} {way_out}") from error
    tokenizer = processor.tokenizer
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):  # made without files
        raise OSError(f"There is no tokenizer in {place!r}. {way_out}")
    return processor


def load_configs(name: str | os.PathLike, **kwargs) -> BarkGenerationConfigs:
    """The generation configurations of a Bark.

    Args:
        name (`str` or `Path`), kwargs: as in [`load_bark_processor`].

    Raises:
        OSError: there is no such model, or it isn't cached and the Hub cannot be reached.
    """
    place, _ = _find(name, "Bark", kwargs)
    return bark_generation_configs(GenerationConfig.from_pretrained(place, **kwargs))


def check_encoder(encoder: PreTrainedModel, vocab_size: int) -> None:
    """Check that an encoder has the semantic tokens of a Bark.

    Raises:
        ValueError: it has another number of them.
    """
    if encoder.config.vocab_size != vocab_size:
        raise ValueError(
            f"The encoder has a vocabulary of {encoder.config.vocab_size:,} semantic tokens and the Bark one of "
            f"{vocab_size:,}; they must be the same tokens. Use the encoder that was trained for this Bark (by "
            "default, the package's for nano or for Suno's Bark), or the Bark of this encoder."
        )


def check_bark(bark: BarkModel) -> BarkGenerationConfigs:
    """Check that a Bark has the rates of voice prompts, and return its ids and lengths.

    Raises:
        TypeError: not a `BarkModel`.
        ValueError: its generation config is incomplete, or its rates or its number of codebooks differ from Suno's.
    """
    if not isinstance(bark, BarkModel):
        raise TypeError(f"`bark` is a {type(bark).__name__}; it must be a BarkModel, a Hub id, a folder or {NANO!r}.")
    return _check(bark.generation_config, bark.codec_model)


def load_codec(name: str | os.PathLike = DEFAULT_CODEC, **kwargs) -> EncodecModel:
    """Load Bark's codec, without the rest of Bark.

    Args:
        name (`str` or `Path`): Hub id or folder of an EnCodec (24 kHz), or of a Bark, whose `codec_model` is taken;
            `"nano"` for that of the packaged Bark.
        kwargs: as in `from_pretrained`: `dtype`, `device_map`, `revision`, `cache_dir`, ...

    Raises:
        OSError: there is no such model, or it isn't cached and the Hub cannot be reached.
        ValueError: it is neither an EnCodec nor a Bark, or not the codec of Bark.
    """
    name, config = _find(name, "codec", kwargs)
    if config.model_type == "bark":
        config, kwargs["key_mapping"] = config.codec_config, {r"^codec_model\.": ""}
    if config.model_type != "encodec":
        raise ValueError(
            f"{str(name)!r} is a {config.model_type!r} model; Bark's codec is an EnCodec ({DEFAULT_CODEC})."
        )
    with hub_errors(f"Cannot load the codec {str(name)!r}: "):
        codec, loading = _QuietCodec.from_pretrained(name, config=config, output_loading_info=True, **kwargs)
    codec.__class__ = EncodecModel
    if loading["missing_keys"]:
        raise ValueError(
            f"{str(name)!r} lacks weights of the codec, such as {sorted(loading['missing_keys'])[0]!r}. Use another "
            f"checkpoint, or {DEFAULT_CODEC}."
        )
    check_codec(codec)
    return codec.eval()


def check_codec(codec: EncodecModel) -> None:
    """Check that a codec has Bark's format.

    Raises:
        ValueError: not 24 kHz, 75 frames per second and 8 codebooks at 6 kbps.
    """
    config = codec.config
    frame_rate = config.frame_rate
    codebooks = int(1000 * BANDWIDTH // (frame_rate * math.log2(config.codebook_size)))
    if (config.sampling_rate, frame_rate, codebooks) != (CODEC_SAMPLING_RATE, CODEC_RATE_HZ, NUM_CODEBOOKS):
        raise ValueError(
            f"The codec works at {config.sampling_rate} Hz with {frame_rate} frames per second and {codebooks} "
            f"codebooks at {BANDWIDTH} kbps; Bark's at {CODEC_SAMPLING_RATE} Hz with {CODEC_RATE_HZ} and "
            f"{NUM_CODEBOOKS}. Use {DEFAULT_CODEC}, or the codec_model of a Bark."
        )
    if BANDWIDTH not in config.target_bandwidths:
        raise ValueError(
            f"The codec offers {config.target_bandwidths} kbps; Bark's codes need {BANDWIDTH}. Use {DEFAULT_CODEC}."
        )


def save_bark(bark: BarkModel, processor: BarkProcessor, folder: Path) -> None:
    weights = bark.state_dict()
    # layers may share their attention masks, which safetensors refuses to write
    masks = {name: mask.clone() for name, mask in bark.named_buffers(remove_duplicate=False) if name in weights}
    bark.save_pretrained(folder, state_dict={**weights, **masks})
    try:
        processor.save_pretrained(str(folder))
    except (OSError, ValueError) as error:
        print(f"The voice presets are not saved: {error}")
        BarkProcessor(processor.tokenizer).save_pretrained(str(folder))


class _QuietBark(BarkModel):
    """Loads without warnings about parts that nano's checkpoint lacks; a subclass does not affect other loading."""

    _keys_to_ignore_on_load_missing = list(REMADE_ON_LOADING)


class _QuietCodec(EncodecModel):
    """Loads without warnings about the rest of Bark in the checkpoint, or about parts that nano's lacks."""

    _keys_to_ignore_on_load_unexpected = [r"^(semantic|coarse_acoustics|fine_acoustics)\."]
    _keys_to_ignore_on_load_missing = list(REMADE_ON_LOADING)


def _check(generation_config: GenerationConfig, codec: EncodecModel) -> BarkGenerationConfigs:
    configs = bark_generation_configs(generation_config)
    for name, value, rule in (
        ("semantic_rate_hz", configs.semantic.semantic_rate_hz, SEMANTIC_RATE_HZ),
        ("coarse_rate_hz", configs.coarse.coarse_rate_hz, CODEC_RATE_HZ),
        ("n_coarse_codebooks", configs.coarse.n_coarse_codebooks, NUM_COARSE_CODEBOOKS),
        ("n_fine_codebooks", configs.fine.n_fine_codebooks, NUM_CODEBOOKS),
        ("sample_rate", generation_config.sample_rate, CODEC_SAMPLING_RATE),
        ("codebook_size", configs.codebook_size, codec.config.codebook_size),
    ):
        if value != rule:
            raise ValueError(
                f"This Bark's generation config says {name} = {value}; voice prompts and its codec need {rule}. "
                "Correct `bark.generation_config`, or use another Bark."
            )
    check_codec(codec)
    return configs


def _find_bark(name: str | os.PathLike, kwargs: dict) -> str | os.PathLike:
    place, config = _find(name, "Bark", kwargs)
    if config.model_type != "bark":
        raise ValueError(f"{str(name)!r} is a {config.model_type!r} model. Name a Bark, such as suno/bark-small.")
    return place


def _find(name: str | os.PathLike, what: str, kwargs: dict) -> tuple[str | os.PathLike, PretrainedConfig]:
    """The place of a model, and its configuration."""
    name = bark_folder(name)
    try:
        return name, AutoConfig.from_pretrained(name, **_location(kwargs))
    except OSError as error:
        way_out = f"With a network, type `hf download {name}` once; without one, copy it from a machine that has it"
        reason = hub_answer(error) or f"{_first_line(error)} {way_out} and name its folder."
        raise OSError(f"Cannot load the {what} {str(name)!r}: {reason}") from error


def _location(kwargs: dict) -> dict:
    return {key: kwargs[key] for key in ("revision", "cache_dir", "token", "local_files_only") if key in kwargs}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


__all__ = [
    "check_bark",
    "check_codec",
    "check_encoder",
    "load_bark",
    "load_bark_codec",
    "load_bark_processor",
    "load_codec",
    "load_configs",
    "save_bark",
]
