"""Fine-tune Bark on recordings: full weights, LoRA or QLoRA, any of its three models.

    python -m hf_bark_semantic.cli.finetune_bark prepare my_voice --output outputs/my_voice --bark suno/bark-small
    accelerate launch -m hf_bark_semantic.cli.finetune_bark train finetune_lora
    python -m hf_bark_semantic.cli.finetune_bark merge outputs/my_voice_lora/adapter --bark suno/bark-small \\
        --output my_bark
    python -m hf_bark_semantic.cli.finetune_bark push outputs/my_voice_lora/adapter me/my-voice --license cc-by-4.0

    before   my_voice/              metadata.csv and the files that it names (or a dataset's folder or Hub id)
    prepare  outputs/my_voice/      data/*.parquet (tokens and codes), shards/*.json (what was left out and why)
    train    outputs/my_voice_lora/ adapter/ (a bundle; `bark/` where all weights were trained), report.json,
                                    samples/*.wav (before, and after each stage), probe/ (Bark's own speech),
                                    semantic/ coarse/ fine/ (log.jsonl, validation.json, best/)

A config is a YAML file, or a recipe of the package: finetune_lora, finetune_full, finetune_nano. A killed command
continues when it is started again. `prepare` loads only the codec, the tokenizer and the configs of the Bark. The
processes of `accelerate launch` share its work; on CPUs, use `ACCELERATE_USE_CPU=1 torchrun --nproc_per_node N -m`. A
stage of `train` stops when its loss on held-out utterances has not fallen for some time, and its best weights are
kept. `probe/` is speech of the Bark before training: with [laughs], with ♪, in other voices. Its loss before and after
shows what was forgotten.
"""

import argparse
from pathlib import Path

from transformers import pipeline

from ..bark.adapter_bundle import load_adapters
from ..bark.adapters import merge_adapters, set_adapters
from ..bark.loading import check_encoder, load_bark, load_bark_codec, save_bark
from ..bark.text_informed import DEFAULT_WEIGHT, TextInformedDecoder
from ..corpus.columns import COLUMNS_HELP, parse_columns
from ..corpus.flaws import describe_flaws
from ..corpus.preparation import prepare_recordings
from ..corpus.recordings import read_recordings
from ..corpus.utterances import load_utterances
from ..packaged import BUILTIN, NANO, named_encoder
from ..pipelines.encoding import TASK
from ..publishing import public_name
from ..trainers.bark import FineTuning
from ..trainers.bark_batches import minutes
from ..trainers.bark_config import read_bark_config
from ..trainers.loop import process_state
from . import publish
from .console import errors_as_one_sentence
from .processes import only_run_in, start_processes
from .route import after_fine_tuning, after_preparation, say_next, speaking


@errors_as_one_sentence
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    prepare = commands.add_parser("prepare", help="recordings with transcripts to tokens and codes")
    prepare.add_argument("recordings", help="folder with a metadata.csv, a table, or a dataset's folder or Hub id")
    prepare.add_argument("--columns", metavar="audio=..,text=..,speaker=..", help=COLUMNS_HELP)
    prepare.add_argument("--audio-folder", help="folder that the paths of a table start from (default: its own)")
    prepare.add_argument("--output", type=Path, required=True, help="folder of the tokens and codes")
    prepare.add_argument("--bark", default=NANO, help="the Bark to train: Hub id, folder or nano (default: nano)")
    prepare.add_argument(
        "--encoder", nargs="+", default=[BUILTIN],
        help="encoder to its tokens: Hub id, folder or name; several form an ensemble (default: builtin)",
    )  # fmt: skip
    prepare.add_argument("--encoder-weights", nargs="+", type=float, help="one for each of several (default: equal)")
    prepare.add_argument("--split", default="train", help="split of a dataset (default: train)")
    prepare.add_argument(
        "--text-informed", nargs="?", type=float, const=DEFAULT_WEIGHT, metavar="WEIGHT",
        help=f"tokens that both encoder and Bark find likely; WEIGHT of Bark, by default {DEFAULT_WEIGHT}",
    )  # fmt: skip
    prepare.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: the process's own GPU, or the CPU)")
    prepare.set_defaults(command=run_prepare)

    training = commands.add_parser("train", help="fine-tune")
    training.add_argument("config", help="a YAML file, or a recipe: finetune_lora, finetune_full, finetune_nano")
    training.add_argument("--output", help="replaces the config's output_dir")
    training.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="such as training.steps=100")
    training.set_defaults(command=run_train)

    merge = commands.add_parser("merge", help="merge adapters into a plain Bark that any program loads")
    merge.add_argument("adapter", help="bundle: folder or Hub id")
    merge.add_argument("--bark", required=True, help="the Bark that it was trained on: Hub id, folder or nano")
    merge.add_argument("--weight", type=float, default=1.0, help="factor of the adapter's updates (default: 1)")
    merge.add_argument("--output", type=Path, required=True, help="folder of the merged Bark")
    merge.set_defaults(command=run_merge)

    push = commands.add_parser("push", help="publish a bundle of adapters, as publish.py does")
    publish.add_arguments(push)
    push.set_defaults(command=publish.run)
    args = parser.parse_args(arguments)
    args.command(args)


def run_prepare(args) -> None:
    accelerator = start_processes(cpu=args.device == "cpu")
    device = args.device or accelerator.device
    codec, processor, configs = load_bark_codec(args.bark)
    model = named_encoder(args.encoder, args.bark)
    encoder = pipeline(TASK, model=model, weights=args.encoder_weights, device=device)
    names = public_name(model) if isinstance(model, str) else [public_name(place) for place in model]
    weights = {} if args.encoder_weights is None else {"encoder_weights": args.encoder_weights}
    check_encoder(encoder.model, configs.semantic.semantic_vocab_size)
    recordings = read_recordings(
        args.recordings,
        split=args.split,
        columns=parse_columns(args.columns),
        audio_folder=args.audio_folder,
        log=accelerator.print,
    )
    decoder = None
    if args.text_informed is not None:
        decoder = TextInformedDecoder(load_bark(args.bark)[0].to(device), processor, weight=args.text_informed)
    with only_run_in(args.output, accelerator):
        flaws = prepare_recordings(
            recordings,
            args.output,
            encoder=encoder,
            codec=codec.to(device),
            tokenizer=processor.tokenizer,
            configs=configs,
            description={"encoder": names, "bark": public_name(args.bark), **weights},
            decoder=decoder,
        )
    if not accelerator.is_main_process:
        return
    if flaws:
        print(f"Left out: {len(flaws):,} of {len(recordings):,} recordings. {args.output / 'shards'} has all reasons.")
        print(describe_flaws(flaws))
    utterances = load_utterances(args.output, processor.tokenizer, configs)
    print(
        f"{args.output}: {len(utterances)} of {len(recordings)} recordings, {minutes(utterances):.1f} minutes, "
        f"{len({utterance.voice for utterance in utterances})} voices."
    )
    say_next(*after_preparation(args.bark, args.output))


def run_train(args) -> None:
    config = read_bark_config(args.config, args.set, output_dir=args.output)
    with only_run_in(Path(config.output_dir), process_state()):
        tuning = FineTuning(config)
        tuning.run()
    if tuning.state.is_main_process:
        say_next(*after_fine_tuning(config.bark, Path(config.output_dir)))


def run_merge(args) -> None:
    bark, processor = load_bark(args.bark)
    bundle = load_adapters(bark, args.adapter)
    set_adapters(bark, {bundle.name: args.weight})
    save_bark(merge_adapters(bark), processor, args.output)
    print(args.output)
    say_next(*speaking(args.output, Path(args.adapter)))


if __name__ == "__main__":
    main()
