"""LoRA adapters on Bark's three models.

    lora_config        peft's LoraConfig from rank and other settings
    add_adapters       add new adapters for training to any of the three models
    set_adapters       choose and weight the active adapters
    loaded_adapters    the adapters of a Bark
    remove_adapters    remove adapters
    merge_adapters     a plain BarkModel with merged weights

A Bark's layers are wrapped in place, so the adapters also apply to batched synthesis and to the training losses.
`adapter_bundle` saves and loads them.
"""

import copy
import math
import re
import warnings
from collections.abc import Mapping

from torch import nn
from transformers import BarkModel

from .configs import STAGES, bark_stage

try:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer
except ImportError as error:
    raise ImportError(f"Adapters need peft, whose import failed: {error}. Run `pip install peft`.") from error

TARGETS = ("att_proj", "out_proj", "in_proj")  # all linear layers; attention and MLP both have an `out_proj`
DEFAULT_NAME = "default"
MAX_RANK = 1024  # the width of Suno's largest Bark


class AdapterError(ValueError):
    """The adapter cannot be used; the message has the reason and the remedy."""


def lora_config(
    *,
    rank: int = 16,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: list[str] | tuple[str, ...] = TARGETS,
    use_dora: bool = False,
    use_rslora: bool = False,
) -> LoraConfig:
    """Configure the adapter of one model.

    Args:
        rank (`int`): rank of the update of every weight.
        alpha (`float`, *optional*): the update is multiplied by `alpha / rank`; by default, twice the rank.
        dropout (`float`): dropout of the adapter's inputs in training.
        targets (sequence of `str`): the adapted layers, of "att_proj", "out_proj" and "in_proj".
        use_dora (`bool`): train magnitude and direction of weights separately (DoRA); slower.
        use_rslora (`bool`): multiply the update by `alpha / sqrt(rank)` instead (rsLoRA).

    Raises:
        AdapterError: a value is out of range.
    """
    alpha = 2 * rank if alpha is None else alpha
    for name, value, holds, rule in (
        ("rank", rank, isinstance(rank, int) and 1 <= rank <= MAX_RANK, f"a whole number, 1 to {MAX_RANK}"),
        ("alpha", alpha, isinstance(alpha, int | float) and 0 < alpha < math.inf, "above 0"),
        ("dropout", dropout, isinstance(dropout, int | float) and 0 <= dropout < 1, "at least 0 and below 1"),
        (
            "targets",
            targets,
            isinstance(targets, list | tuple) and len(targets) > 0 and all(target in TARGETS for target in targets),
            f"one or more of {', '.join(TARGETS)}",
        ),
        ("use_dora", use_dora, isinstance(use_dora, bool), "true or false"),
        ("use_rslora", use_rslora, isinstance(use_rslora, bool), "true or false"),
    ):
        if not holds:
            raise AdapterError(f"`{name}` is {value!r}; it must be {rule}.")
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=sorted(targets),
        use_dora=use_dora,
        use_rslora=use_rslora,
    )


def add_adapters(bark: BarkModel, configs: Mapping[str, LoraConfig], *, name: str = DEFAULT_NAME) -> None:
    """Add new, trainable adapters to a Bark, and switch others off. They have no effect until they are trained.

    Args:
        bark (`BarkModel`): the Bark; it is changed.
        configs (`Mapping[str, LoraConfig]`): configs by stage, any of "semantic", "coarse" and "fine".
        name (`str`): the name of these adapters.

    Raises:
        AdapterError: no stage, an unknown one, or a name that is invalid or in use.
    """
    unknown = set(configs) - set(STAGES)
    if unknown or not configs:
        raise AdapterError(f"The stages are {sorted(configs)}; they must be one or more of {', '.join(STAGES)}.")
    check_free(name, [stage for stage in loaded_adapters(bark).get(name, ()) if stage in configs])
    if not re.fullmatch(r"[\w-]+", name) or hasattr(nn.ModuleDict, name):
        raise AdapterError(f"{name!r} is not a valid name for an adapter: use letters, digits, _ and -.")
    for stage, config in configs.items():
        model = bark_stage(bark, stage)
        for flag in ("is_loaded_in_4bit", "is_loaded_in_8bit"):  # transformers sets them on the whole Bark only
            if getattr(bark, flag, False):
                setattr(model, flag, True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            inject_adapter_in_model(copy.deepcopy(config), model, name)
        model._hf_peft_config_loaded = True  # so that transformers' methods for adapters work, too
        for layer in _layers(model).values():
            layer.set_adapter(name)


def set_adapters(bark: BarkModel, weights: str | Mapping[str, float]) -> None:
    """Choose the active adapters of a Bark, and their weights.

    Args:
        bark (`BarkModel`): the Bark; it is changed. This takes no time, so adapters can change between two sentences.
        weights (`str` or `Mapping[str, float]`): one name, or the weight of each adapter by name; `{}` for none. The
            updates of several adapters add up. A DoRA adapter can only be used alone, with weight 1.

    Raises:
        AdapterError: no such adapter, a weight that is not a number, or a DoRA adapter that is mixed or weighted.
    """
    weights = {weights: 1.0} if isinstance(weights, str) else dict(weights)
    check_loaded(bark, weights)
    for name, weight in weights.items():
        if not isinstance(weight, int | float) or not math.isfinite(weight):
            raise AdapterError(f"The weight of {name!r} is {weight!r}; it must be a number.")
    models = [bark_stage(bark, stage) for stage in STAGES]
    used = [[name for name in weights if name in getattr(model, "peft_config", ())] for model in models]
    for model, names in zip(models, used, strict=True):
        if any(model.peft_config[name].use_dora for name in names) and (len(names) > 1 or weights[names[0]] != 1):
            raise AdapterError(
                f"{' and '.join(names)}: a DoRA adapter cannot be mixed or weighted. Set one alone, with weight 1."
            )
    for model, names in zip(models, used, strict=True):
        for layer in _layers(model).values():
            layer.enable_adapters(True)  # they may have been switched off with peft
            layer.set_adapter(names, inference_mode=True)
            for name in names:
                layer.set_scale(name, weights[name])


def disable_adapters(bark: BarkModel) -> None:
    """Switch all adapters off, until [`set_adapters`] switches some on."""
    set_adapters(bark, {})


def loaded_adapters(bark: BarkModel) -> dict[str, tuple[str, ...]]:
    """The stages of each adapter of a Bark, by the adapter's name."""
    found = {}
    for stage in STAGES:
        for name in getattr(bark_stage(bark, stage), "peft_config", ()):
            found[name] = (*found.get(name, ()), stage)
    return found


def remove_adapters(bark: BarkModel, name: str) -> None:
    """Remove adapters from a Bark. When the last one is removed, the original modules are restored.

    Raises:
        AdapterError: no such adapter.
    """
    check_loaded(bark, [name])
    for stage in loaded_adapters(bark)[name]:
        model = bark_stage(bark, stage)
        for layer in _layers(model).values():
            active = [other for other in layer.active_adapters if other != name]
            layer.set_adapter(active, inference_mode=True)
            layer.delete_adapter(name)
        del model.peft_config[name]
        if not model.peft_config:
            _unwrap(model)


def merge_adapters(bark: BarkModel) -> BarkModel:
    """A plain Bark with the updates of the active adapters merged into its weights.

    `merge_adapters(bark).save_pretrained(folder)` writes a folder for `BarkModel.from_pretrained`.

    Args:
        bark (`BarkModel`): the Bark; it is not changed, so the result needs the same amount of memory again.

    Raises:
        AdapterError: a quantized Bark, or adapters that contain NaN.
    """
    if getattr(bark, "hf_quantizer", None) is not None:
        raise AdapterError(
            "Adapters cannot be merged into a quantized Bark. Load it without quantization, load the adapters "
            "onto that, and merge there."
        )
    merged = copy.deepcopy(bark)
    for stage in STAGES:
        model = bark_stage(merged, stage)
        for path, layer in _layers(model).items():
            try:
                layer.merge(safe_merge=True)
            except ValueError as error:
                raise AdapterError(f"{stage}.{path}: {error}. Train or download the adapter again.") from error
        _unwrap(model)
    return merged


def adapter_parameters(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters of a model's adapter, by their names in peft's files."""
    found = {}
    for path, layer in _layers(model).items():
        if name in layer.lora_A:
            found[f"{path}.lora_A.weight"] = layer.lora_A[name].weight
            found[f"{path}.lora_B.weight"] = layer.lora_B[name].weight
        if name in layer.lora_magnitude_vector:
            found[f"{path}.lora_magnitude_vector"] = layer.lora_magnitude_vector[name].weight
    return found


def _layers(model: nn.Module) -> dict[str, LoraLayer]:
    return {path: module for path, module in model.named_modules() if isinstance(module, LoraLayer)}


def _unwrap(model: nn.Module) -> None:
    for path, layer in _layers(model).items():
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    model.__dict__.pop("peft_config", None)
    model._hf_peft_config_loaded = False
    for parameter in model.parameters():
        if parameter.is_floating_point():  # quantized ones aren't
            parameter.requires_grad_(True)


def check_loaded(bark: BarkModel, names) -> None:
    loaded = loaded_adapters(bark)
    for name in names:
        if name not in loaded:
            raise AdapterError(f"There is no adapter {name!r}; loaded are {', '.join(loaded) or 'none'}.")


def check_free(name: str, stages) -> None:
    if stages:
        raise AdapterError(
            f"There is an adapter {name!r} already ({', '.join(stages)}). Choose another name, or remove it first."
        )


__all__ = [
    "AdapterError",
    "adapter_parameters",
    "add_adapters",
    "disable_adapters",
    "loaded_adapters",
    "lora_config",
    "merge_adapters",
    "remove_adapters",
    "set_adapters",
]
