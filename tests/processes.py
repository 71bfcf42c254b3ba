"""Calls in separate processes, for tests of kills and of several processes."""

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

FORK = multiprocessing.get_context("fork")
ROOT = Path(__file__).parents[1]
QUICK_RENDEZVOUS = "keep_alive_interval=1,keep_alive_max_attempt=3,last_call_timeout=1"  # for a node that is lost


def in_child(call, *arguments) -> multiprocessing.Process:
    process = FORK.Process(target=on_one_thread, args=(call, *arguments))
    process.start()
    return process


def on_one_thread(call, *arguments):
    """OpenMP's threads do not live on in a fork, which would wait for them for ever."""
    torch.set_num_threads(1)
    call(*arguments)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def as_process(rank: int, port: int, call, *arguments):
    """What torchrun does, in a fork. Without `OMP_NUM_THREADS`, accelerate would set more threads than one again."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    os.environ.update(ACCELERATE_USE_CPU="1", OMP_NUM_THREADS="1")
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    call(*arguments)


def on_two_processes(call, *arguments):
    port = free_port()
    processes = [in_child(as_process, rank, port, call, *arguments) for rank in range(2)]
    for process in processes:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]


class TwoNodes:
    """A command of the package in four processes, as torchrun starts them on two nodes; here both are this machine.

    Args:
        module (`str`), options: the command. Nothing but torchrun's variables tells a process of the others.
    """

    def __init__(self, module: str, *options: str):
        self.command = ["-m", f"hf_bark_semantic.cli.{module}", *options]
        self.port, self.nodes = free_port(), {}
        for number in range(2):
            self.start(number)

    def start(self, number: int) -> None:
        """Start a node, for the first time or again."""
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "2"]
        torchrun += ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{self.port}", "--rdzv_id", "nodes"]
        torchrun += ["--rdzv_conf", f"is_host={int(number == 0)},{QUICK_RENDEZVOUS}", "--local_addr", "127.0.0.1"]
        environment = {"ACCELERATE_USE_CPU": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # or processes find the addresses of those before them
        self.nodes[number] = subprocess.Popen(
            [*torchrun, "--max_restarts", "3", *self.command], env={**os.environ, **environment}
        )

    def processes(self, number: int) -> list[psutil.Process]:
        """The two processes of a node."""
        return psutil.Process(self.nodes[number].pid).children()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 600) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it takes too long"
            assert self.nodes[0].poll() is None, "the first node has ended"
            time.sleep(0.01)

    def kill_node(self, number: int) -> None:
        """As when the power fails: torchrun and its processes."""
        for process in [*self.processes(number), psutil.Process(self.nodes[number].pid)]:
            process.kill()
        self.nodes.pop(number).wait()

    def wait(self, timeout_s: float = 600) -> None:
        """For the end of all nodes, which must be a good one."""
        assert [node.wait(timeout_s) for node in self.nodes.values()] == [0] * len(self.nodes)

    def __enter__(self) -> "TwoNodes":
        return self

    def __exit__(self, *error: object) -> None:
        for number in [number for number, node in self.nodes.items() if node.poll() is None]:
            self.kill_node(number)
