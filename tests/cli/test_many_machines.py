"""The commands of training/README.md for many machines are accepted by their programs."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser as torchrun_parser

from documented_commands import documented_commands, documented_script, parsed
from hf_bark_semantic.corpus.generation import Part
from hf_bark_semantic.trainers.encoder_config import read_encoder_config

README = "training/README.md"
STUBS = {  # of a cluster: programs that say how they were started
    "srun": 'while [[ "$1" == -* ]]; do shift; done; exec "$@"',
    "scontrol": "printf 'node1\\nnode2\\n'",
    "python": 'printf "%s\\n" python "$@"',
    "torchrun": 'printf "%s\\n" torchrun "$@"',
}


@pytest.mark.parametrize("marker", ["eight gpus", "streams", "add a language"])
def test_documented_commands_are_taken_with_their_recipes(marker):
    commands = documented_commands(README, marker)
    assert len(commands) > 1
    for command in commands:
        options = parsed(command)
        if command[command.index("-m") + 1].endswith("train_encoder"):
            config = read_encoder_config(options.config, options.set, corpus=options.corpus, fold=options.fold)
            assert config.corpus == options.corpus and config.sources == {"synthetic"}


def started_by_slurm(folder: Path, marker: str, **variables: str) -> list[str]:
    """The command that a documented script starts, with a cluster of stubs."""
    for name, script in STUBS.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    (folder / "job.sh").write_text(documented_script(README, marker))
    environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **variables}
    ran = subprocess.run(["bash", "-eu", "job.sh"], cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_job_array_makes_a_part_of_a_corpus_in_each_task(tmp_path):
    numbers = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16"}
    assert parsed(started_by_slurm(tmp_path, "slurm array", **numbers)).part == Part(2, 16)


def test_a_job_of_several_nodes_starts_a_training_that_they_share(tmp_path):
    job = {"SLURM_JOB_NODELIST": "node[1-4]", "SLURM_NNODES": "4", "SLURM_JOB_ID": "7"}
    command = started_by_slurm(tmp_path, "slurm nodes", **job)
    torchrun = torchrun_parser().parse_args(command[1:])
    assert (torchrun.nnodes, torchrun.rdzv_endpoint, torchrun.rdzv_id) == ("4", "node1:29500", "7"), shlex.join(
        command
    )
    assert torchrun.module and torchrun.training_script == "hf_bark_semantic.cli.train_encoder"
    assert parsed(command).fold == 0
