"""Runs a function in several processes that can communicate."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from logos_pl.errors import LogosError


def work(
    rank: int, store: Path, world: int, action: Callable[[int], Any], answers: "multiprocessing.Queue[Any]"
) -> None:
    torch.set_num_threads(1)  # what a fork inherits of a pool of threads does not run
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        answers.put((rank, action(rank)))
    except LogosError as error:
        answers.put((rank, (type(error), str(error), error.everywhere)))
    except Exception as error:
        answers.put((rank, repr(error)))
        raise
    dist.destroy_process_group()


def in_processes(store: Path, action: Callable[[int], Any], world: int = 2) -> list[Any]:
    """What a function of the rank returns in each process, or the kind, the words and the reach of its refusal."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=work, args=(rank, store, world, action, answers)) for rank in range(world)]
    for process in processes:
        process.start()
    try:
        got = dict(answers.get(timeout=300) for _ in processes)
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    return [got[rank] for rank in range(world)]
