"""Publish encoders, corpora and adapters on the Hub: cards from measured figures, and only files of a known kind.

    render_card          a template of model_cards/, values and measured results -> a card
    encoder_results      evaluation of an encoder -> results for the metadata of its card
    adapter_results      report of a fine-tuning -> the same
    add_code             puts an encoder's code beside its weights, for users without this package
    strip_paths          removes the paths of the training machine from the JSON files of a folder
    check_publication    the kind of a folder, the files that are published, and all reasons against it
    publish              the same, then one upload: weights, processor and card, or data and card

The files show the kind of a folder: `config.json` of an encoder, `bundle.json` of adapters, `corpus.json` of a corpus.
Only files on the list of its kind are published, and none that must be executed to be read.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from huggingface_hub import DatasetCard, EvalResult, HfApi, ModelCard, ModelCardData, RepoCard
from huggingface_hub.utils import HFValidationError, filter_repo_objects, validate_repo_id
from jinja2.meta import find_undeclared_variables
from safetensors import SafetensorError, safe_open

from .files import atomic_write

CARD = "README.md"
REPORT = "report.json"  # of training/finetune_bark.py; beside the folder of the adapters
HIDDEN = [".*", "*/.*"]  # stay where they are, without a message
SHOWN_FILES = 5
PARTS = ("backbones", "configuration", "heads", "modeling", "pipeline", "processing")
CODE = tuple(f"{part}_bark_semantic.py" for part in PARTS)
TASK = "audio-to-bark-semantic"
NAMES_OF_CODE: dict[str, dict[str, Any]] = {  # what transformers looks up with trust_remote_code=True
    "config.json": {
        "auto_map": {
            "AutoConfig": "configuration_bark_semantic.BarkSemanticEncoderConfig",
            "AutoModel": "modeling_bark_semantic.BarkSemanticEncoderModel",
        },
        "custom_pipelines": {
            TASK: {
                "impl": "pipeline_bark_semantic.BarkSemanticEncoderPipeline", "pt": ["AutoModel"], "type": "audio"
            },
        },
    },
    "processor_config.json": {
        "auto_map": {"AutoProcessor": "processing_bark_semantic.BarkSemanticEncoderProcessor"}
    },
}  # fmt: skip
STAGES = ("semantic", "coarse", "fine")
PATHS = ("_name_or_path", "runs")  # keys in JSON files that name folders of the machine that trained
PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
PICKLE_STARTS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


class PublishingError(ValueError):
    """The folder cannot be published; the message has every reason, and what to do about each."""


@dataclass(frozen=True)
class Kind:
    """A kind of publication: its name, and the files that it must and may have (patterns)."""

    name: str
    repo_type: str
    required: tuple[str, ...]
    allowed: tuple[str, ...]

    @property
    def card_class(self) -> type[RepoCard]:
        return DatasetCard if self.repo_type == "dataset" else ModelCard


ENCODER = Kind(
    "encoder",
    "model",
    ("config.json", "model*.safetensors", "processor_config.json"),
    (
        "config.json", "model.safetensors", "model-?????-of-?????.safetensors", "model.safetensors.index.json",
        "processor_config.json", "preprocessor_config.json", "evaluation.json", "training.json", CARD, *CODE,
    ),
)  # fmt: skip
ADAPTER = Kind(
    "adapter",
    "model",
    ("bundle.json", "*/adapter_config.json", "*/adapter_model.safetensors"),
    (
        "bundle.json", "voice.npz", CARD,
        *(f"{stage}/adapter_{file}" for stage in STAGES for file in ("config.json", "model.safetensors")),
    ),
)  # fmt: skip
CORPUS = Kind(
    "corpus",
    "dataset",
    ("corpus.json", "data/*.parquet", "shards/*.json"),
    ("corpus.json", "data/*.parquet", "shards/*.json", CARD),
)
KINDS = (ADAPTER, CORPUS, ENCODER)


@dataclass(frozen=True)
class Publication:
    """The files that are, or would be, uploaded to the Hub.

    Args:
        kind (`str`): "encoder", "adapter" or "corpus".
        repo_type (`str`): "model" or "dataset".
        files (`dict[str, int]`): paths in the folder, and their sizes in bytes.
        left (`tuple[str, ...]`): paths that stay.
        url (`str`, *optional*): of the upload; `None` of one that was only checked.
    """

    kind: str
    repo_type: str
    files: dict[str, int]
    left: tuple[str, ...] = ()
    url: str | None = None

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())

    def __str__(self):
        lines = [f"{size:>15,}  {path}" for path, size in self.files.items()]
        lines += [f"{'stays here':>15}  {path}" for path in self.left]
        return "\n".join([*lines, f"{self.num_bytes:>15,}  bytes in {len(self.files)} files of the {self.kind}"])


def publish(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    leave_others: bool = False,
) -> Publication:
    """Check a folder and upload it in one commit, without the paths of this machine in it: see [`strip_paths`].

    ```python
    import hf_bark_semantic

    publication = hf_bark_semantic.publish("encoder", "me/my-encoder", dry_run=True)
    print(publication.files)  # what would be uploaded, with sizes in bytes
    ```

    Args:
        folder (`str` or `Path`): what `package_encoder.py`, `finetune_bark.py` or `generate_corpus.py` made.
        repo_id (`str`): such as `"me/my-voice"`; it is created if it does not exist.
        private (`bool`): only you can see it; applies only when the repository is created.
        dry_run (`bool`): check, and upload nothing.
        leave_others (`bool`): skip files that are not published, instead of refusing them.

    Returns:
        [`Publication`]: the uploaded files, and the address.

    Raises:
        PublishingError: see [`check_publication`]; or `repo_id` is not a name. Nothing was uploaded.
        OSError: the Hub refused it, or cannot be reached.
    """
    folder = Path(folder)
    checked = check_publication(folder, leave_others=leave_others)
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishingError(
            f"{repo_id!r} is not the name of a repository, such as 'me/my-voice': {error}"
        ) from error
    if dry_run:
        return checked
    if strip_paths(folder):
        checked = check_publication(folder, leave_others=leave_others)
    kind = _kind_of(folder)
    api = HfApi()
    api.create_repo(repo_id, repo_type=kind.repo_type, private=private, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id,
        repo_type=kind.repo_type,
        folder_path=folder,
        allow_patterns=list(kind.allowed),
        ignore_patterns=[*HIDDEN, *map(_literal, checked.left)],
        commit_message=f"Publish {kind.name}",
    )
    return Publication(checked.kind, checked.repo_type, checked.files, checked.left, str(commit))


def check_publication(folder: str | os.PathLike, *, leave_others: bool = False) -> Publication:
    """Say what of a folder would be published.

    Args:
        folder (`str` or `Path`), leave_others (`bool`): as in [`publish`].

    Raises:
        PublishingError: it is none of the three kinds, or not whole; its card is missing, cannot be read, has fields
            that nobody filled in, or says nothing of consent, a licence or an encoder's task; a pickle or a link; a
            file that is not what its name says; files that are not on the list.
    """
    folder = Path(folder)
    kind = _kind_of(folder)
    files = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    paths = sorted(path.relative_to(folder).as_posix() for path in files)
    paths = list(filter_repo_objects(paths, ignore_patterns=HIDDEN))
    allowed = list(filter_repo_objects(paths, allow_patterns=list(kind.allowed)))
    others = sorted(set(paths) - set(allowed))
    flaws = []
    for pattern in kind.required:
        if not list(filter_repo_objects(allowed, allow_patterns=[pattern])):
            flaws.append(f"There is no {pattern}: {_WHOLE[kind.name]}")
    flaws += _flaws_of_card(folder / CARD, kind)
    for path in paths:
        flaw = _flaw_of_file(folder, path, published=path in allowed)
        if flaw:
            flaws.append(f"{path} {flaw}")
    if others and not leave_others:
        shown = ", ".join(others[:SHOWN_FILES]) + (", ..." if len(others) > SHOWN_FILES else "")
        flaws.append(f"{len(others)} files are no part of a published {kind.name} ({shown}). Move them away, or leave "
                     "them here: --leave-others, `leave_others=True`.")  # fmt: skip
    if flaws:
        raise PublishingError("\n- ".join([f"{str(folder)!r} is not ready to be published:", *flaws]))
    return Publication(
        kind.name, kind.repo_type, {path: (folder / path).stat().st_size for path in allowed}, tuple(others)
    )


def add_code(folder: str | os.PathLike) -> None:
    """Put an encoder's code beside its weights, so that it loads where this package is not installed.

    `AutoModel`, `AutoProcessor` and `pipeline` then take `trust_remote_code=True`. Where the package is installed, its
    own code is used, with that argument or without.

    Args:
        folder (`str` or `Path`): where model and processor were saved.

    Raises:
        PublishingError: it is not a folder of an encoder, or not whole.
    """
    folder = Path(folder)
    kind = _kind_of(folder)
    if kind is not ENCODER:
        raise PublishingError(
            f"{str(folder)!r} holds {kind.name} files, which need no code. Name an encoder's folder."
        )
    values = {}
    for name, names_of_code in NAMES_OF_CODE.items():
        try:
            values[name] = {**json.loads((folder / name).read_text(encoding="utf-8")), **names_of_code}
        except (OSError, ValueError) as error:
            raise PublishingError(f"{folder / name} cannot be read ({error}): {_WHOLE[ENCODER.name]}") from error
    for name in CODE:
        shutil.copyfile(Path(__file__).parent / name, folder / name)
    for name, value in values.items():
        _write_config(folder / name, value)


def strip_paths(folder: str | os.PathLike) -> list[str]:
    """Remove the paths of the training machine from the folder's JSON files, in place.

    These are `_name_or_path`, which transformers keeps for each part of a model, and the `runs` of an evaluation.

    Args:
        folder (`str` or `Path`): of a model; files below it are left alone.

    Returns:
        `list[str]`: names of the files that had any.
    """
    stripped = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # `check_publication` says so
            continue
        kept = _without(values, PATHS)
        if kept != values:
            _write_config(path, kept)
            stripped.append(path.name)
    return stripped


def _write_config(path: Path, values: Any) -> None:
    """JSON as transformers writes it."""
    with atomic_write(path, error_class=PublishingError) as opened:
        opened.write((json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())


def _without(values: Any, keys: Sequence[str]) -> Any:
    """`values` without these keys, at any depth."""
    if isinstance(values, list):
        return [_without(value, keys) for value in values]
    if not isinstance(values, dict):
        return values
    return {key: _without(value, keys) for key, value in values.items() if key not in keys}


_WHOLE = {
    "encoder": "save model and processor there (`save_pretrained`), or package it with training/package_encoder.py.",
    "adapter": "save the adapters again (`save_adapters`).",
    "corpus": "let training/generate_corpus.py finish it.",
}


def _kind_of(folder: Path) -> Kind:
    if (folder / "bundle.json").is_file():
        return ADAPTER
    if (folder / "corpus.json").is_file():
        return CORPUS
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_type = config.get("model_type")
    except (OSError, ValueError, AttributeError):
        model_type = None
    if model_type == "bark_semantic_encoder":
        return ENCODER
    raise PublishingError(
        f"{str(folder)!r} is not a folder of an encoder (config.json with model_type bark_semantic_encoder), of "
        "adapters (bundle.json) or of a corpus (corpus.json). Name one that the training scripts wrote."
    )


def _flaws_of_card(path: Path, kind: Kind) -> list[str]:
    if not path.is_file() or path.is_symlink():
        return [f"There is no card. Write {path.name}, or let the script that made the folder write it."]
    try:
        card = kind.card_class.load(path)
    except Exception as error:  # yaml's own, KeyError of results, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        return [f"The metadata of {path.name} cannot be read ({reason}). Correct what stands between the two `---`."]
    flaws, prose = [], re.sub(r"```.*?```|`[^`\n]*`", "", card.text, flags=re.S)
    unfilled = re.findall(r"\{\{ *\w+ *\}\}", prose)
    if unfilled:
        flaws.append(f"{path.name} has unfilled fields: {', '.join(unfilled)}.")
    if not card.data.get("license"):
        flaws.append(f"{path.name} names no licence. Add a line such as `license: mit` between the two `---`, or give "
                     "it to the script: --license mit.")  # fmt: skip
    for key, value in {"library_name": "transformers", "pipeline_tag": TASK}.items() if kind is ENCODER else ():
        if card.data.get(key) != value:
            flaws.append(f"{path.name} does not say `{key}: {value}`, by which `pipeline(model=...)` finds the task. "
                         "Add that line between the two `---`.")  # fmt: skip
    if "consent" not in prose.lower():
        flaws.append(f"{path.name} does not say whose consent is needed. Add a section on intended use and consent.")
    return flaws


def _flaw_of_file(folder: Path, path: str, *, published: bool) -> str | None:
    """Why a file forbids its folder to be published; those that stay must not be pickles either."""
    file = folder / path
    if file.is_symlink() or not file.resolve().is_relative_to(folder.resolve()):
        return "is a link, and what it points to would be published. Put the file itself there." if published else None
    if _is_pickle(file):
        return "is a pickle, which runs code where it is read. Save it as safetensors, and delete this one."
    if not published:
        return None
    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".safetensors":
            with safe_open(file, "np"):
                pass
        elif file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                for name in arrays.files:
                    arrays[name]
        elif file.suffix == ".parquet":
            with open(file, "rb") as opened:
                start = opened.read(4)
                opened.seek(-4, os.SEEK_END)
                if (start, opened.read()) != (b"PAR1", b"PAR1"):
                    raise ValueError("no Parquet")
        elif file.suffix == ".py" and file.read_bytes() != (Path(__file__).parent / file.name).read_bytes():
            return "is not this package's file of that name. Save the model again, with this version."
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
        return f"is damaged, or not what its name says ({error}). Make it again."
    return None


def _is_pickle(file: Path) -> bool:
    if file.suffix.lower() in PICKLES:
        return True
    with open(file, "rb") as opened:
        start = opened.read(2)
    if start in PICKLE_STARTS and file.suffix != ".safetensors":  # which begin with a length: any byte
        return True
    if start == b"PK" and zipfile.is_zipfile(file):  # torch.save's archives
        with zipfile.ZipFile(file) as archive:
            return any(name.rpartition("/")[2].endswith(".pkl") for name in archive.namelist())
    return False


def _literal(path: str) -> str:
    """A pattern that only this path fits."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def public_name(place: str) -> str:
    """A Hub id, or the last part of a folder."""
    return Path(place).resolve().name if os.path.isdir(place) else place


def render_card(
    template: Path,
    values: Mapping[str, str],
    *,
    metadata: Mapping[str, Any] | None = None,
    name: str | None = None,
    results: Sequence[EvalResult] = (),
) -> str:
    """Fill in a template of `model_cards/`, and add the measured results to its metadata.

    Args:
        template (`Path`): Markdown with metadata between two `---` and Jinja's `{{ fields }}`.
        values (`Mapping[str, str]`): of every field.
        metadata (`Mapping[str, Any]`, *optional*): more of it, such as `{"license": "mit"}`; without what is `None`.
        name (`str`, *optional*): of the model; needed with `results`.
        results (`Sequence[EvalResult]`): measured, such as [`encoder_results`] gives.

    Raises:
        ValueError: a field without a value, or metadata that cannot be read.
    """
    fields = find_undeclared_variables(jinja2.Environment().parse(template.read_text(encoding="utf-8")))
    if missing := sorted(fields - values.keys()):
        raise ValueError(f"{template.name} has fields without a value: {', '.join(missing)}.")
    card: Any = ModelCard.from_template(ModelCardData(), template_path=str(template), **values)
    for key, value in (metadata or {}).items():
        if value is not None:
            card.data[key] = value
    _add_results(card, results, name)
    return f"{card}\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table for a card."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def add_results(card: str, results: Iterable[EvalResult], *, name: str) -> str:
    """Put results into the metadata of a card; those of the same task, data and metric are replaced."""
    loaded = ModelCard(card)
    _add_results(loaded, list(results), name)
    return str(loaded)


def _add_results(card: Any, results: Sequence[EvalResult], name: str | None) -> None:
    if not results:
        return
    new = {(result.unique_identifier, result.metric_name) for result in results}
    old = [r for r in card.data.eval_results or [] if (r.unique_identifier, r.metric_name) not in new]
    card.data.eval_results, card.data.model_name = [*old, *results], name


CLIPS = {
    "english": "Real Bark audio, English, unseen voices and sentences",
    "other": "Real Bark audio, Japanese and odd voices, unseen voices and sentences",
    "music": "Real Bark audio, music and noise, unseen clips",
    "preset": "Suno's presets, 13 languages, unseen voices and sentences",
    "preset_enhanced": "Suno's presets, enhanced, 13 languages, unseen voices and sentences",
    "prompt": "Bark's voice prompts, many languages, unseen voices",
}


def encoder_results(table: Mapping[str, Mapping]) -> list[EvalResult]:
    """Results of the table that `evaluate_encoder.py` writes: token accuracy by kind of clip and way of reading it."""
    results = []
    for row_name, row in table.items():
        kind, inputs = row_name.rsplit(", ", 1)
        for field, words in (("top_1", "top-1"), ("top_5", "top-5")):
            measured = row[field]
            results.append(
                EvalResult(
                    task_type=TASK,
                    task_name="Audio to Bark semantic tokens",
                    dataset_type=re.sub(r"[^\w-]+", "-", f"bark-{kind}"),
                    dataset_name=CLIPS.get(kind, f"Bark clips: {kind}"),
                    dataset_args={"clips": row["clips"], "tokens": row["tokens"]},
                    metric_type="accuracy",
                    metric_name=f"{words} token accuracy, from {inputs}",
                    metric_value=round(measured["mean"], 4),
                    metric_args={"interval_95": [round(measured["low"], 4), round(measured["high"], 4)]},
                )
            )
    return results


def adapter_results(report: Mapping) -> list[EvalResult]:
    """Results of `finetune_bark.py`'s `report.json`: loss on held-out recordings, and on what Bark said itself."""
    results = []
    for stage, result in report["stages"].items():
        losses = {int(step): loss for step, loss in result["validation_loss"].items()}
        pairs = [("held-out recordings", losses[0], losses[result["best_step"]])]
        pairs += [(f"Bark's own speech: {k}", v["before"], v["after"]) for k, v in result["probe"].items()]
        for data, before, after in pairs:
            results.append(
                EvalResult(
                    task_type="text-to-speech",
                    dataset_type=re.sub(r"\W+", "-", data.lower()),
                    dataset_name=data[0].upper() + data[1:],
                    metric_type="loss",
                    metric_name=f"{stage}: cross-entropy per token",
                    metric_value=round(after, 4),
                    metric_args={"before_training": round(before, 4)},
                )
            )
    return results


__all__ = [
    "KINDS",
    "Publication",
    "PublishingError",
    "adapter_results",
    "add_code",
    "add_results",
    "check_publication",
    "encoder_results",
    "markdown_table",
    "public_name",
    "publish",
    "render_card",
    "strip_paths",
]
