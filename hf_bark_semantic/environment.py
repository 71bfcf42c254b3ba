"""The Python and the system that the package runs on, and checks of them for `bark-semantic doctor`.

    explain_torchaudio_errors    make a broken torchaudio raise an ImportError with the remedy
    torchaudio_problem           check torchaudio
    inspect_environment          versions, devices, cached models, and problems
    release_freed_memory         return freed memory to the system

transformers imports torchaudio by itself, so a torchaudio of another build than torch breaks the import of its models
with an OSError about a symbol. Nothing here imports torch, torchaudio or transformers before it is called.
"""

import ctypes
import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from .import_hooks import run_around_imports

VERSION = "0.2.0"

PACKAGES = ("torch", "torchaudio", "transformers", "huggingface_hub", "safetensors", "numpy", "soundfile", "av")
OPTIONAL_PACKAGES = ("accelerate", "datasets", "peft", "evaluate", "encodec")
REQUIREMENTS = (  # also read by setup.py; the oldest and the excluded releases were tested
    "av>=12.3",
    "huggingface-hub>=1.0",
    "jinja2>=3.1",
    "lazy-loader>=0.4",
    "numpy>=1.26",
    "packaging>=23.0",
    "safetensors>=0.8",
    "shtab>=1.7",
    "soundfile>=0.12",
    "torch>=2.7",
    "torchaudio>=2.7",
    "tqdm>=4.66",
    "transformers>=5.23,!=5.24.0",  # its add_adapter needs peft 0.22, which is not released
)
PYTORCH_INDEX = "https://download.pytorch.org/whl/"

_BREAKS = (ImportError, OSError, RuntimeError, AttributeError)  # errors of torchaudio's extensions when they load


def explain_torchaudio_errors() -> None:
    """Make imports of a torchaudio that does not match torch fail with an `ImportError` that has the remedy.

    This applies to all imports, such as those of transformers.
    """
    run_around_imports(("torchaudio",), _explained)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except _BREAKS as error:
        if isinstance(error, ImportError) and error.name == "torchaudio":
            raise  # explained already, or torchaudio is not installed
        raise ImportError(_mismatch(error), name="torchaudio") from error


def torchaudio_problem() -> str | None:
    """Why torchaudio cannot be imported, with the remedy; `None` if it can be imported or isn't installed."""
    if importlib.util.find_spec("torchaudio") is None:
        return None
    try:
        with _explained():
            importlib.import_module("torchaudio")
    except ImportError as error:
        return str(error)
    return None


def release_freed_memory() -> None:
    """Return freed memory to the system, which glibc would keep in fragments.

    glibc 2.36 kept up to 90 MB for the windows of a recording, and could hardly reuse it for the next window.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(0)


def installed_version(package: str) -> str | None:
    """The installed version of a package with its build tag (`"2.9.0+cpu"`), or `None`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Environment:
    """The results of [`inspect_environment`].

    Args:
        versions (`dict[str, str | None]`): versions of Python and of packages; `None` for a missing package.
        devices (`dict[str, list[str]]`): the dtypes that each device supports.
        precision (`dict[str, str]`): the choice of `mixed_precision: auto` for each device, with the reason.
        offline (`bool`): whether huggingface_hub is set to offline mode.
        hub_reachable (`bool`, *optional*): `None` if it was not checked.
        cached_models (`list[str]`): Hub ids in the local cache.
        builtin_encoder (`str`, *optional*): folder of the packaged encoder.
        problems (`tuple[str, ...]`): problems, with remedies.
        notes (`tuple[str, ...]`): missing parts that are not always needed.
    """

    versions: dict[str, str | None]
    devices: dict[str, list[str]]
    precision: dict[str, str]
    offline: bool
    hub_reachable: bool | None
    cached_models: list[str]
    builtin_encoder: str | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def inspect_environment(builtin_encoder: str | os.PathLike | None = None, *, online: bool = False) -> Environment:
    """Inspect the environment without changing it.

    Args:
        builtin_encoder (`str` or `Path`, *optional*): folder where the packaged encoder should be.
        online (`bool`): also check whether the Hub answers; otherwise nothing is sent anywhere.
    """
    from huggingface_hub import constants

    versions: dict[str, str | None] = {"python": platform.python_version()}
    versions.update({package: installed_version(package) for package in PACKAGES + OPTIONAL_PACKAGES})
    problems = [
        f"{package} is not installed. Type: pip install {package}"
        for package in PACKAGES
        if versions[package] is None and importlib.util.find_spec(package) is None
    ]
    problems += [problem for problem in (torchaudio_problem(), _soundfile_problem()) if problem is not None]
    problems += _unfit_versions()
    notes = []
    if builtin_encoder is not None and not os.path.isfile(os.path.join(builtin_encoder, "config.json")):
        notes.append(f"The built-in encoder is missing: there is none in {builtin_encoder}. Name one with --encoder.")
        builtin_encoder = None
    offline = bool(constants.HF_HUB_OFFLINE)
    reachable = _hub_answers(constants.ENDPOINT) if online and not offline else None
    if reachable is False:
        notes.append(f"{constants.ENDPOINT} does not answer; only cached models and folders can be loaded.")
    return Environment(
        versions=versions,
        devices=_devices() if importlib.util.find_spec("torch") else {},
        precision=_precision() if importlib.util.find_spec("torch") else {},
        offline=offline,
        hub_reachable=reachable,
        cached_models=_cached_models(constants.HF_HUB_CACHE),
        builtin_encoder=None if builtin_encoder is None else str(builtin_encoder),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _mismatch(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    torch_version, torchaudio_version = installed_version("torch"), installed_version("torchaudio")
    cure = f"pip install --force-reinstall torch torchaudio{_index_option(torch_version)}"
    cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"torchaudio cannot be imported: {cause}. Most likely torch {torch_version} and torchaudio "
        f"{torchaudio_version} come from different builds (such as torch's CPU wheel with PyPI's torchaudio). Install "
        f"both at once from one index:\n    {cure}"
    )


def _index_option(torch_version: str | None) -> str:
    """The option for the index of torch's wheel, by its build tag; empty for PyPI's wheels."""
    tag = (torch_version or "").partition("+")[2]
    is_of_pytorch = tag == "cpu" or tag.startswith(("cu", "rocm", "xpu"))
    return f" --index-url {PYTORCH_INDEX}{tag}" if is_of_pytorch else ""


def _unfit_versions() -> list[str]:
    """Problems for installed packages whose release the requirements exclude."""
    from packaging.requirements import Requirement

    problems = []
    for text in REQUIREMENTS:
        requirement = Requirement(text)
        found = installed_version(requirement.name)
        if found is not None and not requirement.specifier.contains(found, prereleases=True):
            problems.append(f'{requirement.name} {found} does not work with this package. Type: pip install "{text}"')
    return problems


def _soundfile_problem() -> str | None:
    if importlib.util.find_spec("soundfile") is None:
        return None
    try:
        importlib.import_module("soundfile")
    except _BREAKS as error:
        return f"soundfile cannot be imported: {error}. Type: pip install --force-reinstall soundfile"
    return None


def _devices() -> dict[str, list[str]]:
    import torch

    devices = {"cpu": ["float32", "bfloat16", "float16"]}
    for index in range(torch.cuda.device_count()):
        bfloat16 = ["bfloat16"] if torch.cuda.get_device_capability(index)[0] >= 8 else []  # Ampere and later
        devices[f"cuda:{index} ({torch.cuda.get_device_name(index)})"] = ["float32", *bfloat16, "float16"]
    if torch.backends.mps.is_available():
        bfloat16 = ["bfloat16"] if torch.backends.mps.is_macos_or_newer(14, 0) else []
        devices["mps"] = ["float32", *bfloat16, "float16"]
    return devices


def _precision() -> dict[str, str]:
    import torch

    from .precision import choose_precision

    devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    chosen = {device: choose_precision(device) for device in devices}
    return {device: f"{'float32' if name == 'no' else name}: {why}" for device, (name, why) in chosen.items()}


def _cached_models(cache: str) -> list[str]:
    """Hub ids of the folders `models--owner--name` with a snapshot."""
    if not os.path.isdir(cache):
        return []
    names = [name for name in sorted(os.listdir(cache)) if name.startswith("models--")]
    names = [name for name in names if os.path.isdir(os.path.join(cache, name, "snapshots"))]
    return [name.removeprefix("models--").replace("--", "/") for name in names]


def _hub_answers(endpoint: str) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(endpoint, timeout=10):
            return True
    except urllib.error.HTTPError:
        return True  # any answer counts
    except OSError:
        return False


__all__ = [
    "VERSION",
    "Environment",
    "explain_torchaudio_errors",
    "inspect_environment",
    "installed_version",
    "release_freed_memory",
    "torchaudio_problem",
]
