"""Make the folder of an encoder that is published: float16 weights, measured accuracy and model card."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..corpus.bark_artefacts import NUM_FOLDS
from ..files import read_json, write_json, write_text
from ..heads_bark_semantic import NUM_CANDIDATES
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from ..packaged import card_template
from ..processing_bark_semantic import BarkSemanticEncoderProcessor
from ..publishing import add_code, encoder_results, markdown_table, render_card, strip_paths
from .encoder import FIELDS, format_interval
from .presets import preset_table

KINDS = {  # in the order of the card's table
    "english": "English speech",
    "other": "Japanese and odd voices",
    "music": "music and noise",
    "preset": "Suno's presets",
    "preset_enhanced": "the presets, enhanced",
    "prompt": "voice prompts (many languages)",
}
ABSOLUTE = re.compile(r"(?<![\w./~-])[/~]\S*/")  # the folder part of a path
WHISPER_OF_WIDTH = {384: "tiny", 512: "base", 768: "small", 1024: "medium", 1280: "large"}
OWN_CORPUS = "bark_artefacts"  # from `prepare_bark_artefacts`; the packaged encoder's card names its sources
TRAINING_DATA = """\
Real Bark artefacts (MIT): {pairs} clips of Bark audio with their tokens and codes (rsxdalv/bark-speaker-directory,
JonathanFly/bark){presets}, {prompts} voice prompts with tokens and codes but no audio (suno-ai/bark and
others){sweep}{recordings}. Noises and room responses for augmentation: SpeechBrain samples (Apache-2.0). Commands and
settings: `training/README.md`, `training/configs/builtin.yaml`."""
OWN_LICENCE = """\
MIT. It contains Whisper weights by OpenAI (MIT). The Bark artefacts in its training data are by Suno and the
community (MIT)."""
OTHER_LICENCE = "The licence is in the metadata. The backbone and the corpus have their own licences."

WITHOUT_PACKAGE = """
Without hf_bark_semantic, transformers can run the code that is stored beside these weights:

```python
encode = pipeline("audio-to-bark-semantic", model="the name of this repository", trust_remote_code=True)
```
"""


def package_encoder(
    run: Path, scores: Mapping, output: Path, *, remote_code: bool = True, license_id: str | None = None
) -> str:
    """Write the folder of an encoder for the Hub. On an error, nothing is written.

    Args:
        run (`Path`): the folder of a training without a held-out fold.
        scores (`dict`): the results of `evaluate_encoder` for all folds; their temperatures are set in the config.
        output (`Path`): the folder to write.
        remote_code (`bool`): add the code of the model: see [`add_code`].
        license_id (`str`, *optional*): for the card, such as "mit".

    Returns:
        `str`: a sentence with the accuracy, which `bark-semantic encode` prints.

    Raises:
        ValueError: the run is unfinished or held a fold out, or the scores have no table of accuracies.
    """
    if not (run / "training.json").is_file():
        raise ValueError(f"{run} has no training.json: name the folder of a finished train_encoder.")
    record = read_json(run / "training.json")
    if record["fold"] is not None:
        raise ValueError(f"{run} held fold {record['fold']} out; train without --fold for the published weights.")
    if not scores.get("table"):
        raise ValueError(
            "The scores have no table of accuracies: name the --json of evaluate_encoder, without --human."
        )
    line = accuracy_line(scores["table"])
    model = BarkSemanticEncoderModel.from_pretrained(run)
    processor = BarkSemanticEncoderProcessor.from_pretrained(run)
    model.config.input_level_db = scores["input_level_db"]  # as in the measurement
    own = model.config.temperatures or {}
    fitted = {kind: row["temperature"] for kind, row in scores.get("calibration", {}).items() if "temperature" in row}
    if fitted:
        model.config.temperatures = {**own, **{kind: own.get(kind, 1.0) * fitted[kind] for kind in fitted}}
    with _unfinished(output) as folder:
        model.half().save_pretrained(folder)
        config_file = folder / "config.json"  # weights are stored in float16, but load in float32 by default
        config_file.write_text(config_file.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
        processor.save_pretrained(folder)
        kept = {name: value for name, value in scores.items() if name not in ("clips", "made")}
        if "made" in scores:
            kept["made"] = _published(scores["made"])
        write_json(folder / "evaluation.json", {"accuracy_line": line, "training": record, **kept})
        strip_paths(folder)
        if remote_code:
            add_code(folder)
        weights = folder / "model.safetensors"
        card = encoder_card(
            model, weights, scores, record, name=output.resolve().name, license_id=license_id, remote_code=remote_code
        )
        write_text(folder / "README.md", card)
        output.mkdir(exist_ok=True)
        for file in sorted(folder.iterdir(), key=lambda file: file == weights):
            os.replace(file, output / file.name)
    return line


def _published(made: Mapping) -> dict:
    """Command, date and commit of a measurement, without local folders."""
    return {"command": ABSOLUTE.sub("", made["command"]), "date": made["date"], "commit": made["commit"]}


@contextmanager
def _unfinished(output: Path) -> Iterator[Path]:
    """An empty folder beside `output`; its name is fixed, so that the next run removes what a killed one left."""
    folder = output.parent / f".{output.resolve().name}.unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def accuracy_line(table: Mapping) -> str:
    """A sentence with the accuracy on the kind of clips with the most tokens, from audio if possible."""
    name = max(table, key=lambda name: (name.endswith(", audio"), table[name]["tokens"]))
    (kind, inputs), row = name.rsplit(", ", 1), table[name]
    return (
        f"Measured accuracy of this encoder on voices and sentences ({KINDS.get(kind, kind)}, read from {inputs}) "
        f"that its training did not contain: {row['top_1']['mean']:.1%} of the tokens right "
        f"(95 % interval {row['top_1']['low']:.1%} to {row['top_1']['high']:.1%}), "
        f"{row['top_5']['mean']:.1%} among its first five; {row['clips']} clips."
    )


def encoder_card(
    model: BarkSemanticEncoderModel,
    weights: Path,
    scores: Mapping,
    record: Mapping,
    *,
    name: str,
    license_id: str | None = None,
    remote_code: bool = True,
) -> str:
    """The model card, with the measured accuracy in a table and in the metadata."""
    table, clips = scores["table"], record["clips"]
    seeds = max(len(row.get("top_1_of_seeds", [1])) for row in table.values())
    own = record.get("corpus", OWN_CORPUS) == OWN_CORPUS and {"pair", "prompt"} <= clips.keys()
    values = {
        "name": name,
        "parameters": f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}",
        "megabytes": f"{weights.stat().st_size / 1e6:.1f}",
        "parts": parts_in_words(model, own=own),
        "measured": measured_in_words(scores, "one seed" if seeds == 1 else f"{seeds} seeds"),
        "table": accuracy_of_kinds(table) + accuracy_by_language(scores),
        "calibration": calibration_sentence(scores.get("calibration", {})),
        "training": artefacts_in_words(clips) if own else corpus_in_words(record),
        "licence": OWN_LICENCE if own else OTHER_LICENCE,
        "place": "str(hf_bark_semantic.default_encoder())" if own else f'"{name}"',
        "without_package": WITHOUT_PACKAGE if remote_code else "",
    }
    metadata = {"license": license_id or ("mit" if own else None)}
    results = encoder_results(table)
    return render_card(card_template("encoder"), values, metadata=metadata, name=name, results=results)


def parts_in_words(model: BarkSemanticEncoderModel, *, own: bool) -> str:
    """Backbone, codec front end and head of a model, as a list in Markdown."""
    config, parts = model.config, []
    if model.backbone is not None:
        kind, size = config.backbone_config.model_type, f"width {config.backbone_hidden_size}"
        if kind == "whisper":
            kind, size = "Whisper", WHISPER_OF_WIDTH.get(config.backbone_hidden_size, size)
        origin = " (OpenAI, MIT), frozen" if own else ""
        layers = ", ".join(map(str, config.backbone_layers))
        padding = ", without padding to 30 s" if kind == "Whisper" else ""
        parts.append(f"Backbone: the encoder of {kind} {size}{origin}{padding}; layers {layers}.")
    if model.codec_front_end is not None:
        predicted = "the log-mel spectrogram for the backbone" if config.codec_output == "spectrogram" else "features"
        parts.append(f"Codec front end: predicts {predicted} from EnCodec codes.")
    if config.head_type == "transformer":
        layers = config.num_hidden_layers
        parts.append(f"Head: a convolution and {layers} transformer layers over one feature vector per token.")
    else:
        parts.append(f"Head: {config.head_type}.")
    if model.transitions is not None:
        parts.append(
            f"Pairs: the {NUM_CANDIDATES} likeliest tokens of each position are reweighted by the tokens before and "
            f"after it, by the counts of {config.num_transitions:,} pairs of neighbouring tokens in the training data."
        )
    return "\n".join(f"- {part}" for part in parts)


def measured_in_words(scores: Mapping, seeds: str) -> str:
    """A description of the clips on which an encoder was measured."""
    folds, num_folds = scores.get("folds"), scores.get("num_folds", NUM_FOLDS)
    if folds == []:
        return (
            f"clips that its training did not contain. {seeds.capitalize()}; 95 % intervals by bootstrap over voices."
        )
    if folds is None or len(folds) == num_folds:
        which = "Five folds" if num_folds == NUM_FOLDS else f"{num_folds} folds"
    else:
        which = f"Fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))} of {num_folds}"
    return (
        f"clips whose voice and sentence the training did not contain. {which},\n{seeds}; 95 % intervals by bootstrap "
        "over voices. The weights here were trained on all of the data."
    )


def artefacts_in_words(clips: Mapping[str, int]) -> str:
    """A description of the packaged encoder's training data and its origin."""
    sweep, presets, recordings = (clips.get(name, 0) for name in ("sweep", "preset", "recording"))
    return TRAINING_DATA.format(
        pairs=clips["pair"],
        presets=f", {presets} of Suno's presets (audio: ebook2audiobook, Apache-2.0)" if presets else "",
        prompts=clips["prompt"],
        recordings=f", {recordings} recordings without tokens (LibriSpeech, CC BY 4.0)" if recordings else "",
        sweep=f", {sweep} two-second clips of known token strings" if sweep else "",
    )


def corpus_in_words(record: Mapping) -> str:
    """A description of a training corpus, with its clips by source."""
    corpus = f"The corpus `{record['corpus']}`" if "corpus" in record else "A corpus whose name was not recorded"
    counts = ", ".join(f"{count:,} of the source `{source}`" for source, count in record.get("clips", {}).items())
    return f"{corpus}: clips {counts or 'read as a stream'}. Config: `{record['config']}`, {record['steps']:,} steps."


def calibration_sentence(calibration: Mapping) -> str:
    """A sentence on the calibration of the confidence."""
    if not calibration:
        return "The calibration of the confidence was not measured."
    errors = {inputs: row["errors"]["all"] for inputs, row in calibration.items()}
    figures = "; ".join(f"{k}: " + ", ".join(f"{v:.1%} {n}" for n, v in row.items()) for k, row in errors.items())
    return f"Expected calibration error of the confidence, before and after the config's temperatures: {figures}."


def accuracy_of_kinds(table: Mapping) -> str:
    """The rows of `summarize` as a table in Markdown."""
    order, rows = list(KINDS), []
    for name, row in sorted(table.items(), key=lambda item: _place(item[0].rsplit(", ", 1)[0], order)):
        kind, inputs = name.rsplit(", ", 1)
        accuracies = [format_interval(row[field]) for field in FIELDS]
        rows.append([KINDS.get(kind, kind), inputs, *accuracies, f"{row['clips']}, {row['tokens']:,}"])
    return markdown_table(["clips", "read from", *FIELDS.values(), "clips, tokens"], rows)


def _place(kind: str, order: list[str]) -> int:
    """A sort key: kinds of `KINDS` first, then others in the order of the measurement."""
    return order.index(kind) if kind in order else len(order)


def accuracy_by_language(scores: Mapping) -> str:
    """The accuracy on Suno's presets by language, as a table in Markdown with a note."""
    if "presets" not in scores:
        return ""
    table = preset_table(scores["presets"])
    return f"\n\n{table.title}:\n\n{markdown_table(table.columns, table.rows)}\n\n{table.note}"


__all__ = ["accuracy_line", "package_encoder"]
