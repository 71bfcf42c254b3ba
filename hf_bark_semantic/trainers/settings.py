"""Settings of a stage: values of a config file, checked before anything is computed, and stored.

config = read_config("recipe.yaml")                             read YAML to a dict
set_value(config, "training.learning_rate=5e-5")                for --set of the command line
arguments_of(TrainingArguments, config["training"], "training") make a dataclass; typos and wrong types raise an error
remember_settings(folder, settings, may_change=[...])           write settings.json, or refuse different settings
"""

import difflib
import inspect
import json
import math
import os
import types
import typing
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import yaml

from ..files import differences, read_json, read_text, write_json
from ..packaged import recipe

SETTINGS_FILE = "settings.json"
PACKAGES = ("hf_bark_semantic", "torch", "transformers")
RULES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}


def read_config(place: str | os.PathLike) -> dict:
    """The sections of a config.

    Args:
        place (`str` or `os.PathLike`): a YAML file, or the name of a packaged recipe, such as `"builtin"`.

    Raises:
        FileNotFoundError: there is neither such a file nor such a recipe.
        ValueError: the file is not YAML, or holds no sections.
    """
    try:
        file = Path(place) if Path(place).is_file() else recipe(os.fspath(place))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file {os.fspath(place)!r}. {error}") from error
    config = _yaml(read_text(Path(file)), f"{place} is not YAML")
    if not isinstance(config, dict):
        raise ValueError(f"{place} holds a {type(config).__name__}; it must hold sections, such as `training:`.")
    return config


def set_value(config: dict, assignment: str) -> None:
    """Set the value of a dotted key, such as `"training.steps=10"`; the section must exist.

    Raises:
        ValueError: there is no such section or no value, or the value is not YAML.
    """
    key, equals, value = assignment.partition("=")
    *path, name = key.split(".")
    section = config
    for part in path:
        section = section.get(part) if isinstance(section, dict) else None
    if not equals or not isinstance(section, dict):
        sections = [key for key, value in config.items() if isinstance(value, dict)]
        near = _did_you_mean(path[0], sections) if path else ""
        raise ValueError(
            f"--set {assignment!r}: it must be KEY=VALUE with a section of the config, such as training.steps=10; "
            f"{near}its sections are {', '.join(sections) or 'none'}."
        )
    section[name] = _yaml(value, f"--set {assignment!r}: the value is not YAML")


def _yaml(text: str, complaint: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:  # from YAML tags
        raise ValueError(f"{complaint}: {' '.join(str(error).split())}") from error


def arguments_of(cls: Callable, values: Mapping[str, Any], section: str):
    """Call a dataclass (or another class) with the values of a section, converted to the types of its parameters.

    Args:
        cls: called with keyword arguments. A dataclass among its type hints is made from a nested section.
        values (`Mapping`): values from YAML. Text is converted where a number is needed, because YAML reads `1e-4` as
            text.
        section (`str`): the name of the section, for error messages; empty for a whole config.

    Raises:
        ValueError: an unknown key (the message names the nearest known one), a missing key, or a value of the wrong
            type.
    """
    return cls(**checked_values(parameters_of(cls), values, section, required=_required(cls)))


def checked_values(
    hints: Mapping[str, Any], values: Mapping[str, Any], section: str, *, required: Collection[str] = ()
) -> dict[str, Any]:
    """The values of a section, each converted to the type hint of its key; see [`arguments_of`] for the errors."""
    place, prefix = (f"`{section}`", f"{section}.") if section else ("The config", "")
    if not isinstance(values, Mapping):
        raise ValueError(f"{place} is {values!r}; it must be a section of keys and values.")
    for name in values:
        if name not in hints:
            raise ValueError(f"{place} has no `{name}`; {_did_you_mean(str(name), hints)}it has {', '.join(hints)}.")
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f"{place} lacks {' and '.join(f'`{name}`' for name in missing)}.")
    return {name: converted(value, hints[name], f"{prefix}{name}") for name, value in values.items()}


def _did_you_mean(typed: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(typed, known, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`? " if near and near[0] != typed else ""


def parameters_of(cls: Callable) -> dict[str, Any]:
    """The named parameters of a class or function and their type hints; without a hint, the type of the default."""
    hints = typing.get_type_hints(cls.__init__ if inspect.isclass(cls) else cls)
    return {name: hints.get(name, _type_of(parameter.default)) for name, parameter in _named_parameters(cls).items()}


def converted(value: Any, hint: Any, name: str) -> Any:
    """Convert a value to the type of a hint.

    Raises:
        ValueError: it cannot be converted; the message has `name`, the value and the rule.
    """
    wrong = f"`{name}` is {value!r}; it must be {rule_of(hint)}."
    origin, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _converted_to_one_of(value, parts, name, wrong)
    if origin is Literal:
        if value is False and "no" in parts:
            return "no"  # what the user wrote: YAML reads `no` as false
        if value not in parts or isinstance(value, bool):
            raise ValueError(f"{wrong} Quote a word that YAML reads as true or false." if value is False else wrong)
        return value
    if is_dataclass(hint):
        return value if isinstance(value, hint) else arguments_of(hint, value, name)
    if hint in (int, float):
        number = _number(value)
        if number is None or (hint is int and not float(number).is_integer()):
            raise ValueError(wrong)
        return hint(number)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if _is(origin, Mapping) and isinstance(value, Mapping):
        key_hint, value_hint = parts or (Any, Any)
        return {
            converted(key, key_hint, f"a key of {name}"): converted(part, value_hint, f"{name}.{key}")
            for key, part in value.items()
        }
    if _is(origin, Iterable) and not _is(origin, (str, Mapping)) and isinstance(value, (list, tuple, set, frozenset)):
        return _converted_list(value, origin, parts, name, wrong)
    if isinstance(origin, type) and not isinstance(value, origin):
        raise ValueError(f"{wrong} Put it in quotes." if hint is str and isinstance(value, (bool, int)) else wrong)
    return value


def rule_of(hint: Any) -> str:
    """A description of the values that a type hint allows."""
    origin, parts = typing.get_origin(hint) or hint, [part for part in typing.get_args(hint) if part is not ...]
    if origin in RULES:
        return RULES[origin]
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(rule_of, parts))
    if is_dataclass(origin) or _is(origin, Mapping):
        return "a section of keys and values"
    if _is(origin, Iterable):
        return f"a list, each part {rule_of(parts[0])}" if parts else "a list"
    return f"a {getattr(origin, '__name__', origin)}"


def remember_settings(
    folder: str | os.PathLike,
    settings: Mapping[str, Any],
    *,
    may_change: Collection[str] = (),
    may_grow: Collection[str] = (),
    keep: Collection[str] = (),
    results: Collection[str] | None = None,
    write: bool = True,
) -> dict[str, Any]:
    """Write the settings of a stage to `settings.json`, or refuse to continue a run with different settings.

    The versions of this package, torch and transformers are written, too; a different version causes a warning only.

    Args:
        folder (`str` or `os.PathLike`): the output folder.
        settings (`Mapping`): values and sections of values, in types of JSON.
        may_change (`Collection[str]`): dotted names of values or sections that may differ.
        may_grow (`Collection[str]`): dotted names of numbers that may be larger than before.
        keep (`Collection[str]`): top-level names that keep their earlier value, such as a measured one.
        results (`Collection[str]`, *optional*): patterns of the stage's result files. Without such files, nothing has
            been computed yet, and any settings are accepted; such files without `settings.json` are refused.
        write (`bool`): whether this process writes the file; every process should compare.

    Returns:
        `dict`: the content of `settings.json`.

    Raises:
        ValueError: the folder holds a run with different settings; the message names the differences.
    """
    file = Path(folder) / SETTINGS_FILE
    here = json.loads(json.dumps({**settings, "versions": {name: _version(name) for name in PACKAGES}}, default=str))
    found = [match.name for pattern in results or () for match in Path(folder).glob(pattern)]
    if file.exists() and (found or results is None):
        there = read_json(file, cure="Restore it from a copy, or name another output folder.")
        here.update({name: there[name] for name in keep if name in there})
        _compare(file.parent, there, here, may_change, may_grow)
    elif found:
        raise ValueError(
            f"{folder} holds {', '.join(found)}, but no {SETTINGS_FILE} with the settings that made it. Name another "
            "output folder, or remove this one."
        )
    if write:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, here)
    return here


def _compare(folder: Path, there: dict, here: dict, may_change: Collection[str], may_grow: Collection[str]) -> None:
    differing = []
    for name, (before, now) in differences(there, here).items():
        if any(name == free or name.startswith(f"{free}.") for free in may_change):
            continue
        if name.startswith("versions."):
            package = name.removeprefix("versions.")
            warnings.warn(
                f"{folder} was started with {package} {before}, and this is {now}. The results may differ "
                "slightly from those of an uninterrupted run.",
                stacklevel=3,
            )
        elif name not in may_grow or _number(before) is None or _number(now) is None or now < before:
            differing.append(f"{name}: {before!r} there, {now!r} here")
    if differing:
        raise ValueError(
            f"{folder} was started with other settings ({'; '.join(differing)}). Use those, name "
            "another output folder, or remove this one."
        )


def _converted_to_one_of(value, parts: tuple, name: str, wrong: str):
    if value is None and type(None) in parts:
        return None
    parts = [part for part in parts if part is not type(None)]
    sections = [part for part in parts if is_dataclass(part) and isinstance(value, Mapping)]
    exact = [part for part in parts if type(value) is (typing.get_origin(part) or part)]
    likely = sections or exact or parts
    if len(likely) == 1:
        try:
            return converted(value, likely[0], name)
        except ValueError as error:
            raise ValueError(wrong) if not (sections or exact) else error from None
    for part in likely:
        try:
            return converted(value, part, name)
        except ValueError:
            continue
    raise ValueError(wrong)


def _converted_list(value, origin: type, parts: tuple, name: str, wrong: str):
    if origin is tuple and parts and parts[-1] is not ...:
        if len(value) != len(parts):
            raise ValueError(f"{wrong[:-1]}, and {len(parts)} of them.")
        hints = parts
    else:
        hints = [parts[0] if parts else Any] * len(value)
    made = [converted(part, hint, f"{name}[{i}]") for i, (part, hint) in enumerate(zip(value, hints, strict=True))]
    return made if inspect.isabstract(origin) else origin(made)


def _number(value) -> int | float | None:
    """A number from a number or text; `None` for truth values, NaN, and integers too large for a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        as_float = float(value)
    except (ValueError, OverflowError):
        return None
    if math.isnan(as_float):
        return None
    return as_float if isinstance(value, str) else value


def _is(origin, kinds) -> bool:
    return isinstance(origin, type) and issubclass(origin, kinds)


def _named_parameters(cls: Callable) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: part for name, part in inspect.signature(cls).parameters.items() if part.kind in named}


def _required(cls: Callable) -> list[str]:
    return [name for name, part in _named_parameters(cls).items() if part.default is inspect.Parameter.empty]


def _type_of(default) -> Any:
    return type(default) if isinstance(default, (bool, int, float, str)) else Any


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
