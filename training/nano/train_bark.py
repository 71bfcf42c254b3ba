"""Stage 4. Train nano's semantic, coarse and fine models, each independently.

    python training/nano/train_bark.py semantic outputs/nano --steps 3000

Reads `speech/`, `tokens.npz` and, for the coarse and fine models, `codes.npz`, `codes_varied.npz` and `codec/`; writes
`semantic/` (`coarse/`, `fine/`): checkpoints, `log.jsonl`, `model.safetensors`. At the end, it prints a held-out loss.
Layouts and losses are those of `hf_bark_semantic.bark.losses`, as in inference, with voice prompts.
"""

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from make_tokenizer import packaged_centroids
from nano_bark import align_positions, new_bark, start_from_codebooks, text_tokenizer
from safetensors.torch import load_file, load_model, save_model
from transformers import BarkModel, EncodecConfig, EncodecModel

from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.bark.examples import Utterance, join_utterances
from hf_bark_semantic.bark.losses import LOSSES
from hf_bark_semantic.bark.prompting import fits_one_generation
from hf_bark_semantic.trainers.bark_batches import UtteranceBatches
from hf_bark_semantic.trainers.loop import TrainingArguments, train

PARTS = {"semantic": "semantic", "coarse": "coarse_acoustics", "fine": "fine_acoustics"}
JOINED = 0.25  # number of joined stretches of 2 or 3 clips of a voice, per clip
PROMPTED = 0.8  # share of examples with other clips of the voice as history, like a voice prompt
NOISY_HISTORIES = 0.5  # share of histories with encoder-like errors: some tokens are replaced by similar ones
MAX_NOISE, SIMILAR = 0.6, 8  # largest share of replaced tokens, and number of nearest neighbours to choose from
TOKEN_DROPOUT = 0.15  # share of coarse examples without semantic tokens, for classifier-free guidance


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=list(LOSSES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--num-positions", type=int, default=8_192)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="muon")
    parser.add_argument("--init", type=Path, help="folder of a shorter run, or a Bark such as nano, to start from")
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    tokenizer = text_tokenizer()
    codec = EncodecModel.from_pretrained(args.folder / "codec") if args.stage != "semantic" else None
    bark = new_bark(EncodecConfig() if codec is None else codec.config, len(tokenizer))
    if codec is not None:
        start_from_codebooks(bark, codec)
    configs = bark_generation_configs(bark)
    loss = LOSSES[args.stage](getattr(bark, PARTS[args.stage]), configs)
    for module in loss.modules():
        if hasattr(module, "attn_dropout"):
            module.attn_dropout.p = 0.0  # takes a quarter of a step on a CPU; the dropout between layers is kept
    training = load_utterances(args.folder, tokenizer, configs, args.stage)
    seconds = sum(utterance.num_tokens for utterance in training) / configs.semantic.semantic_rate_hz
    align_positions(bark, seconds / sum(len(utterance.text_ids) for utterance in training))
    if args.init is not None and (args.init / "generation_config.json").exists():
        loss.model.load_state_dict(getattr(BarkModel.from_pretrained(args.init), PARTS[args.stage]).state_dict())
    elif args.init is not None:
        load_model(loss.model, args.init / "model.safetensors")
    print(
        f"{sum(p.numel() for p in loss.parameters()) / 1e6:.2f} M parameters, {len(training)} utterances", flush=True
    )
    options = {"num_positions": args.num_positions, "history_probability": PROMPTED, "history_targets": True}
    centroids = load_centroids(args.folder)
    batches = NoisyHistories(centroids, training, configs, args.stage, steps=args.steps, **options)
    if args.stage == "coarse":
        batches = TokenDropout(batches, configs)
    arguments = TrainingArguments(
        output_dir=str(args.folder / args.stage), steps=args.steps, learning_rate=args.learning_rate, warmup=0.03,
        optimizer=args.optimizer,
        weight_decay=0.05, average=0.998, checkpoint_every=200, log_every=50,
    )  # fmt: skip
    loss = train(loss, batches, arguments)
    save_model(loss.model, str(args.folder / args.stage / "model.safetensors"))
    held_out = load_utterances(args.folder, tokenizer, configs, args.stage, held_out=True)
    figures = held_out_loss(loss, UtteranceBatches(held_out, configs, args.stage, seed=1, **options))
    (args.folder / args.stage / "held_out.json").write_text(json.dumps(figures))
    print(figures)


def load_utterances(folder: Path, tokenizer, configs, stage: str, held_out: bool = False) -> list[Utterance]:
    """Clips (with voice and text both for training, or both held out) and joined stretches of a voice's clips."""
    tokens = np.load(folder / "tokens.npz")
    codes = {"": None} if stage == "semantic" else {"": dict(np.load(folder / "codes.npz"))}
    if codes[""] is not None and (folder / "codes_varied.npz").exists() and not held_out:
        codes[" varied"] = dict(np.load(folder / "codes_varied.npz"))  # like other voices
    rng = np.random.default_rng(0)
    utterances = []
    for table, (variant, known) in itertools.product(sorted((folder / "speech").glob("*.jsonl")), codes.items()):
        if stage == "semantic" and "~" in table.stem:
            continue  # same texts and tempo as the original voice
        own = []
        for row in map(json.loads, table.read_text().splitlines()):
            wanted = row["held_out_voice"] == held_out and row["held_out_text"] == held_out
            if wanted and row["id"] in tokens and (known is None or row["id"] in known):
                utterance = Utterance(
                    text_ids=np.array(tokenizer(row["text"])["input_ids"], np.int64),
                    semantic_tokens=tokens[row["id"]].astype(np.int64),
                    audio_codes=None if known is None else known[row["id"]].astype(np.int64),
                    voice=row["voice"] + variant,
                    id=row["id"] + variant,
                )
                own.append(utterance)
        utterances += own
        for _ in range(int(JOINED * len(own)) if len(own) >= 4 else 0):
            parts = [own[i] for i in rng.choice(len(own), rng.integers(2, 4), replace=False)]
            while not fits_one_generation(
                sum(len(part.text_ids) for part in parts), sum(part.num_tokens for part in parts), configs
            ):
                parts.pop()
            if len(parts) > 1:
                utterances.append(join_utterances(parts, configs))
    return utterances


def load_centroids(folder: Path) -> torch.Tensor:
    """Centroids `(num_tokens, num_features)`, up to a factor, of this nano's secret tokenizer; without it, of the
    packaged nano's."""
    own = folder / "secret_tokenizer" / "model.safetensors"
    return load_file(own)["head.output.weight"] if own.exists() else packaged_centroids()


class NoisyHistories(UtteranceBatches):
    """Batches in which some histories have similar tokens in place of the true ones.

    In use, the tokens of a voice prompt come from an encoder and have errors. A semantic model that was trained with
    true tokens only would be misled by them.
    """

    def __init__(self, centroids: torch.Tensor, *args, **options):
        super().__init__(*args, **options)
        distances = torch.cdist(centroids, centroids).fill_diagonal_(torch.inf)  # also for equal centroids
        self.similar = distances.topk(SIMILAR, largest=False).indices.numpy()

    def history(self, used: list[int], rng: np.random.Generator) -> Utterance | None:
        history = super().history(used, rng)
        if history is None or rng.random() >= NOISY_HISTORIES:
            return history
        tokens = history.semantic_tokens.copy()
        wrong = np.flatnonzero(rng.random(len(tokens)) < rng.uniform(0, MAX_NOISE))
        tokens[wrong] = self.similar[tokens[wrong], rng.integers(SIMILAR, size=len(wrong))]
        return replace(history, semantic_tokens=tokens)


class TokenDropout(torch.utils.data.Dataset):
    """Batches of the coarse model in which some examples lack semantic tokens, but have the history's codes."""

    def __init__(self, batches: UtteranceBatches, configs):
        self.batches, self.config = batches, configs.coarse

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, step: int):
        rng, parts = np.random.default_rng([1, step]), self.batches[step]
        for part in parts:
            dropped = torch.from_numpy(rng.random(len(part["input_ids"])) < TOKEN_DROPOUT)
            part["input_ids"][dropped, : self.config.max_coarse_input_length] = self.config.coarse_semantic_pad_token
        return parts


@torch.no_grad()
def held_out_loss(loss, batches, num_batches: int = 20) -> dict:
    outputs = [loss(**batches[step][0]) for step in range(num_batches)]
    count = sum(int(output.num_targets) for output in outputs)
    total = sum(float(output.loss) * int(output.num_targets) for output in outputs)
    correct = sum(int(output.num_correct) for output in outputs)
    return {"loss": round(total / count, 4), "accuracy": round(correct / count, 4), "targets": count}


if __name__ == "__main__":
    main()
