"""Adapters in a folder or on the Hub, one bundle for all of a Bark's models.

    save_adapters    write the adapters of a Bark to a folder; `publishing.publish` uploads it
    load_adapters    load adapters from a folder or Hub id into a Bark

    bundle/ bundle.json                the Bark of the adapters, ranks, version; written last
            semantic/ coarse/ fine/    peft's files adapter_config.json and adapter_model.safetensors, for each stage
            voice.npz                  a voice prompt (optional)
            README.md                  the model card (optional)

Nothing is unpickled: weights are safetensors. Of a bundle's settings, only those of [`lora_config`] are read.
"""

import copy
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BarkModel

from ..environment import VERSION
from ..files import differences, read_json, write_json
from ..publishing import ADAPTER, public_name
from .adapters import (
    DEFAULT_NAME,
    AdapterError,
    LoraConfig,
    adapter_parameters,
    add_adapters,
    check_free,
    check_loaded,
    loaded_adapters,
    lora_config,
    remove_adapters,
    set_adapters,
)
from .configs import STAGES, bark_generation_configs, bark_stage
from .voice_prompt import VoicePrompt

FORMAT = 1
BUNDLE, VOICE = "bundle.json", "voice.npz"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_PREFIX = "base_model.model."  # of the keys in peft's files
_PEFT_NAMES = {
    "rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "targets": "target_modules",
    "use_dora": "use_dora", "use_rslora": "use_rslora",
}  # fmt: skip
_WITHOUT_EFFECT = ("peft_type", "task_type", "base_model_name_or_path", "revision", "peft_version", "inference_mode")
_SHAPE = ("hidden_size", "num_layers", "num_heads", "block_size", "input_vocab_size", "output_vocab_size")
_IDS = {
    "semantic": ("semantic_vocab_size", "eos_token_id", "semantic_pad_token", "semantic_infer_token",
                 "text_encoding_offset", "text_pad_token", "max_input_semantic_length"),
    "coarse": ("coarse_semantic_pad_token", "coarse_infer_token", "max_coarse_input_length", "max_coarse_history",
               "sliding_window_len", "n_coarse_codebooks"),
    "fine": ("max_fine_history_length", "max_fine_input_length", "n_fine_codebooks"),
}  # fmt: skip


@dataclass(frozen=True)
class AdapterBundle:
    """The contents of a bundle, without the weights.

    Args:
        name (`str`): the name of its adapters, for [`set_adapters`].
        base_model (`str`): the Bark that they were trained on.
        ranks (`dict[str, int]`): ranks by stage: "semantic", "coarse", "fine".
        package_version (`str`, *optional*): version of this package that wrote the bundle.
        voice_prompt (`VoicePrompt`, *optional*): a voice for the adapters.
    """

    name: str
    base_model: str
    ranks: dict[str, int]
    package_version: str | None = None
    voice_prompt: VoicePrompt | None = None


def save_adapters(
    bark: BarkModel,
    folder: str | os.PathLike,
    *,
    name: str = DEFAULT_NAME,
    base_model: str | None = None,
    voice_prompt: VoicePrompt | None = None,
) -> Path:
    """Write adapters as a bundle.

    Args:
        folder (`str` or `Path`): the folder to make, or to overwrite.
        name (`str`): the name of the adapters.
        base_model (`str`, *optional*): Hub id of the Bark; by default, the place that it was loaded from.
        voice_prompt (`VoicePrompt`, *optional*): a voice for the adapters.

    Raises:
        AdapterError: no adapters of that name.
    """
    check_loaded(bark, [name])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BUNDLE).unlink(missing_ok=True)
    base_model = base_model or public_name(bark.config.name_or_path)
    ranks = {}
    for stage in loaded_adapters(bark)[name]:
        model = bark_stage(bark, stage)
        config = copy.deepcopy(model.peft_config[name])
        config.base_model_name_or_path, config.inference_mode = base_model, True
        config.target_modules = sorted(config.target_modules)
        config.save_pretrained(folder / stage)
        tensors = {_PREFIX + key: value.detach().cpu() for key, value in adapter_parameters(model, name).items()}
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / stage / WEIGHTS)
        ranks[stage] = config.r
    for stage in set(STAGES) - set(ranks):  # left by an earlier bundle
        for file in (CONFIG, WEIGHTS):
            (folder / stage / file).unlink(missing_ok=True)
    (folder / VOICE).unlink(missing_ok=True)
    if voice_prompt is not None:
        voice_prompt.save(folder / VOICE)
    content = {"format": FORMAT, "base_model": base_model, "base": base_description(bark), "ranks": ranks}
    content["package_version"] = VERSION
    write_json(folder / BUNDLE, content)
    return folder


def load_adapters(
    bark: BarkModel, source: str | os.PathLike, *, name: str | None = None, **kwargs: Any
) -> AdapterBundle:
    """Load a bundle's adapters into a Bark, and switch all other adapters off.

    Args:
        bark (`BarkModel`): a Bark with the same shapes and ids as the one that they were trained on; it is changed.
        source (`str` or `Path`): folder or Hub id.
        name (`str`, *optional*): name for [`set_adapters`]; by default, the last part of `source`.
        kwargs: for the Hub: `revision`, `cache_dir`, `token`, `local_files_only`.

    Raises:
        AdapterError: no bundle, a damaged one, one for another Bark, or a name that is in use.
        VoicePromptError: the bundle's voice prompt is damaged, or for another Bark.
        OSError: the Hub cannot be reached, and nothing is cached.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(str(source), kwargs)
    content = _read_json(folder / BUNDLE)
    _check_bundle(bark, content, source)
    name = name or re.sub(r"[^\w-]", "_", Path(source).resolve().name)
    check_free(name, loaded_adapters(bark).get(name))
    configs = {stage: _config_of_file(folder / stage / CONFIG) for stage in content["ranks"]}
    tensors = {stage: _tensors_of_file(folder / stage / WEIGHTS) for stage in configs}
    prompt = None
    if (folder / VOICE).is_file():
        prompt = VoicePrompt.load(folder / VOICE, **bark_generation_configs(bark).vocabularies)
    add_adapters(bark, configs, name=name)
    try:
        for stage in configs:
            _fill(bark_stage(bark, stage), name, tensors[stage], folder / stage / WEIGHTS)
    except AdapterError:
        remove_adapters(bark, name)
        raise
    for stage in configs:
        bark_stage(bark, stage).eval()  # new layers are in training mode
    set_adapters(bark, name)
    return AdapterBundle(name, content["base_model"], content["ranks"], content.get("package_version"), prompt)


def base_description(bark: BarkModel) -> dict[str, Any]:
    """Shapes and ids of a Bark; an adapter fits every Bark with the same values."""
    configs = bark_generation_configs(bark)
    shapes = {stage: {name: getattr(bark_stage(bark, stage).config, name) for name in _SHAPE} for stage in STAGES}
    ids = {stage: {name: getattr(getattr(configs, stage), name) for name in names} for stage, names in _IDS.items()}
    return {"shapes": shapes, "ids": {**ids, "codebook_size": configs.codebook_size}}


def _download(repo_id: str, kwargs: dict) -> Path:
    try:
        return Path(snapshot_download(repo_id, allow_patterns=list(ADAPTER.allowed), **kwargs))
    except (OSError, ValueError) as error:  # errors of the Hub are of either kind
        reason = str(error).strip().splitlines()[0]
        raise OSError(
            f"Cannot load the adapter {repo_id!r}: {reason} Name a folder from save_adapters, or a Hub id: "
            f"with a network, type `hf download {repo_id}` once."
        ) from error


def _read_json(path: Path) -> dict:
    try:
        return read_json(path, cure="Download it again.", error_class=AdapterError)
    except FileNotFoundError:
        raise AdapterError(
            f"{str(path.parent)!r} is not a complete bundle of adapters: it has no {path.name}. Name a folder from "
            "save_adapters."
        ) from None
    except OSError as error:
        raise AdapterError(f"{str(path)!r} cannot be read: {error}. Download it again.") from error


def _check_bundle(bark: BarkModel, content: dict, source: Any) -> None:
    if content.get("format") != FORMAT:
        raise AdapterError(
            f"{str(source)!r} is a bundle of format {content.get('format')!r}, and this version reads {FORMAT}. "
            "Update hf_bark_semantic."
        )
    ranks, base = content.get("ranks"), content.get("base")
    names = content.get("base_model"), content.get("package_version", "")
    if (
        not (isinstance(ranks, dict) and isinstance(base, dict) and all(isinstance(name, str) for name in names))
        or not ranks
        or set(ranks) - set(STAGES)
        or {type(rank) for rank in ranks.values()} != {int}
    ):
        raise AdapterError(f"{str(source)!r}: {BUNDLE} is damaged. Download it again.")
    here = base_description(bark)
    here["shapes"] = {stage: here["shapes"][stage] for stage in ranks}
    differing = [
        f"{name} {there!r} there, {own!r} here"
        for name, (there, own) in differences(base, here).items()
        if own is not None
    ]
    if differing:
        raise AdapterError(
            f"{str(source)!r} was trained on another Bark, {content.get('base_model') or 'one without a name'} "
            f"({'; '.join(differing[:3])}). Load it onto that one."
        )


def _config_of_file(path: Path) -> LoraConfig:
    """A config with the values of [`lora_config`] only, because others could name modules or weights."""
    values = _read_json(path)
    config = lora_config(**{name: values[peft_name] for name, peft_name in _PEFT_NAMES.items() if peft_name in values})
    plain = LoraConfig().to_dict()
    surprising = [
        name
        for name, value in values.items()
        if name not in _PEFT_NAMES.values() and name not in _WITHOUT_EFFECT and value and value != plain.get(name)
    ]
    if values.get("peft_type", "LORA") != "LORA" or surprising:
        raise AdapterError(
            f"{str(path)!r} needs more than LoRA, DoRA and rsLoRA: {', '.join(surprising) or values['peft_type']}. "
            "Load such an adapter with peft, and save the merged model."
        )
    return config


def _tensors_of_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        return {key.removeprefix(_PREFIX): value for key, value in load_file(path).items()}
    except Exception as error:  # safetensors raises its own errors, and OSError
        raise AdapterError(f"{str(path)!r} cannot be read: {error}. Download it again.") from error


def _fill(model: nn.Module, name: str, tensors: dict[str, torch.Tensor], path: Path) -> None:
    parameters = adapter_parameters(model, name)
    shapes, found = ({key: tuple(t.shape) for key, t in part.items()} for part in (parameters, tensors))
    if shapes != found:
        wrong = sorted(key for key in shapes.keys() | found.keys() if shapes.get(key) != found.get(key))
        raise AdapterError(
            f"{str(path)!r} does not match its own description: {wrong[0]} has the shape {found.get(wrong[0])}, not "
            f"{shapes.get(wrong[0])}. Download it again."
        )
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(tensors[key])


__all__ = ["AdapterBundle", "base_description", "load_adapters", "save_adapters"]
