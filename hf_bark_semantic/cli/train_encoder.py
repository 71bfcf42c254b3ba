"""Stage 2. Train an encoder on a labelled corpus.

    accelerate launch -m hf_bark_semantic.cli.train_encoder builtin
    accelerate launch -m hf_bark_semantic.cli.train_encoder my.yaml --fold 0 --output outputs/cv/fold0
    accelerate launch --config_file multi_gpu.yaml -m hf_bark_semantic.cli.train_encoder CONFIG

A config has the sections `corpus` (a `datasets` folder or id), `model` (a backbone and fields of the encoder's
config), `batches` (crops by source, augmentation) and `training` (see TrainingArguments). Optional sections:
`validation` keeps the best model on held-out clips and stops when it no longer improves; `codec_training` trains the
codec front end first; `feature_copies` computes features once and trains the head on them; `distillation` also learns
from other encoders and from recordings without tokens; `streaming` reads the corpus row by row. `model.head_from` sets
the initial weights of the head: `centroids`, another encoder, or a community quantizer. `batches.codec` decodes clips
that have codes but no audio.

With --fold, the clips of that fold, and all clips that may share a voice or a sentence with them, are left out.
`training.json` records the fold for `evaluate_encoder.py`. `{fold}` in a value of the config stands for the number of
the fold, or for `all` without a fold. So a distillation finds the teachers of its fold.

A killed run continues when the same command is started again. Other settings are refused, except for more
`training.steps` and for settings that do not change the weights: the number of processes, workers, logging, the folder
of the corpus.

    output_dir/ model.safetensors config.json processor_config.json training.json     at the end
                best/ last/ validation.json     with `validation`; the weights above are those of best/
                checkpoint/ checkpoint.old/     during the training
                log.jsonl settings.json         the losses; the settings of the run
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from datasets import IterableDataset

from ..corpus.rows import Clip
from ..corpus.stream import StreamedCorpus
from ..publishing import public_name
from ..trainers.distillation import check_encoders, unlabelled_clips
from ..trainers.encoder import train_or_resume
from ..trainers.encoder_config import read_encoder_config
from ..trainers.loop import process_state
from ..trainers.splits import corpus_fingerprint, open_training_corpus, training_clips
from .console import errors_as_one_sentence
from .processes import only_run_in
from .route import after_training, say_next


@errors_as_one_sentence
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a YAML file, or the name of a packaged recipe, such as builtin")
    parser.add_argument("--fold", type=int, help="hold this fold out")
    parser.add_argument("--seed", type=int, help="replaces the config's")
    parser.add_argument("--output", help="replaces the config's output_dir")
    parser.add_argument("--corpus", help="replaces the config's corpus")
    parser.add_argument("--steps", type=int, help="replaces the config's")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="such as batches.crops.prompt=0")
    args = parser.parse_args(arguments)
    overrides = {"seed": args.seed, "output_dir": args.output, "steps": args.steps}
    config = read_encoder_config(args.config, args.set, corpus=args.corpus, training=overrides, fold=args.fold)
    corpus = open_training_corpus(config)
    clips, held_out = training_clips(config, corpus, args.fold)
    say = process_state().print
    if isinstance(clips, StreamedCorpus):
        say("training on a stream, without rows that failed a filter")
    else:
        if failed := sum(bool(clip.failed_filters) for clip in corpus):
            say(f"{failed} clips failed a filter and are left out")
        say(f"{len(clips)} clips, {sum(clip.num_tokens for clip in clips)} tokens to train on")
    if config.validation is not None:
        say(f"{len(held_out)} clips, {sum(clip.num_tokens for clip in held_out)} tokens to validate on")
    origin = {"fold": args.fold, "corpus_fingerprint": corpus_fingerprint(corpus)}
    record = {"config": args.config.name, "fold": args.fold, "corpus": public_name(config.corpus)}
    record["corpus_fingerprint"] = origin["corpus_fingerprint"]
    if config.distillation is not None:
        recordings = unlabelled_clips(config.distillation.recordings)
        clips = [*clips, *recordings]
        origin["teachers"] = check_encoders(config.distillation.encoders, args.fold)
        origin["recordings"] = corpus_fingerprint(recordings)
        record["teachers"] = {Path(place).name: weight for place, weight in config.distillation.encoders.items()}
    with only_run_in(Path(config.training.output_dir), process_state()):
        train_or_resume(config, clips, held_out, origin=origin, record=record)
    if process_state().is_main_process:
        run = Path(config.training.output_dir)
        codec = config.batches.codec
        say_next(*after_training(run, args.fold, shared_options(args), config.corpus, folds_of(corpus), codec))


def shared_options(args: argparse.Namespace) -> list[str]:
    """The options that the trainings of all folds share."""
    options = [str(args.config)]
    for name in ("corpus", "seed", "steps"):
        if (value := getattr(args, name)) is not None:
            options += [f"--{name}", str(value)]
    return options + (["--set", *args.set] if args.set else [])


def folds_of(corpus: Sequence[Clip] | IterableDataset) -> set[int] | None:
    """The folds that can be held out; `None` for a stream, where they are unknown without reading it."""
    return {clip.fold for clip in corpus if clip.in_folds} - {-1} if isinstance(corpus, list) else None


if __name__ == "__main__":
    main()
