"""Compare all heads on the same features, folds, batches and steps.

    python training/studies/compare_heads.py training/configs/teacher_tiny.yaml --json outputs/heads.json

Corpus, backbone, augmentation and crop length are those of the config, but with one layer of the backbone, natural
pairs only and fewer steps, so that the heads of earlier systems have their original inputs. Features are computed once
per fold and shared. Scores are free-running, on the held-out voices and sentences of the fold. With --save, the
encoders of a head are saved as `FOLDER/HEAD/foldN`, an entry for `benchmark_encoders.py`.
"""

import argparse
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

from accelerate.utils import set_seed

from hf_bark_semantic import BarkSemanticEncoderModel
from hf_bark_semantic.corpus.rows import load_corpus, split_fold
from hf_bark_semantic.evaluation.tokens import ClipScore, score_clips, summarize
from hf_bark_semantic.trainers.encoder import HeadOnFeatures, new_batches, save_encoder
from hf_bark_semantic.trainers.encoder_batches import FeatureBatches
from hf_bark_semantic.trainers.encoder_config import read_encoder_config
from hf_bark_semantic.trainers.initial_heads import centroids_of_tokens
from hf_bark_semantic.trainers.loop import new_accelerator, train

HEADS = {
    "k-means: token means": {"head_type": "linear", "iterations": 0},
    "k-means: 3 iterations": {"head_type": "linear", "iterations": 3, "label_weight": 0.0},
    "k-means: 3 iterations, half held": {"head_type": "linear", "iterations": 3},
    "linear": {"head_type": "linear", "dropout": 0.15},
    # Bark's embeddings need Suno's weights; a random table of the same shape has the same geometry: all rows far apart
    "embedding regression, linear": {"head_type": "embedding", "num_hidden_layers": 0},
    "community LSTM": {
        "head_type": "recurrent",
        "hidden_size": 1024,
        "num_hidden_layers": 2,
        "intermediate_size": 4096,
    },
    "autoregressive": {
        "head_type": "autoregressive",
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "dropout": 0.1,
    },
    "transformer": {
        "head_type": "transformer",
        "num_hidden_layers": 2,
        "conv_kernel_size": 3,
        "dropout": 0.15,
        "label_smoothing": 0.1,
    },
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--layer", type=int, default=3, help="of the backbone")
    parser.add_argument("--frame-offset", type=int, default=0, help="another alignment of tokens and frames")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--copies", type=int, default=4, help="augmented copies of the features")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=list(HEADS), metavar="HEAD")
    parser.add_argument(
        "--json", type=Path, required=True, help="figures; what it holds already is not computed again"
    )
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep the encoders, too")
    args = parser.parse_args(arguments)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    config = read_encoder_config(args.config)
    clips = [clip for clip in load_corpus(config.corpus) if clip.source == "pair"]
    done = json.loads(args.json.read_text()) if args.json.exists() else {}
    for fold in args.folds:
        wanted = [name for name in args.heads if f"{name}, fold {fold}" not in done or not is_saved(name, fold, args)]
        for name, model, held_out in trained_heads(wanted, clips, fold, config, args):
            scores = score_clips(model, held_out)
            if args.save is not None:
                record = {"config": args.config.name, "fold": fold, "seed": config.training.seed}
                save_encoder(model, saved_folder(name, fold, args), {**record, "head": name, "steps": args.steps})
            done[f"{name}, fold {fold}"] = [asdict(score) for score in scores]
            args.json.write_text(json.dumps(done))
    for name in args.heads:
        scores = [ClipScore(**s) for fold in args.folds for s in done[f"{name}, fold {fold}"]]
        for kind, row in summarize(scores).items():
            cells = [f"{row[k]['mean']:.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in ("top_1", "top_5")]
            print(f"{name:34s} {kind:16s} {'  '.join(cells)}")


def saved_folder(name: str, fold: int, args) -> Path:
    return args.save / re.sub(r"\W+", "_", name) / f"fold{fold}"


def is_saved(name: str, fold: int, args) -> bool:
    return args.save is None or (saved_folder(name, fold, args) / "model.safetensors").is_file()


def trained_heads(names, clips, fold, config, args):
    """Yield the name of each head, the encoder trained without the fold, and the clips of the fold."""
    training_clips, held_out = split_fold(clips, fold)
    crops = {"pair": sum(config.batches.crops.values())}
    own = {"steps": args.steps, "checkpoint_every": 0, "log_every": 0, "average": 0.98}
    own["output_dir"] = str(args.json.with_suffix(""))
    training = replace(config.training, **own)
    config = replace(config, training=training, batches=replace(config.batches, crops=crops), feature_copies=None)
    backbone, features = config.model["backbone"], None
    for name in names:
        head = {key: value for key, value in HEADS[name].items() if key not in ("iterations", "label_weight")}
        set_seed(training.seed)
        model = BarkSemanticEncoderModel.from_backbone(
            backbone,
            backbone_layers=[args.layer],
            normalize_features=True,
            frame_offset=args.frame_offset,
            **head,
        )
        if "iterations" in HEADS[name]:
            options = {key: HEADS[name][key] for key in ("iterations", "label_weight") if key in HEADS[name]}
            model.head.from_centroids(*centroids_of_tokens(model, training_clips, **options))
        else:
            if features is None:
                batches = new_batches(config, model, training_clips)
                features = FeatureBatches(model, batches, copies={"pair": args.copies})
            accelerator = new_accelerator(training)
            model.head = train(HeadOnFeatures(model), features, training, accelerator=accelerator).head
        if hasattr(model.backbone, "augmentation"):
            model.backbone.augmentation = None
        yield name, model.float().eval(), held_out


if __name__ == "__main__":
    main()
