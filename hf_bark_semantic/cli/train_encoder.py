"""Stage 2. Train an encoder on a labelled corpus.

    accelerate launch training/train_encoder.py training/configs/builtin.yaml
    accelerate launch training/train_encoder.py training/configs/builtin.yaml --fold 0 --output outputs/cv/fold0
    accelerate launch --config_file training/configs/accelerate/multi_gpu.yaml training/train_encoder.py CONFIG

A config has these parts: `corpus` (a `datasets` folder or id), `model` (a backbone and fields of the encoder's
config), `batches` (crops by source, augmentation) and `training` (see TrainingArguments). With `validation`, the best
model on held-out clips is what is saved, and training stops when it gets no better; with `codec_training`, the codec
front end first learns what its codes sound like; with `feature_copies`, the head is trained on features that are
computed once; with `streaming`, the corpus is read row by row. `model.head_from` says where the head starts:
`centroids`, another encoder, or a community quantizer; `batches.codec` turns codes without sound into sound.
Killed, it goes on where it was when it is started again. With --fold, the clips of that fold and all
that may share a voice or a sentence with them are left out, and the run remembers the fold for `evaluate_encoder.py`.

    output_dir/ model.safetensors config.json processor_config.json training.json     when it is done
                best/ last/ validation.json     with `validation`: the best one is also what lies above
                checkpoint/ checkpoint.old/     while it runs
                log.jsonl
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from ..corpus.stream import StreamedCorpus
from ..trainers.encoder import save_encoder, train_encoder, training_clips
from ..trainers.encoder_config import read_encoder_config
from ..trainers.loop import new_accelerator, remove_checkpoints


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--fold", type=int, help="hold this fold out")
    parser.add_argument("--seed", type=int, help="instead of the config's")
    parser.add_argument("--output", help="instead of the config's output_dir")
    parser.add_argument("--corpus", help="instead of the config's corpus")
    parser.add_argument("--steps", type=int, help="instead of the config's")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="such as batches.crops.prompt=0")
    args = parser.parse_args(arguments)
    overrides = {"seed": args.seed, "output_dir": args.output, "steps": args.steps}
    config = read_encoder_config(args.config, args.set, corpus=args.corpus, training=overrides)
    training = config.training
    if (Path(training.output_dir) / "model.safetensors").exists():
        print(f"{training.output_dir} holds a trained model already; nothing to do.")
        return
    accelerator = new_accelerator(training)
    clips, held_out = training_clips(config, args.fold)
    if isinstance(clips, StreamedCorpus):
        accelerator.print("training on a stream")
    else:
        accelerator.print(f"{len(clips)} clips, {sum(clip.num_tokens for clip in clips)} tokens to train on")
    if config.validation is not None:
        accelerator.print(f"{len(held_out)} clips, {sum(clip.num_tokens for clip in held_out)} tokens to validate on")
    model = train_encoder(config, clips, accelerator, held_out)
    if accelerator.is_main_process:
        record = {"config": args.config.name, "fold": args.fold, "seed": training.seed, "steps": training.steps}
        if not isinstance(clips, StreamedCorpus):
            record["clips"] = dict(Counter(clip.source for clip in clips if clip.source in config.sources))
        if config.validation is not None:
            figures = json.loads((Path(training.output_dir) / "validation.json").read_text())
            record["validation"] = {"held_out": [clip.id for clip in held_out], "figures": figures}
        save_encoder(model, Path(training.output_dir), record)
    remove_checkpoints(training.output_dir, accelerator)
    accelerator.end_training()


if __name__ == "__main__":
    main()
