"""Disturb every long command many times, and say how often its results stayed what they are without.

    python tests/kills/run_kills.py --kills 100 --output outputs/kills
    python tests/kills/run_kills.py --kills 20 --only train_encoder --seed 1 --output outputs/kills

A trial starts a command of stages.py, sends it one to three signals at random moments (SIGKILL, SIGTERM, SIGINT, or
SIGSTOP and, half a second later, SIGCONT; to one process or to all), starts it again after each, lets it finish at
last, and compares what it left with an undisturbed run. The seed decides on signals, moments and numbers of processes;
a moment is a share of the time that the undisturbed run took. Killed and started again, this command goes on.

    output/ trials-0.jsonl   a line per trial
            kills.json       figures by command, and every trial that was not survived
            work/            folders of trials that were not survived
"""

import argparse
import json
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hf_bark_semantic.evaluation.journal import Journal
from hf_bark_semantic.files import write_json
from hf_bark_semantic.publishing import markdown_table
from kills.comparison import differences
from kills.harness import SIGNALS, Trial
from kills.stages import STAGES, Stage
from processes import in_child

MOST_SIGNALS = 3  # of a trial


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="signals that met a command at work, at least")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="COMMAND")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    journal = Journal(args.output, {"seed": args.seed})
    undisturbed: dict[str, Undisturbed] = {}
    number = 0
    while sum(len(record["signals"]) for record in journal.records().values()) < args.kills:
        name = args.only[number % len(args.only)]
        id = f"{name} {number // len(args.only)}"
        number += 1
        if id in journal.records():
            continue
        if name not in undisturbed:
            undisturbed[name] = Undisturbed(STAGES[name], args.output / "undisturbed" / name.replace(" ", "-"))
        journal.add({"id": id, "command": name, **disturb(undisturbed[name], id, args)})
        print(json.dumps(journal.records()[id]), flush=True)
    summary = summarize(list(journal.records().values()))
    write_json(args.output / "kills.json", summary)
    print(table_of(summary))
    return summary


class Undisturbed:
    """A run that nobody disturbs: what it reads, what it leaves, and how long it takes."""

    def __init__(self, stage: Stage, folder: Path):
        shutil.rmtree(folder, ignore_errors=True)
        self.stage, self.inputs = stage, folder / "inputs"
        self.inputs.mkdir(parents=True)
        writer = in_child(stage.make_inputs, self.inputs)
        writer.join()
        assert writer.exitcode == 0, stage.name
        trial = Trial(stage, self.inputs, folder)
        self.seconds = trial.finish(stage.num_processes[-1])
        self.outcome = trial.outcome()


def disturb(undisturbed: Undisturbed, id: str, args: argparse.Namespace) -> dict[str, Any]:
    """One trial: its signals, and what was not as in the undisturbed run."""
    rng, stage = random.Random(f"{args.seed} {id}"), undisturbed.stage
    folder = args.output / "work" / id.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    trial, signals, flaws, started = Trial(stage, undisturbed.inputs, folder), [], [], time.monotonic()
    record: dict[str, Any] = {"signals": signals, "flaws": flaws}
    try:
        for _ in range(rng.randint(1, MOST_SIGNALS)):
            name, whom, moment = rng.choice(list(SIGNALS)), rng.choice(["one", "all"]), rng.random()
            num_processes = rng.choice(stage.num_processes)
            trial.start(num_processes)
            after_s = moment * undisturbed.seconds
            if trial.signal(SIGNALS[name], whom, after_s=after_s, rng=rng):
                sent = {"signal": name, "whom": whom, "moment": round(moment, 3), "processes": num_processes}
                signals.append(sent)
            if not any(trial.wait()):
                break  # it is finished
        trial.finish(rng.choice(stage.num_processes))
        outcome = trial.outcome()
        flaws += differences(undisturbed.outcome, outcome)
        record["bit_for_bit"] = not differences(undisturbed.outcome, outcome, exact=True)
    except (RuntimeError, TimeoutError, OSError, ValueError) as error:
        flaws.append(str(error))
    if not flaws:
        shutil.rmtree(folder)
    return {**record, "seconds": round(time.monotonic() - started, 1)}


def summarize(records: Sequence[dict]) -> dict[str, Any]:
    commands = {}
    for name in dict.fromkeys(record["command"] for record in records):
        own = [record for record in records if record["command"] == name]
        sent = [signal for record in own for signal in record["signals"]]
        counts = {signal: sum(s["signal"] == signal for s in sent) for signal in SIGNALS}
        commands[name] = {"trials": len(own), "signals": len(sent)}
        commands[name] |= counts
        commands[name]["equal"] = sum(not record["flaws"] for record in own)
        commands[name]["bit_for_bit"] = sum(bool(record.get("bit_for_bit")) for record in own)
    return {"commands": commands, "not_survived": [record for record in records if record["flaws"]]}


def table_of(summary: dict[str, Any]) -> str:
    columns = ("trials", "signals", *SIGNALS, "equal", "bit_for_bit")
    rows = [[name, *(figures[column] for column in columns)] for name, figures in summary["commands"].items()]
    total = [sum(figures[column] for figures in summary["commands"].values()) for column in columns]
    words = [column.replace("_", " ") for column in columns]
    return markdown_table(["command", *words], [*rows, ["all", *total]])


if __name__ == "__main__":
    main()
