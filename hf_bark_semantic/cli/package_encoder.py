"""Stage 4. A trained encoder and its measured accuracy to the folder that is published.

    python training/package_encoder.py outputs/builtin --scores outputs/cv.json --output
    hf_bark_semantic/checkpoints/bark-encoder

Writes float16 weights, config, processor, `evaluation.json` (with the line that `bark-semantic encode` prints) and the
model card, in which every number comes from the scores that `evaluate_encoder.py` wrote; its metadata have them, too.
`publish.py` uploads the folder.
"""

import argparse
import json
from pathlib import Path

from .. import publishing
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from ..processing_bark_semantic import BarkSemanticEncoderProcessor

TEMPLATE = Path(__file__).parents[2] / "model_cards" / "encoder.md"
NAME = "bark-encoder"
TRAINING_DATA = """\
Real Bark artefacts (MIT): {pairs} clips of Bark audio with their tokens and codes (rsxdalv/bark-speaker-directory,
JonathanFly/bark), {prompts} voice prompts with tokens and codes but no sound (suno-ai/bark and others){sweep}. Noises
and rooms for augmentation: SpeechBrain samples (Apache-2.0). Commands and settings: `training/README.md`,
`training/configs/builtin.yaml`."""


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of train_encoder.py, trained without a fold held out")
    parser.add_argument("--scores", type=Path, required=True, help="--json of evaluate_encoder.py over the folds")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(arguments)
    record = json.loads((args.run / "training.json").read_text())
    if record["fold"] is not None:
        raise SystemExit(f"{args.run} held fold {record['fold']} out; train without --fold for the published weights.")
    scores = json.loads(args.scores.read_text())
    model = BarkSemanticEncoderModel.from_pretrained(args.run)
    model.config.input_level_db = scores["input_level_db"]  # the encoder as it was measured
    model.half().save_pretrained(args.output)
    config_file = args.output / "config.json"  # stored in half the space, but computed with in float32 unless asked
    config_file.write_text(config_file.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
    BarkSemanticEncoderProcessor.from_pretrained(args.run).save_pretrained(args.output)
    kept = {name: value for name, value in scores.items() if name != "clips"}
    evaluation = {"accuracy_line": accuracy_line(scores["table"]), "training": record, **kept}
    (args.output / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n")
    publishing.strip_paths(args.output)
    card = render_card(model, args.output / "model.safetensors", scores, record)
    (args.output / "README.md").write_text(card, encoding="utf-8")
    print(evaluation["accuracy_line"])


def accuracy_line(table: dict) -> str:
    english = table["english, audio"]
    return (
        f"Measured accuracy of this encoder on English voices and sentences that its training did not contain: "
        f"{english['top_1']['mean']:.1%} of the tokens right (95 % interval {english['top_1']['low']:.1%} to "
        f"{english['top_1']['high']:.1%}), {english['top_5']['mean']:.1%} among its first five; "
        f"{english['clips']} real Bark clips."
    )


def render_card(model, weights: Path, scores: dict, record: dict) -> str:
    table, config = scores["table"], model.config
    seeds = len(table["english, audio"].get("top_1_of_seeds", [1]))
    sweep = record["clips"].get("sweep", 0)
    values = {
        "parameters": f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}",
        "megabytes": f"{weights.stat().st_size / 1e6:.1f}",
        "layers": ", ".join(map(str, config.backbone_layers)),
        "head_layers": str(config.num_hidden_layers),
        "seeds": "one seed" if seeds == 1 else f"{seeds} seeds",
        "table": markdown_table(table),
        "training": TRAINING_DATA.format(
            pairs=record["clips"]["pair"],
            prompts=record["clips"]["prompt"],
            sweep=f", {sweep} two-second clips of known token strings" if sweep else "",
        ),
    }
    return publishing.render_card(TEMPLATE, values, name=NAME, results=publishing.encoder_results(table))


def markdown_table(table: dict) -> str:
    """The table of `evaluate_encoder.py` for people."""
    names = {"english": "English speech", "other": "Japanese and odd voices", "music": "music and noise"}
    names["prompt"] = "voice prompts (many languages)"
    lines = ["| clips | read from | top-1 | top-5 | clips, tokens |", "| --- | --- | --- | --- | --- |"]
    for name, row in sorted(table.items(), key=lambda item: list(names).index(item[0].split(", ")[0])):
        kind, inputs = name.split(", ")
        cells = [f"{row[k]['mean']:.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in ("top_1", "top_5")]
        lines.append(f"| {names[kind]} | {inputs} | {cells[0]} | {cells[1]} | {row['clips']}, {row['tokens']:,} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
