"""Disturb every long command many times, and count how often the results are those of an undisturbed run.

    python tests/kills/run_kills.py --kills 100 --output outputs/kills
    python tests/kills/run_kills.py --kills 20 --only train_encoder --seed 1 --output outputs/kills

A trial starts a command of stages.py, sends it one to three signals at random moments (SIGKILL, SIGTERM, SIGINT, or
SIGSTOP and, half a second later, SIGCONT; to one process or to all), starts it again after each, finally lets it
finish, and compares its output with an undisturbed run. The seed determines signals, moments and numbers of processes;
a moment is a share of the undisturbed run's time. If this command is killed, it continues when it is started again.

    output/ trials-0.jsonl   a line per trial
            kills.json       figures by command, and every failed trial
            work/            folders of failed trials
"""

import argparse
import itertools
import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from hf_bark_semantic.evaluation.journal import Journal
from hf_bark_semantic.files import write_json
from hf_bark_semantic.publishing import markdown_table
from kills.comparison import differences
from kills.faults import BLOCK, FAULTS, Case, concerns
from kills.harness import SIGNALS, Trial
from kills.stages import STAGES, Stage
from processes import in_child

MOST_SIGNALS = 3  # per trial


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="signals that must reach a running command")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="COMMAND")
    parser.add_argument(
        "--faults", nargs="*", choices=FAULTS, default=list(FAULTS), metavar="FAULT", help="of faults.py"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    journal = Journal(args.output, {"seed": args.seed})
    undisturbed: dict[str, Undisturbed] = {}
    for name, what in planned(args):
        id, done = f"{name} {what}", journal.records()
        if isinstance(what, int) and sum(len(record["signals"]) for record in done.values()) >= args.kills:
            break
        if id in done:
            continue
        if name not in undisturbed:
            undisturbed[name] = Undisturbed(STAGES[name], args.output / "undisturbed" / name.replace(" ", "-"))
        journal.add({"id": id, "command": name, **disturb(undisturbed[name], id, what, args)})
        print(json.dumps(journal.records()[id]), flush=True)
    summary = summarize(list(journal.records().values()))
    write_json(args.output / "kills.json", summary)
    print(table_of(summary))
    return summary


def planned(args: argparse.Namespace) -> Iterator[tuple[str, str | int]]:
    """Yield commands with each fault, then with numbers of trials with signals, as long as trials are needed."""
    for fault in args.faults:
        yield from ((name, fault) for name in args.only if concerns(fault, STAGES[name]))
    for number in itertools.count():
        yield from ((name, number) for name in args.only)


class Undisturbed:
    """An undisturbed run: its inputs, its output and its duration."""

    def __init__(self, stage: Stage, folder: Path):
        shutil.rmtree(folder, ignore_errors=True)
        self.stage, self.inputs = stage, folder / "inputs"
        self.inputs.mkdir(parents=True)
        stage.start()
        writer = in_child(stage.make_inputs, self.inputs)
        writer.join()
        assert writer.exitcode == 0, stage.name
        trial = Trial(stage, self.inputs, folder)
        self.seconds = trial.finish(stage.num_processes[-1])
        self.outcome = trial.outcome()
        files = [path for path in trial.output.parent.rglob("*") if path.is_file()]
        self.num_bytes = sum(-(-file.stat().st_size // BLOCK) * BLOCK for file in files)


def disturb(undisturbed: Undisturbed, id: str, what: str | int, args: argparse.Namespace) -> dict[str, Any]:
    """Run one trial and record its signals or its fault, and the differences from the undisturbed run."""
    rng, started = random.Random(f"{args.seed} {id}"), time.monotonic()
    folder = args.output / "work" / id.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    trial = Trial(undisturbed.stage, undisturbed.inputs, folder)
    record: dict[str, Any] = {"fault": what if isinstance(what, str) else None, "signals": [], "flaws": []}
    try:
        if isinstance(what, str):
            with FAULTS[what](Case(trial, rng, undisturbed.seconds, undisturbed.num_bytes)) as flaws:
                record["flaws"] += flaws
                finish_and_compare(trial, undisturbed, rng, record)
        else:
            send_signals(trial, rng, undisturbed.seconds, record["signals"])
            finish_and_compare(trial, undisturbed, rng, record)
    except (RuntimeError, TimeoutError, OSError, ValueError) as error:
        record["flaws"].append(str(error))
    if not record["flaws"]:
        shutil.rmtree(folder)
    return {**record, "seconds": round(time.monotonic() - started, 1)}


def send_signals(trial: Trial, rng: random.Random, seconds: float, sent: list[dict[str, Any]]) -> None:
    """Start the command up to three times, with a signal at a random moment of each run."""
    for _ in range(rng.randint(1, MOST_SIGNALS)):
        name, whom, moment = rng.choice(list(SIGNALS)), rng.choice(["one", "all"]), rng.random()
        num_processes = rng.choice(trial.stage.num_processes)
        trial.start(num_processes)
        if trial.signal(SIGNALS[name], whom, after_s=moment * seconds, rng=rng):
            sent.append({"signal": name, "whom": whom, "moment": round(moment, 3), "processes": num_processes})
        if not any(trial.wait()):
            return  # the command has finished


def finish_and_compare(trial: Trial, undisturbed: Undisturbed, rng: random.Random, record: dict[str, Any]) -> None:
    trial.finish(rng.choice(trial.stage.num_processes))
    outcome = trial.outcome()
    record["flaws"] += differences(undisturbed.outcome, outcome)
    record["bit_for_bit"] = not differences(undisturbed.outcome, outcome, exact=True)


def summarize(records: Sequence[dict]) -> dict[str, Any]:
    commands = {}
    for name in dict.fromkeys(record["command"] for record in records):
        own = [record for record in records if record["command"] == name]
        sent = [signal for record in own for signal in record["signals"]]
        commands[name] = {
            "trials": len(own),
            "faults": sum(record["fault"] is not None for record in own),
            "signals": len(sent),
            **{signal: sum(s["signal"] == signal for s in sent) for signal in SIGNALS},
            "equal": sum(not record["flaws"] for record in own),
            "bit_for_bit": sum(bool(record.get("bit_for_bit")) for record in own),
        }
    return {"commands": commands, "not_survived": [record for record in records if record["flaws"]]}


def table_of(summary: dict[str, Any]) -> str:
    columns = ("trials", "faults", "signals", *SIGNALS, "equal", "bit_for_bit")
    rows = [[name, *(figures[column] for column in columns)] for name, figures in summary["commands"].items()]
    total = [sum(figures[column] for figures in summary["commands"].values()) for column in columns]
    words = [column.replace("_", " ") for column in columns]
    return markdown_table(["command", *words], [*rows, ["all", *total]])


if __name__ == "__main__":
    main()
