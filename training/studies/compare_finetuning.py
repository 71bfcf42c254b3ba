"""Compare fine-tuning a Bark on a voice with prompting it, and measure what the Bark forgets.

    python training/studies/compare_finetuning.py outputs/nano/speech --bark outputs/nano/bark --voice af_kore \\
        --encoder outputs/nano/encoder --output outputs/nano/finetuning
    python training/studies/compare_finetuning.py ... --conditions lora+prompt --subsets
    python training/studies/compare_finetuning.py ... --tokens recovered secret \\
        --secret-tokenizer outputs/nano/secret_tokenizer
    python training/studies/compare_finetuning.py people.csv --voice me ... columns audio, text, speaker, held_out_text

Voices have the format of evaluate_voice.py, and their recordings have the same roles: prompt, enrolment, tests. The
training data are all other recordings of the tuned voice and those of the prompt (up to --minutes), except those with
the text of a test. finetune_bark.py holds some out for early stopping. Conditions, on the same texts and seeds:

    untouched       the original Bark without a prompt: it chooses a voice
    zero-shot       the original Bark, prompted with the voice
    lora, full      Bark tuned on the voice, by LoRA or in all weights, without a prompt
    lora+prompt, full+prompt

`--subsets` repeats the tuned conditions with each subset of the three models tuned; the models are trained
independently, so this needs no further training. `--tokens secret` repeats everything with the tokens of the tokenizer
that nano's speech was made with, in training data and prompts: the difference to `recovered`, the encoder's tokens, is
the effect of the encoder's errors. Trials with seed k use the training with seed k.

Forgetting is measured in two ways: the tuned Bark speaks texts of other held-out voices, with their prompts ("lora,
other voices"); and the loss of each model on their recordings before and after (`losses.json`), beside the loss on the
test recordings of the tuned voice.

    output/trials-0.jsonl audio/ settings.json    every scored trial
           VOICE/TOKENS/training/ judged/         tokens and codes, as from `finetune_bark.py prepare`
           VOICE/TOKENS/METHOD-SEED/              config.yaml and the output of `finetune_bark.py train config.yaml`
           VOICE/TOKENS/METHOD-SEED/losses.json   losses of each test recording, before and after
           summary.json                           figures, differences, losses, commands

A killed command continues when it is started again.
"""

import argparse
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import yaml
from transformers import BarkModel, pipeline

from hf_bark_semantic import VoicePrompt
from hf_bark_semantic.bark.adapter_bundle import load_adapters
from hf_bark_semantic.bark.adapters import merge_adapters
from hf_bark_semantic.bark.configs import STAGES, bark_stage
from hf_bark_semantic.bark.examples import Utterance, collate
from hf_bark_semantic.bark.loading import check_bark, check_encoder, load_bark
from hf_bark_semantic.bark.losses import LOSSES
from hf_bark_semantic.cli.console import errors_as_one_sentence
from hf_bark_semantic.cli.evaluate_voice import (
    SHOWN,
    argument_parser,
    cast,
    load_scorers,
    seeds_of,
    settings_of,
    summary_of,
)
from hf_bark_semantic.cli.finetune_bark import main as train
from hf_bark_semantic.corpus.preparation import prepare_recordings
from hf_bark_semantic.corpus.recordings import Recording
from hf_bark_semantic.corpus.utterances import load_utterances
from hf_bark_semantic.evaluation.journal import Journal
from hf_bark_semantic.evaluation.report import how_made, required_packages
from hf_bark_semantic.evaluation.sequences import normalize_text
from hf_bark_semantic.evaluation.significance import paired_difference, ratio_estimate
from hf_bark_semantic.evaluation.voice_casting import CastVoice
from hf_bark_semantic.evaluation.voice_clips import VoiceClip, load_voice_clips
from hf_bark_semantic.evaluation.voice_figures import compare_pairs, comparisons_table, format_table
from hf_bark_semantic.evaluation.voice_report import write_voice_results
from hf_bark_semantic.evaluation.voice_run import run_trials, write_roles
from hf_bark_semantic.evaluation.voice_scores import Enrolment, Scorers
from hf_bark_semantic.evaluation.voice_trials import Trial, plan_trials
from hf_bark_semantic.evaluation.voice_waveforms import Maker
from hf_bark_semantic.files import write_json
from hf_bark_semantic.packaged import encoder_for
from hf_bark_semantic.pipelines.encoding import TASK
from hf_bark_semantic.publishing import markdown_table
from hf_bark_semantic.trainers.bark_batches import random_example, utterance_of
from hf_bark_semantic.trainers.bark_config import DEFAULT_RATES
from hf_bark_semantic.trainers.settings import set_value

METHODS = ("lora", "full")
CONDITIONS = ("untouched", "zero-shot", *(f"{method}{end}" for method in METHODS for end in ("", "+prompt")))
DEFAULT_CONDITIONS = ("zero-shot", "lora", "lora+prompt", "full")
TOKENS = ("recovered", "secret")
OTHERS = ", other voices"
JUDGED_EXAMPLES = {"semantic": 1, "coarse": 1, "fine": 12}  # of each utterance


@dataclass(frozen=True)
class Arm:
    """One way to make a Bark speak in a voice.

    Args:
        method (`str`, *optional*): the method of tuning; `None` for the original Bark.
        prompted (`bool`): whether the voice is prompted.
        stages (`tuple[str, ...]`): the tuned models.
        tokens (`str`): the origin of the recordings' semantic tokens.
        others (`bool`): whether other voices speak, instead of the tuned one.
    """

    method: str | None
    prompted: bool
    stages: tuple[str, ...] = STAGES
    tokens: str = TOKENS[0]
    others: bool = False

    @classmethod
    def of(cls, condition: str, **values) -> "Arm":
        method, _, prompt = condition.partition("+")
        tuned = method in METHODS
        return cls(method if tuned else None, bool(prompt) or condition == "zero-shot", **values)

    @property
    def name(self) -> str:
        if self.method is None:
            name = "zero-shot" if self.prompted else "untouched"
        else:
            subset = "" if self.stages == STAGES else f"({','.join(self.stages)})"
            name = f"{self.method}{subset}{'+prompt' * (self.prompted and not self.others)}"
        tokens = "" if self.tokens == TOKENS[0] else f", {self.tokens} tokens"
        return name + OTHERS * self.others + tokens

    @property
    def baseline(self) -> "Arm":
        """The same arm without tuning."""
        return Arm(None, True, tokens=self.tokens, others=self.others)


@errors_as_one_sentence
def main(arguments: Sequence[str] | None = None, scorers: Scorers | None = None) -> dict:
    """Run the command; `scorers` replaces the models of the options."""
    args = parse(arguments)
    required_packages()
    study = Study(args, scorers)
    for target in study.targets:
        for tokens in args.tokens:
            study.measure(target, tokens)
    summary = study.summary()
    made = how_made("training/studies/compare_finetuning.py", arguments, seeds=seeds_of(args))
    write_voice_results(args.output, "What fine-tuning on a voice brings", made, summary, columns=SHOWN)
    print(format_table(summary["rows"], SHOWN))
    print("\n" + comparisons_table(summary["comparisons"]))
    print("\n" + losses_table(summary["losses"]))
    return summary


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[argument_parser("")],
        conflict_handler="resolve",
    )
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(DEFAULT_CONDITIONS))
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each method; each speaks every text once")
    parser.add_argument("--limit", type=int, help="test clips of the tuned voice to use, and as many of the others'")
    parser.add_argument("--voice", nargs="+", help="whom to tune on; by default the held-out voice with most sound")
    parser.add_argument("--minutes", type=float, default=5.0, help="to train on, at most")
    parser.add_argument("--subsets", action="store_true", help="also tune each subset of Bark's models alone")
    parser.add_argument("--tokens", nargs="+", choices=TOKENS, default=[TOKENS[0]], help="of recordings")
    parser.add_argument("--secret-tokenizer", help="folder; for --tokens secret")
    parser.add_argument("--steps", type=int, default=500, help="of each model's training, at most")
    parser.add_argument("--lora-rate", type=float, default=DEFAULT_RATES["lora"])
    parser.add_argument("--full-rate", type=float, default=DEFAULT_RATES["full"])
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="of every finetune_bark.py config: lora.rank=8 ..."
    )
    parser.add_argument("--other-voices", type=int, default=3, help="that may be forgotten")
    args = parser.parse_args(arguments)
    if "secret" in args.tokens and not args.secret_tokenizer:
        parser.error("--tokens secret needs --secret-tokenizer FOLDER, such as outputs/nano/secret_tokenizer.")
    return args


class Study:
    """The voices, their arms and trials, and the journal of the trials."""

    def __init__(self, args, scorers: Scorers | None):
        self.args, self.folder = args, args.output
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.clips = load_voice_clips(*args.voices)
        voices, self.left_out = cast(args)
        self.voices = [without_prompted_texts(voice) for voice in voices]
        self.targets = self._targets()
        self.journal = Journal(args.output, self._settings())
        write_roles(args.output / "voices.json", self.voices)
        self._scorers, self._enrolment = scorers, None
        self.bark, self.processor = load_bark(args.bark)
        self.configs = check_bark(self.bark)
        self.bark.to(self.device)
        self.minutes, self.commands = {}, []

    def _targets(self) -> list[CastVoice]:
        by_name = {voice.name: voice for voice in self.voices}
        seconds = Counter()
        for clip in self.clips:
            seconds[clip.voice] += clip.seconds
        names = self.args.voice or [max(by_name, key=lambda name: (seconds[name], name))]
        for name in names:
            if name not in by_name:
                raise SystemExit(f"--voice {name}: the usable held-out voices are {', '.join(by_name)}.")
            if not recorded(by_name[name]):
                raise SystemExit(f"--voice {name}: it has no test recording with a text that its prompt doesn't say.")
        names = list(dict.fromkeys(names))
        if len({file_name(name) for name in names}) < len(names):
            raise SystemExit(f"--voice {' '.join(names)}: two of these would share a folder. Tune on one at a time.")
        return [by_name[name] for name in names]

    def _settings(self) -> dict:
        """The settings that trials depend on; conditions, subsets, tokens, seeds and limit only select trials."""
        args = self.args
        names = ("minutes", "steps", "lora_rate", "full_rate", "set", "other_voices", "secret_tokenizer")
        return {**settings_of(args, self.voices), **{name: getattr(args, name) for name in names}}

    @property
    def scorers(self) -> Scorers:
        if self._scorers is None:
            self._scorers = load_scorers(self.args, self.device)
        return self._scorers

    @property
    def enrolment(self) -> Enrolment:
        if self._enrolment is None:
            self._enrolment = Enrolment(self.voices, self.scorers.embedders)
        return self._enrolment

    # ---- planning

    def arms(self, tokens: str) -> list[Arm]:
        """The arms of the tuned voice, then of others: each tuned Bark, and the original Bark."""
        own = []
        for condition in self.args.conditions:
            whole = Arm.of(condition, tokens=tokens)
            if whole == Arm(None, False, tokens=tokens) and tokens != TOKENS[0]:
                continue  # which reads no tokens of recordings
            own += [replace(whole, stages=stages) for stages in self._stages(whole.method)]
        tuned = [replace(arm, prompted=True, others=True) for arm in own if arm.method]
        return own + list(dict.fromkeys([tuned[0].baseline, *tuned] if tuned else []))

    def _stages(self, method: str | None) -> list[tuple[str, ...]]:
        if method is None or not self.args.subsets:
            return [STAGES]
        return [subset for size in range(len(STAGES), 0, -1) for subset in combinations(STAGES, size)]

    def others(self, target: CastVoice) -> list[CastVoice]:
        """The voices for the measurement of forgetting: the next ones in the cyclic list, of the same source first."""
        place = self.voices.index(target)
        around = [voice for voice in self.voices[place + 1 :] + self.voices[:place] if recorded(voice)]
        around.sort(key=lambda voice: voice.source != target.source)
        return around[: self.args.other_voices]

    def trials(self, target: CastVoice, arm: Arm) -> list[Trial]:
        """An arm's trials with their ids; the part of an id after the last slash is the seed's number."""
        speakers = self.others(target) if arm.others else [target]
        every = plan_trials(
            self.voices, parts=["clone"], conditions=[arm.name], seeds=self.args.seeds, seed=self.args.seed
        )
        chosen = [trial for trial in every if trial.voice in {voice.name for voice in speakers}]
        limit = None if self.args.limit is None else self.args.limit * self.args.seeds
        return [replace(trial, id=f"{file_name(target.name)}/{trial.id}") for trial in chosen[:limit]]

    def originals(self, target: CastVoice) -> list[Trial]:
        every = plan_trials(self.voices, parts=["original"], conditions=[], seed=self.args.seed)
        speakers = {voice.name for voice in (target, *self.others(target))}
        own = [trial for trial in every if trial.voice == target.name][: self.args.limit]
        return own + [trial for trial in every if trial.voice in speakers - {target.name}][: self.args.limit]

    # ---- running

    def measure(self, target: CastVoice, tokens: str) -> None:
        """Run all trials of a voice with one kind of tokens, and measure the losses."""
        args, arms = self.args, self.arms(tokens)
        place = self.folder / file_name(target.name) / tokens
        encoder = self.encoder(tokens)
        codec_maker = partial(Maker, self.bark.codec_model, self.voices, processor=self.processor, encoder=encoder)
        cloned = codec_maker(bark=self.bark).cloned
        training = training_clips(target, self.clips, args.minutes)
        self.minutes[target.name] = sum(clip.seconds for clip in training) / 60
        print(f"{target.name}: {self.minutes[target.name]:.2f} minutes in {len(training)} recordings to train on")
        if self.minutes[target.name] < args.minutes:
            print(f"{target.name} has no more; {args.minutes:g} were asked for.")
        self.speak([(None, self.originals(target))], lambda arm: codec_maker(bark=self.bark))
        untuned = [(arm, self.trials(target, arm)) for arm in arms if arm.method is None]
        self.speak(untuned, lambda arm: ArmMaker.of(codec_maker(bark=self.bark), arm))
        methods = [method for method in METHODS if any(arm.method == method for arm in arms)]
        if not methods:
            return
        self.prepare(place / "training", training, encoder)
        tests = [clip for voice in (target, *self.others(target)) for clip in recorded(voice)]
        self.prepare(place / "judged", tests, encoder)
        for method in methods:
            for number in range(args.seeds):
                run_folder = self.tune(place, method, number)
                mine = [(arm, self.trials(target, arm)) for arm in arms if arm.method == method]
                todo = [(arm, [trial for trial in trials if seed_number(trial) == number]) for arm, trials in mine]
                if self.is_done(todo) and (run_folder / "losses.json").exists():
                    continue
                tuned = load_tuned(args.bark, run_folder).to(self.device)
                self.judge(place / "judged", run_folder, tuned, cloned)

                def maker(arm, tuned=tuned):
                    return ArmMaker.of(codec_maker(bark=with_stages(self.bark, tuned, arm.stages)), arm)

                self.speak(todo, maker)

    def is_done(self, todo: list[tuple[Arm | None, list[Trial]]]) -> bool:
        done = self.journal.records()
        return all(trial.id in done for _, trials in todo for trial in trials)

    def speak(self, todo: list[tuple[Arm | None, list[Trial]]], make: Callable[[Arm | None], Maker]) -> None:
        """Make, score and record the trials of each arm that are not in the journal."""
        done = self.journal.records()
        for arm, trials in todo:
            trials = [trial for trial in trials if trial.id not in done]
            if trials:
                print(f"{arm.name if arm else 'original'}: {len(trials)} trials", flush=True)
                made_with = {"scorers": self.scorers, "enrolment": self.enrolment, "journal": self.journal}
                run_trials(trials, make(arm), **made_with, batch_size=self.args.batch_size)

    def encoder(self, tokens: str):
        args = self.args
        place = args.secret_tokenizer if tokens == "secret" else args.encoder
        place = place or encoder_for(args.bark)
        encoder = pipeline(TASK, model=str(place), device=self.device)
        check_encoder(encoder.model, self.configs.semantic.semantic_vocab_size)
        return encoder

    def prepare(self, folder: Path, clips: Sequence[VoiceClip], encoder) -> None:
        flaws = prepare_recordings(
            [Recording.of_file(clip.id, clip.text, clip.voice, clip.audio) for clip in clips],
            folder,
            encoder=encoder,
            codec=self.bark.codec_model,
            tokenizer=self.processor.tokenizer,
            configs=self.configs,
            description={"encoder": encoder.model.config.name_or_path, "bark": self.args.bark},
        )
        for id, kind, reason in flaws:
            print(f"left out: {id} ({kind}): {reason}")

    def tune(self, place: Path, method: str, number: int) -> Path:
        """Write a config, run `finetune_bark.py train` on it, and return the folder."""
        args, folder = self.args, place / f"{method}-{number}"
        config = {
            "bark": args.bark,
            "data": str(place / "training"),
            "output_dir": str(folder),
            "method": method,
            "lora": {},
            "batches": {},
            "validation": {},
            "training": {"steps": args.steps, "learning_rate": getattr(args, f"{method}_rate"), "seed": number},
            "probe": {"texts": []},
            "samples": [],
        }
        for assignment in args.set:
            set_value(config, assignment)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        self.commands.append(f"python training/finetune_bark.py train {folder / 'config.yaml'}")
        print(self.commands[-1], flush=True)
        train(["train", str(folder / "config.yaml")])
        return folder

    def judge(self, judged: Path, run_folder: Path, tuned: BarkModel, cloned: Callable[[str], VoicePrompt]) -> None:
        """Measure the loss of each test recording before and after, with prompts as in the trials."""
        file = run_folder / "losses.json"
        if file.exists():
            return
        utterances = load_utterances(judged, self.processor.tokenizer, self.configs)
        histories = {name: utterance_of(cloned(name)) for name in dict.fromkeys(u.voice for u in utterances)}
        rows = []
        for stage in STAGES:
            before, after = (
                list(utterance_losses(bark, stage, utterances, histories, self.configs)) for bark in (self.bark, tuned)
            )
            for utterance, (old, count), (new, _) in zip(utterances, before, after, strict=True):
                row = {"stage": stage, "voice": utterance.voice, "id": utterance.id, "targets": count}
                rows.append({**row, "before": old, "after": new})
        write_json(file, rows)

    # ---- results

    def summary(self) -> dict:
        args = self.args
        arms = list(dict.fromkeys(arm for tokens in args.tokens for arm in self.arms(tokens)))
        trials = [trial for target in self.targets for trial in self.originals(target)]
        trials += [trial for target in self.targets for arm in arms for trial in self.trials(target, arm)]
        summary = summary_of(args, self.journal, list(dict.fromkeys(trials)))
        # a clip of one voice may be said by Barks that were tuned on several others
        records = [{**r, "clip": f"{r['id'].split('/')[0]} {r['clip']}"} for r in summary["records"]]
        return {
            **summary,
            "voices": self.voices,
            "left_out": self.left_out,
            "training_minutes": self.minutes,
            "commands": self.commands,
            "comparisons": compare_pairs(summary["rows"], records, pairs_of(arms), seed=args.seed),
            "losses": [row for target in self.targets for row in self.losses(target)],
        }

    def losses(self, target: CastVoice) -> Iterator[dict]:
        """Loss before and after, of each model, on the tests of the tuned voice and on those of others."""
        for tokens in self.args.tokens:
            for method in METHODS:
                files = [
                    self.folder / file_name(target.name) / tokens / f"{method}-{number}" / "losses.json"
                    for number in range(self.args.seeds)
                ]
                found = [row for file in files if file.exists() for row in json.loads(file.read_text())]
                for stage, own in [(stage, own) for stage in STAGES for own in (True, False)]:
                    rows = [row for row in found if row["stage"] == stage and (row["voice"] == target.name) == own]
                    if rows:
                        head = {"voice": target.name, "tokens": tokens, "method": method, "stage": stage}
                        head |= {"of": "the voice" if own else "other voices"}
                        yield {**head, **loss_figures(rows, self.args.seed)}


class ArmMaker(Maker):
    """A [`Maker`] with the prompts of an arm."""

    arm: Arm

    @classmethod
    def of(cls, maker: Maker, arm: Arm) -> "ArmMaker":
        made = cls(
            maker.codec, list(maker.voices.values()), bark=maker.bark, processor=maker.processor, encoder=maker.encoder
        )
        made.arm = arm
        return made

    def condition(self, trial: Trial) -> tuple[VoicePrompt | None, str]:
        return (self.cloned(trial.voice), "full") if self.arm.prompted else (None, "none")


def file_name(voice: str) -> str:
    """A valid folder name for any name of a voice."""
    return re.sub(r"[^\w@+-]", "_", voice)


def seed_number(trial: Trial) -> int:
    return int(trial.id.rpartition("/")[2])


def without_prompted_texts(voice: CastVoice) -> CastVoice:
    """The voice without tests that have a text of its prompt."""
    said = {normalize_text(clip.text) for clip in voice.prompt}
    return replace(voice, tests=tuple(clip for clip in voice.tests if normalize_text(clip.text) not in said))


def recorded(voice: CastVoice) -> list[VoiceClip]:
    """The tests of a voice that have recordings."""
    return [clip for clip in voice.tests if clip.audio is not None]


def training_clips(voice: CastVoice, clips: Sequence[VoiceClip], minutes: float) -> list[VoiceClip]:
    """The recordings to train on: the prompt's, then others in random order, until they last for `minutes`.

    Raises:
        SystemExit: there are fewer than two texts, so that none can be set aside for validation.
    """
    tested = {normalize_text(clip.text) for clip in voice.tests}
    taken = {clip.id for clip in (*voice.prompt, *voice.enrolment, *voice.tests)}
    used = {clip.audio for clip in (*voice.enrolment, *voice.tests)}
    free = [clip for clip in clips if clip.voice == voice.name and clip.id not in taken and clip.audio not in used]
    free.sort(key=lambda clip: zlib.crc32(clip.id.encode()))
    chosen, seconds = [], 0.0
    for clip in (*voice.prompt, *free):
        if normalize_text(clip.text) not in {"", *tested} and seconds + clip.seconds <= 60 * minutes:
            chosen.append(clip)
            seconds += clip.seconds
    if len({normalize_text(clip.text) for clip in chosen}) < 2:
        raise SystemExit(
            f"{voice.name} has {len(chosen)} recordings to train on whose text no test says; at least two texts are "
            "needed. Name a voice with more, lower --texts-per-voice, or mark the tests by a column `held_out_text`."
        )
    return chosen


def load_tuned(bark: str, folder: Path) -> BarkModel:
    """The result of finetune_bark.py in a folder, as a plain Bark."""
    if (folder / "bark").is_dir():
        return load_bark(folder / "bark")[0]
    tuned, _ = load_bark(bark)
    load_adapters(tuned, folder / "adapter")
    return merge_adapters(tuned).eval()


def with_stages(bark: BarkModel, tuned: BarkModel, stages: Sequence[str]) -> BarkModel:
    """A Bark with the tuned models of `stages`, and the other models of `bark`."""
    if set(stages) == set(STAGES):
        return tuned
    mixed = deepcopy(bark)
    for stage in stages:
        bark_stage(mixed, stage).load_state_dict(bark_stage(tuned, stage).state_dict())
    return mixed


@torch.no_grad()
def utterance_losses(
    bark: BarkModel, stage: str, utterances: Sequence[Utterance], histories: dict[str, Utterance], configs
) -> Iterator[tuple[float, int]]:
    """The summed loss of a stage and the number of targets for each utterance, with its voice's history.

    The examples are always the same; the fine stage has several per utterance, because each is for one codebook.
    """
    loss = LOSSES[stage](bark_stage(bark, stage), configs).eval()
    for index, utterance in enumerate(utterances):
        rng, total, targets = np.random.default_rng(index), 0.0, 0
        for _ in range(JUDGED_EXAMPLES[stage]):
            example = random_example(stage, utterance, histories[utterance.voice], configs, rng)
            batch = {name: tensor.to(bark.device) for name, tensor in collate([example], configs).items()}
            output = loss(**batch)
            total += float(output.loss) * int(output.num_targets)
            targets += int(output.num_targets)
        yield total, targets


def loss_figures(rows: Sequence[dict], seed: int) -> dict:
    """Mean loss before and after, and the difference, with intervals by bootstrap over voices."""
    before, after, counts = ([row[name] for row in rows] for name in ("before", "after", "targets"))
    groups = [row["voice"] for row in rows]
    return {
        "before": asdict(ratio_estimate(before, counts, groups=groups, seed=seed)),
        "after": asdict(ratio_estimate(after, counts, groups=groups, seed=seed)),
        "change": asdict(paired_difference(after, before, counts, groups=groups, seed=seed)),
    }


def pairs_of(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Pairs to compare: each arm and the prompted original Bark; the encoder's tokens and the secret ones."""
    pairs = [(arm, arm.baseline) for arm in arms if arm != arm.baseline]
    pairs += [(arm, replace(arm, tokens=TOKENS[1])) for arm in arms if arm.tokens == TOKENS[0]]
    return list(dict.fromkeys((first.name, second.name) for first, second in pairs))


def losses_table(rows: Sequence[dict]) -> str:
    names = ("before", "after", "change")
    cells = []
    for row in rows:
        figures = [f"{row[name]['value']:.4f} [{row[name]['low']:.4f}, {row[name]['high']:.4f}]" for name in names]
        cells.append([*(row[name] for name in ("voice", "tokens", "method", "stage", "of")), *figures])
    return markdown_table(["tuned on", "tokens", "method", "model", "loss of", *names], cells)


if __name__ == "__main__":
    main()
