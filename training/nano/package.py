"""Stage 9. What the package carries: nano in half precision with voice presets, and its encoder.

    python training/nano/package.py outputs/nano hf_bark_semantic/checkpoints

Presets are nano's own speech: each voice is prompted with a clip of the training speech, and what nano says is the
preset. So nothing in the package has seen the secret tokenizer's output.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sentences import random_text
from speak_corpus import voice_prompts
from transformers import AutoModel, BarkModel, BarkProcessor

import hf_bark_semantic  # noqa: F401  (registers the encoder)
from hf_bark_semantic import BarkSemanticEncoderProcessor
from hf_bark_semantic.synthesis import Sampling, SynthesisRequest, synthesize

PRESETS = {
    "amy": "af_heart", "bella": "af_bella", "nicole": "af_nicole", "emma": "bf_emma", "isabella": "bf_isabella",
    "siwis": "ff_siwis", "adam": "am_adam", "michael": "am_michael", "fenrir": "am_fenrir", "george": "bm_george",
    "fable": "bm_fable", "santa": "am_santa",
}  # fmt: skip
PRESET_TOKENS = (160, 300)
POSITIONS = 500  # of Whisper's encoder: windows of 10 s are enough for nano


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args(arguments)
    bark = BarkModel.from_pretrained(args.folder / "bark").eval()
    processor = BarkProcessor.from_pretrained(args.folder / "bark", speaker_embeddings_dict_path=None)
    prompts = voice_prompts(args.folder, processor.tokenizer, bark)
    save_presets(args.output / "nano", bark, processor, {name: prompts[voice] for name, voice in PRESETS.items()})
    save_half(bark, args.output / "nano")
    encoder = AutoModel.from_pretrained(args.folder / "encoder")
    shorten_positions(encoder)
    save_half(encoder, args.output / "nano-encoder")
    BarkSemanticEncoderProcessor().save_pretrained(args.output / "nano-encoder")
    size = sum(file.stat().st_size for file in args.output.rglob("*") if file.is_file())
    print(f"All built-in checkpoints: {size / 1e6:.1f} MB")


def save_half(model, folder: Path):
    """Half the space, but computed with in float32 unless asked."""
    model.half().save_pretrained(folder)
    config_file = folder / "config.json"
    config_file.write_text(config_file.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))


def shorten_positions(encoder):
    backbone = encoder.backbone
    embedding = backbone.embed_positions
    embedding.weight.data = embedding.weight.data[:POSITIONS].clone()
    embedding.num_embeddings = POSITIONS
    backbone.config.max_source_positions = encoder.config.backbone_config.max_source_positions = POSITIONS
    encoder.config.window_s = POSITIONS / 50


def save_presets(folder: Path, bark, processor, prompts: dict[str, list]):
    """Let each voice speak, and keep the first utterance of the right length as its preset."""
    rng, requests = np.random.default_rng(0), []
    for number, candidates in enumerate(prompts.values()):
        for attempt in range(4):
            text = f"{random_text(rng, digits=0)} {random_text(rng, digits=0)}"
            requests.append(
                SynthesisRequest(
                    text=text, voice_prompt=candidates[rng.integers(len(candidates))], seed=100 * number + attempt,
                    semantic=Sampling(0.6), coarse=Sampling(0.6, min_eos_p=None),
                )
            )  # fmt: skip
    names, presets = list(prompts), {}
    for result in synthesize(bark, requests, tokenizer=processor.tokenizer):
        name = names[result.index // 4]
        fits = PRESET_TOKENS[0] <= len(result.semantic_tokens) <= PRESET_TOKENS[1]
        if fits and result.finish_reason == "eos":
            presets.setdefault(name, result)
    missing = [name for name in prompts if name not in presets]
    if missing:
        raise SystemExit(f"No utterance of the right length for {missing}; change the seeds.")
    (folder / "speaker_embeddings").mkdir(parents=True, exist_ok=True)
    table = {"repo_or_path": ""}
    for name, result in presets.items():
        arrays = {"semantic": result.semantic_tokens, "coarse": result.audio_codes[:2], "fine": result.audio_codes}
        table[name] = {f"{part}_prompt": f"speaker_embeddings/{name}_{part}_prompt.npy" for part in arrays}
        for part, array in arrays.items():
            np.save(folder / table[name][f"{part}_prompt"], array, allow_pickle=False)
    (folder / "speaker_embeddings_path.json").write_text(json.dumps(table, indent=1))
    processor.tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
