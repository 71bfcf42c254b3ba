"""Calls in processes of their own, as tests of kills and of several processes need them."""

import multiprocessing
import os
import socket

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

FORK = multiprocessing.get_context("fork")


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
    """What torchrun does, in a fork."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    os.environ["ACCELERATE_USE_CPU"] = "1"
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
