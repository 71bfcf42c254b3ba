"""Publish encoders, corpora and adapters on the Hub, with cards of measured figures and only files of known kinds.

    render_card          a template of model_cards/, values and measured results -> a card
    encoder_results      evaluation of an encoder -> results for the metadata of its card
    adapter_results      report of a fine-tuning -> the same
    add_code             puts an encoder's code beside its weights, for users without this package
    strip_paths          removes the paths of the training machine from the JSON files of a folder
    check_publication    folder -> its kind and the files to publish, or all reasons why it cannot be published
    publish              the same, then one upload: weights, processor and card, or data and card

A folder's files show its kind: `config.json` an encoder, `bundle.json` adapters, `corpus.json` a corpus. Only files on
the list of that kind are published, and no file that runs code when it is read.
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
HIDDEN = [".*", "*/.*"]  # skipped without a message
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
PATHS = ("_name_or_path", "runs")  # keys of JSON files that hold paths of the training machine
PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
PICKLE_STARTS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


class PublishingError(ValueError):
    """The folder cannot be published; the message lists every reason and its remedy."""


@dataclass(frozen=True)
class Kind:
    """A kind of publication: its name, and patterns of the files that it must have and may have."""

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
        files (`dict[str, int]`): sizes in bytes, by path in the folder.
        left (`tuple[str, ...]`): paths that are not uploaded.
        url (`str`, *optional*): address of the upload; `None` if the folder was only checked.
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
    """Check a folder and upload it in one commit. First, paths of this machine are removed from it: [`strip_paths`].

    ```python
    import hf_bark_semantic

    publication = hf_bark_semantic.publish("encoder", "me/my-encoder", dry_run=True)
    print(publication.files)  # what would be uploaded, with sizes in bytes
    ```

    Args:
        folder (`str` or `Path`): what `package_encoder.py`, `finetune_bark.py` or `generate_corpus.py` made.
        repo_id (`str`): such as `"me/my-voice"`; it is created if it does not exist.
        private (`bool`): create the repository so that only you can see it; an existing one stays as it is.
        dry_run (`bool`): only check; change and upload nothing.
        leave_others (`bool`): skip files that are not on the list, instead of refusing the folder.

    Returns:
        [`Publication`]: the uploaded files, and the address.

    Raises:
        PublishingError: as in [`check_publication`]; or `repo_id` is not a valid name. Nothing was uploaded.
        OSError: the Hub refused the upload, or cannot be reached.
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
    """The files of a folder that would be published.

    Args:
        folder (`str` or `Path`), leave_others (`bool`): as in [`publish`].

    Raises:
        PublishingError: the folder is none of the three kinds, or incomplete; it has no card, or the card cannot be
            read, has unfilled fields, or lacks a licence, a note on consent or an encoder's task; the folder has a
            pickle, a link, a damaged file, or files that are not on the list.
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
        flaws.append(f"{len(others)} files do not belong to a published {kind.name} ({shown}). Move them away, or "
                     "skip them: --leave-others, `leave_others=True`.")  # fmt: skip
    if flaws:
        raise PublishingError("\n- ".join([f"{str(folder)!r} is not ready to be published:", *flaws]))
    return Publication(
        kind.name, kind.repo_type, {path: (folder / path).stat().st_size for path in allowed}, tuple(others)
    )


def add_code(folder: str | os.PathLike) -> None:
    """Put an encoder's code beside its weights, so that it loads where this package is not installed.

    There, `AutoModel`, `AutoProcessor` and `pipeline` need `trust_remote_code=True`. Where the package is installed,
    its own code is used, with or without that argument.

    Args:
        folder (`str` or `Path`): where model and processor were saved.

    Raises:
        PublishingError: it is not a folder of an encoder, or incomplete.
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

    These are `_name_or_path`, which transformers saves for each part of a model, and the `runs` of an evaluation.

    Args:
        folder (`str` or `Path`): a model's folder; subfolders are not changed.

    Returns:
        `list[str]`: names of the changed files.
    """
    stripped = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # `check_publication` reports it
            continue
        kept = _without(values, PATHS)
        if kept != values:
            _write_config(path, kept)
            stripped.append(path.name)
    return stripped


def _write_config(path: Path, values: Any) -> None:
    """Write JSON in the format of transformers."""
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
        return [f"There is no card. Write {path.name}, or let the script that made the folder write it again."]
    try:
        card = kind.card_class.load(path)
    except Exception as error:  # yaml's own, KeyError of results, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        return [f"The metadata of {path.name} cannot be read ({reason}). Correct the text between the two `---`."]
    flaws, prose = [], re.sub(r"```.*?```|`[^`\n]*`", "", card.text, flags=re.S)
    unfilled = re.findall(r"\{\{ *\w+ *\}\}", prose)
    if unfilled:
        flaws.append(f"{path.name} has unfilled fields: {', '.join(unfilled)}.")
    if not card.data.get("license"):
        flaws.append(f"{path.name} names no licence. Add a line such as `license: mit` between the two `---`, or pass "
                     "it to the script: --license mit.")  # fmt: skip
    for key, value in {"library_name": "transformers", "pipeline_tag": TASK}.items() if kind is ENCODER else ():
        if card.data.get(key) != value:
            flaws.append(f"{path.name} does not say `{key}: {value}`, by which `pipeline(model=...)` finds the task. "
                         "Add that line between the two `---`.")  # fmt: skip
    if "consent" not in prose.lower():
        flaws.append(f"{path.name} does not say whose consent is needed. Add a section on intended use and consent.")
    return flaws


def _flaw_of_file(folder: Path, path: str, *, published: bool) -> str | None:
    """Why a file prevents publication, or `None`. A pickle does so even if it would not be uploaded."""
    file = folder / path
    if file.is_symlink() or not file.resolve().is_relative_to(folder.resolve()):
        return "is a link, and what it points to would be published. Put the file itself there." if published else None
    if _is_pickle(file):
        return "is a pickle, which can run code when it is read. Save it as safetensors, and delete this one."
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
            return "differs from this package's file of that name. Save the model again, with this version."
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
        return f"is damaged, or not what its name says ({error}). Make it again."
    return None


def _is_pickle(file: Path) -> bool:
    if file.suffix.lower() in PICKLES:
        return True
    with open(file, "rb") as opened:
        start = opened.read(2)
    if start in PICKLE_STARTS and file.suffix != ".safetensors":  # these begin with a length, which can be any byte
        return True
    if start == b"PK" and zipfile.is_zipfile(file):  # torch.save's archives
        with zipfile.ZipFile(file) as archive:
            return any(name.rpartition("/")[2].endswith(".pkl") for name in archive.namelist())
    return False


def _literal(path: str) -> str:
    """A pattern that matches only this path."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def public_name(place: str) -> str:
    """The name of a model without the path of this machine: its Hub id, or the last part of its folder."""
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
        values (`Mapping[str, str]`): the value of every field.
        metadata (`Mapping[str, Any]`, *optional*): additions, such as `{"license": "mit"}`; `None` values are left
            out.
        name (`str`, *optional*): of the model; needed with `results`.
        results (`Sequence[EvalResult]`): measured figures, for example those of [`encoder_results`].

    Raises:
        ValueError: a field has no value, or the metadata cannot be read.
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
    """A table in Markdown, for a card."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def add_results(card: str, results: Iterable[EvalResult], *, name: str) -> str:
    """Add results to the metadata of a card; older ones of the same task, data and metric are replaced."""
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
    """Token accuracies by kind of clip and kind of input, from the table that `evaluate_encoder.py` writes."""
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
    """Losses on held-out recordings and on Bark's own speech, from the `report.json` of `finetune_bark.py`."""
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
