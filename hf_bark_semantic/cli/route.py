"""The next command after each command of the two workflows.

texts       generate_corpus -> (fold_corpus) -> train_encoder -> evaluate_encoder -> package_encoder -> publish
recordings  finetune_bark prepare -> train -> merge -> bark-semantic speak

say_next                            print "Next: ...", at the end of every command
script                              the arguments of a command
folding, first_training             the command after generate_corpus, without and with folds
after_training, after_evaluation    the command after these, from the folders beside the training
after_preparation, after_fine_tuning, speaking    the commands for fine-tuning
"""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from huggingface_hub import RepoCard

from ..packaged import NANO
from ..publishing import CARD
from ..trainers.records import training_record

NUM_FOLDS = 5
SCORES = "scores.json"
SPOKEN = "The train to the airport leaves at seven."


def say_next(*command: object) -> None:
    """Print the next command."""
    print(f"Next: {shlex.join(map(str, command))}", flush=True)


def script(name: str, *options: object) -> list[object]:
    """A command of the package in one process; `accelerate launch` would add a traceback to each error message."""
    return ["python", "-m", f"hf_bark_semantic.cli.{name}", *options]


def first_training(corpus: object, model: str) -> list[object]:
    """The training without the first fold of a corpus, with a recipe for the corpus' Bark."""
    recipe = "nano_corpus" if model == NANO else "hubert_base"
    return script("train_encoder", recipe, "--corpus", corpus, "--fold", 0, "--output", "cv/fold0")


def folding(corpus: object) -> list[object]:
    """The command that adds folds to a corpus."""
    return script("fold_corpus", corpus, "--folds", NUM_FOLDS, "--output", f"{str(corpus).rstrip('/')}_folds")


def trainings_beside(run: Path) -> dict[int | None, Path]:
    """All finished trainings on the same corpus in a training's parent folder, by held-out fold."""
    fingerprint = (training_record(str(run)) or {}).get("corpus_fingerprint")
    records = {folder: training_record(str(folder)) for folder in sorted(run.parent.iterdir()) if folder.is_dir()}
    return {
        record.get("fold"): folder
        for folder, record in records.items()
        if record is not None and record.get("corpus_fingerprint") == fingerprint
    }


def after_training(
    run: Path,
    fold: int | None,
    options: Sequence[object],
    corpus: object,
    folds: Collection[int] | None,
    codec: str | None,
) -> list[object]:
    """The training without the next fold, then that on all folds, then the evaluation of all trainings.

    Args:
        run (`Path`), fold (`int`, *optional*): the folder of the finished training, and its held-out fold.
        options (`Sequence`): the options of its command, without `--fold` and `--output`.
        corpus: folder or Hub id.
        folds (`Collection[int]`, *optional*): the folds of the corpus; by default, those of the trainings.
        codec (`str`, *optional*): the codec that decoded its codes.
    """
    runs = trainings_beside(run)
    everything = runs.pop(None, None)
    folds = {fold for fold in runs if fold is not None} if folds is None else set(folds)
    missing = sorted(folds - runs.keys())
    if not folds:
        return folding(corpus)
    if missing:
        is_numbered = fold is not None and run.name.endswith(str(fold))
        output = run.parent / f"{run.name.removesuffix(str(fold)) if is_numbered else 'fold'}{missing[0]}"
        return script("train_encoder", *options, "--fold", missing[0], "--output", output)
    if everything is None:
        return script("train_encoder", *options, "--output", run.parent / "all")
    decoding = [] if codec is None else ["--codec", codec]
    measured = [runs[fold] for fold in sorted(folds)]
    return script("evaluate_encoder", *measured, "--corpus", corpus, *decoding, "--json", run.parent / SCORES)


def after_evaluation(
    encoders: Sequence[str], folds: Collection[int], corpus: str, scores: Path
) -> list[object] | None:
    """The packaging of the training on all folds; `None` if there is none beside the measured encoders.

    Args:
        encoders (`Sequence[str]`): the measured encoders.
        folds (`Collection[int]`): their held-out folds.
        corpus (`str`): the corpus of the measurement; the licence in its card is proposed.
        scores (`Path`): the file of the figures.
    """
    run = Path(encoders[0])
    if not (run / "training.json").is_file():
        return None
    everything = trainings_beside(run).get(None) if folds else run
    if everything is None:
        return None
    card = Path(corpus) / CARD
    license_id = RepoCard.load(card).data.get("license") if card.is_file() else None
    licence = [] if license_id is None else ["--license", license_id]
    return script("package_encoder", everything, "--scores", scores, "--output", "my-encoder", *licence)


def after_preparation(bark: str, prepared: Path) -> list[object]:
    """The fine-tuning of a Bark on prepared recordings."""
    recipe = ["finetune_nano", "--set"] if bark == NANO else ["finetune_lora", "--set", f"bark={bark}"]
    return script("finetune_bark", "train", *recipe, f"data={prepared}", "--output", f"{prepared}_lora")


def after_fine_tuning(bark: str, folder: Path) -> list[object]:
    """The merging of adapters after a fine-tuning, or speech by the fine-tuned Bark."""
    if (folder / "bark").is_dir():
        return speaking(folder / "bark", folder / "bark")
    merged = ["--bark", bark, "--output", folder / "merged"]
    return script("finetune_bark", "merge", folder / "adapter", *merged)


def speaking(bark: Path, voice: Path) -> list[object]:
    """Speech by a fine-tuned Bark, in the voice of a folder if it has one."""
    prompt = ["--voice", voice / "voice.npz"] if (voice / "voice.npz").is_file() else []
    return ["bark-semantic", "speak", SPOKEN, "--bark", bark, *prompt, "--output", "speech.wav"]


__all__ = [
    "NUM_FOLDS",
    "SCORES",
    "after_evaluation",
    "after_fine_tuning",
    "after_preparation",
    "after_training",
    "first_training",
    "folding",
    "say_next",
    "script",
    "speaking",
]
