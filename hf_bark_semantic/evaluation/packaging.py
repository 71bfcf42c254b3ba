"""A trained encoder with its measured accuracy as the folder that is published: float16 weights, figures and card."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..corpus.bark_artefacts import NUM_FOLDS
from ..files import write_json
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from ..packaged import card_template
from ..processing_bark_semantic import BarkSemanticEncoderProcessor
from ..publishing import encoder_results, markdown_table, render_card, strip_paths
from .encoder import FIELDS, format_interval
from .presets import preset_table

NAME = "bark-encoder"
KINDS = {  # in the order of the card's table
    "english": "English speech",
    "other": "Japanese and odd voices",
    "music": "music and noise",
    "preset": "Suno's presets",
    "preset_enhanced": "the presets, enhanced",
    "prompt": "voice prompts (many languages)",
}
WHISPER_OF_WIDTH = {384: "tiny", 512: "base", 768: "small", 1024: "medium", 1280: "large"}
TRAINING_DATA = """\
Real Bark artefacts (MIT): {pairs} clips of Bark audio with their tokens and codes (rsxdalv/bark-speaker-directory,
JonathanFly/bark){presets}, {prompts} voice prompts with tokens and codes but no sound (suno-ai/bark and
others){sweep}{recordings}. Noises and rooms for augmentation: SpeechBrain samples (Apache-2.0). Commands and settings:
`training/README.md`, `training/configs/builtin.yaml`."""


def package_encoder(run: Path, scores: Mapping, output: Path) -> str:
    """Write the folder of an encoder for the Hub.

    Args:
        run (`Path`): the folder of a training without a held-out fold.
        scores (`dict`): what `evaluate_encoder` measured over the folds; its temperatures become the config's.
        output (`Path`): the folder to write.

    Returns:
        `str`: the accuracy in one sentence, which `bark-semantic encode` prints.

    Raises:
        ValueError: the run held a fold out.
    """
    record = json.loads((run / "training.json").read_text())
    if record["fold"] is not None:
        raise ValueError(f"{run} held fold {record['fold']} out; train without --fold for the published weights.")
    model = BarkSemanticEncoderModel.from_pretrained(run)
    model.config.input_level_db = scores["input_level_db"]  # the encoder as it was measured
    own = model.config.temperatures or {}
    fitted = {kind: row["temperature"] for kind, row in scores.get("calibration", {}).items() if "temperature" in row}
    if fitted:
        model.config.temperatures = {**own, **{kind: own.get(kind, 1.0) * fitted[kind] for kind in fitted}}
    model.half().save_pretrained(output)
    config_file = output / "config.json"  # stored in half the space, but computed with in float32 unless asked
    config_file.write_text(config_file.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
    BarkSemanticEncoderProcessor.from_pretrained(run).save_pretrained(output)
    line = accuracy_line(scores["table"])
    kept = {name: value for name, value in scores.items() if name != "clips"}
    write_json(output / "evaluation.json", {"accuracy_line": line, "training": record, **kept})
    strip_paths(output)
    card = encoder_card(model, output / "model.safetensors", scores, record)
    (output / "README.md").write_text(card, encoding="utf-8")
    return line


def accuracy_line(table: Mapping) -> str:
    """The accuracy on English audio in one sentence."""
    english = table["english, audio"]
    return (
        f"Measured accuracy of this encoder on English voices and sentences that its training did not contain: "
        f"{english['top_1']['mean']:.1%} of the tokens right (95 % interval {english['top_1']['low']:.1%} to "
        f"{english['top_1']['high']:.1%}), {english['top_5']['mean']:.1%} among its first five; "
        f"{english['clips']} real Bark clips."
    )


def encoder_card(model: BarkSemanticEncoderModel, weights: Path, scores: Mapping, record: Mapping) -> str:
    """The model card; the table and the metadata hold the measured accuracy."""
    table = scores["table"]
    seeds = len(table["english, audio"].get("top_1_of_seeds", [1]))
    clips = record["clips"]
    sweep, presets, recordings = (clips.get(name, 0) for name in ("sweep", "preset", "recording"))
    values = {
        "parameters": f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}",
        "backbone": WHISPER_OF_WIDTH.get(model.config.backbone_hidden_size, "another size"),
        "folds": folds_in_words(scores.get("folds", [])),
        "megabytes": f"{weights.stat().st_size / 1e6:.1f}",
        "layers": ", ".join(map(str, model.config.backbone_layers)),
        "head_layers": str(model.config.num_hidden_layers),
        "seeds": "one seed" if seeds == 1 else f"{seeds} seeds",
        "table": accuracy_of_kinds(table) + accuracy_by_language(scores),
        "calibration": calibration_sentence(scores.get("calibration", {})),
        "training": TRAINING_DATA.format(
            pairs=clips["pair"],
            presets=f", {presets} of Suno's presets (sound: ebook2audiobook, Apache-2.0)" if presets else "",
            prompts=clips["prompt"],
            recordings=f", {recordings} recordings without tokens (LibriSpeech, CC BY 4.0)" if recordings else "",
            sweep=f", {sweep} two-second clips of known token strings" if sweep else "",
        ),
    }
    return render_card(card_template("encoder"), values, name=NAME, results=encoder_results(table))


def folds_in_words(folds: Sequence[int]) -> str:
    """Which folds the figures are of."""
    if len(folds) == NUM_FOLDS or not folds:
        return "Five folds"
    return f"Fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))} of {NUM_FOLDS}"


def calibration_sentence(calibration: Mapping) -> str:
    """How far the confidence can be believed."""
    if not calibration:
        return "How far its confidence can be believed was not measured."
    errors = {inputs: row["errors"]["all"] for inputs, row in calibration.items()}
    figures = "; ".join(f"{k}: " + ", ".join(f"{v:.1%} {n}" for n, v in row.items()) for k, row in errors.items())
    return f"Expected calibration error of its confidence, before and after the config's temperatures: {figures}."


def accuracy_of_kinds(table: Mapping) -> str:
    """The rows of `summarize` as a table in Markdown."""
    kinds, rows = list(KINDS), []
    for name, row in sorted(table.items(), key=lambda item: kinds.index(item[0].split(", ")[0])):
        kind, inputs = name.split(", ")
        accuracies = [format_interval(row[field]) for field in FIELDS]
        rows.append([KINDS[kind], inputs, *accuracies, f"{row['clips']}, {row['tokens']:,}"])
    return markdown_table(["clips", "read from", *FIELDS.values(), "clips, tokens"], rows)


def accuracy_by_language(scores: Mapping) -> str:
    """What `evaluate_encoder` measured on Suno's presets, as a table in Markdown with its note."""
    if "presets" not in scores:
        return ""
    table = preset_table(scores["presets"])
    return f"\n\n{table.title}:\n\n{markdown_table(table.columns, table.rows)}\n\n{table.note}"


__all__ = ["accuracy_line", "package_encoder"]
