"""Stage 7b. Compare encoders with nano's true tokenizer, which is impossible for Suno's Bark.

    python training/nano/laboratory.py outputs/nano training/configs/nano.yaml --human ../shared/data/human
    python training/nano/laboratory.py outputs/nano training/configs/nano.yaml --human ../shared/data/human --heads

Scores `outputs/nano/encoder` (trained on nano's own speech alone), or with --heads kinds of head (named, or all),
trained on the same features for the same steps, on
    own        speech of nano that no encoder was trained on (of `generated/`, or all of --own), with the tokens that
               nano generated it from
    synthetic  voices and texts that no stage was trained on, with tokens from the secret tokenizer
    human      recordings of people (with --digits, also of digit strings), with tokens from the secret tokenizer
The score of the secret tokenizer on `own` shows how many of nano's tokens can be recovered from its audio.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from labels import waveform_16k
from speech import load_speech
from transformers import AutoModel, BarkModel

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))
from compare_heads import HEADS
from hf_bark_semantic.audio import list_audio_files, load_audio
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames, num_samples_of_codec_frames
from hf_bark_semantic.corpus.rows import Clip, load_corpus, split_fold
from hf_bark_semantic.evaluation.tokens import score_clips, summarize
from hf_bark_semantic.trainers.encoder import HeadOnFeatures, new_batches, new_model
from hf_bark_semantic.trainers.encoder_batches import FeatureBatches
from hf_bark_semantic.trainers.encoder_config import read_encoder_config
from hf_bark_semantic.trainers.initial_heads import centroids_of_tokens
from hf_bark_semantic.trainers.loop import new_accelerator, train

FOLD = 19  # the held-out fold of nano's own speech: one request in twenty
CLIPS = 150  # of each kind
HUMAN_S = 8.0


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("config", type=Path, help="config of the encoder")
    parser.add_argument(
        "--own", type=Path, help="speech of nano, in the format of `generated/`, that the encoder was not trained on"
    )
    parser.add_argument("--human", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--digits", type=Path, help="folder of digit strings by people, such as from human_speech.py")
    parser.add_argument(
        "--heads", nargs="*", choices=list(HEADS), metavar="HEAD",
        help="train and compare these kinds of head, or all; results in heads.json are not computed again",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=500, help="training steps of each head")
    args = parser.parse_args(arguments)
    if args.own is not None and args.heads is not None:
        parser.error("--heads are trained on `generated/` and measured on its held-out fold; omit --own.")
    corpus = load_corpus(str(args.own or args.folder / "generated"))
    training_clips, own = ([], corpus) if args.own else split_fold(corpus, FOLD)
    secret = AutoModel.from_pretrained(args.folder / "secret_tokenizer").eval()
    own = own[:CLIPS]
    clips = own + synthetic_clips(args.folder, secret) + human_clips(args.human, "human", secret)
    clips += human_clips(args.digits, "human digits", secret) if args.digits else []
    file = args.folder / ("laboratory.json" if args.heads is None else "heads.json")
    table = {}
    if args.heads is not None:
        table = json.loads(file.read_text()) if file.exists() else {}
        wanted = [name for name in args.heads or HEADS if f"{name}, {args.steps} steps" not in table]
        models = ((f"{name}, {args.steps} steps", model, clips) for name, model in heads(wanted, args, training_clips))
    else:
        encoder = AutoModel.from_pretrained(args.folder / "encoder").eval()
        models = [("nano's encoder", encoder, clips), ("the secret tokenizer", secret, own)]
    for name, model, judged in models:
        table[name] = summarize(score_clips(model, judged))
        for kind, row in table[name].items():
            cells = [f"{row[k]['mean']:.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in ("top_1", "top_5")]
            print(f"{name:34s} {kind:18s} {'  '.join(cells)}  {row['clips']} clips", flush=True)
        file.write_text(json.dumps(table, indent=1))


def synthetic_clips(folder: Path, secret) -> list[Clip]:
    speech = load_speech(folder / "speech", True, lambda row: row["held_out_voice"] and row["held_out_text"])
    picked = np.random.default_rng(0).permutation(len(speech))[:CLIPS]
    return [
        labelled(speech[i].id, "synthetic", speech[i].voice, waveform_16k(speech[i]).numpy(), secret) for i in picked
    ]


def human_clips(folder: Path, kind: str, secret) -> list[Clip]:
    files = list_audio_files(folder)
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:CLIPS]]
    return [
        labelled(f"{kind} {f.stem}", kind, f.stem.split("-")[0], load_audio(f)[: int(HUMAN_S * 16_000)], secret)
        for f in files
    ]


@torch.no_grad()
def labelled(name: str, kind: str, voice: str, waveform: np.ndarray, secret) -> Clip:
    tokens = secret.encode(torch.from_numpy(waveform)[None]).semantic_tokens[0].numpy()
    num_samples = num_samples_of_codec_frames(num_codec_frames(len(tokens)))
    waveform = np.pad(waveform, (0, max(0, num_samples - len(waveform))))[:num_samples]
    return Clip(name, kind, kind, voice, -1, True, tokens, None, waveform)


def heads(names, args, clips):
    """Yield models with each kind of head on the config's features, trained on the same clips for --steps."""
    own = {"steps": args.steps, "checkpoint_every": 0, "log_every": 0, "average": 0.98}
    own["output_dir"] = str(args.folder / "heads")
    config = read_encoder_config(args.config, training=own)
    training = config.training
    bark = BarkModel.from_pretrained(args.folder / "bark")
    features = None
    for name in names:
        set_seed(training.seed)
        head = HEADS[name]
        options = {key: head[key] for key in ("iterations", "label_weight") if key in head}
        head = {key: value for key, value in head.items() if key not in options}
        if head["head_type"] == "embedding":
            head["embedding_size"] = bark.semantic.config.hidden_size
        keep = ("backbone", "backbone_layers", "normalize_features", "vocab_size", "input_level_db")
        model = new_model({**{key: config.model[key] for key in keep}, **head}, training.seed)
        if head["head_type"] == "embedding":
            table = bark.semantic.input_embeds_layer.weight[: model.config.vocab_size]
            model.head.token_embeddings.data.copy_(table / table.std())
        if options:
            model.head.from_centroids(*centroids_of_tokens(model, clips, **options))
        else:
            if features is None:
                batches = new_batches(config, model, clips)
                features = FeatureBatches(model, batches, copies={"nano": 1})
            accelerator = new_accelerator(training)
            model.head = train(HeadOnFeatures(model), features, training, accelerator=accelerator).head
        yield name, model.float().eval()


if __name__ == "__main__":
    main()
