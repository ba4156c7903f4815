"""Two processes: what one refuses, both refuse, and neither waits for the other."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from logos_pl.agreement import gather, refuse_different, together
from logos_pl.errors import InputError, LogosError, RunError


@together
def look(found: bool) -> str:
    if not found:
        raise InputError("There is nothing: look elsewhere.")
    return "something"


def work(rank: int, store: Path, action: Callable[[int], Any], answers: "multiprocessing.Queue[Any]") -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        answers.put((rank, action(rank)))
    except LogosError as error:
        answers.put((rank, (type(error), str(error), error.everywhere)))
    dist.destroy_process_group()


def in_two_processes(store: Path, action: Callable[[int], Any]) -> list[Any]:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=work, args=(rank, store, action, answers)) for rank in range(2)]
    for process in processes:
        process.start()
    got = dict(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    return [got[rank] for rank in range(2)]


@pytest.mark.parametrize("missing", [{0}, {1}, {0, 1}])
def test_what_one_process_refuses_all_refuse_with_its_words(missing: set[int], tmp_path: Path) -> None:
    refused = (InputError, "There is nothing: look elsewhere.", True)
    assert in_two_processes(tmp_path / "store", lambda rank: look(rank not in missing)) == [refused, refused]


def test_what_no_process_refuses_each_has(tmp_path: Path) -> None:
    assert in_two_processes(tmp_path / "store", lambda rank: look(True)) == ["something", "something"]


def test_processes_that_have_resolved_something_else_are_told_what(tmp_path: Path) -> None:
    def resolve(rank: int) -> None:
        refuse_different({"dtype": "float32", "micro_batch_seqs": 8 if rank == 0 else 16})

    kind, message, everywhere = in_two_processes(tmp_path / "store", resolve)[1]
    assert (kind, everywhere) == (RunError, True)
    assert message.startswith(
        "The processes of the run differ: micro_batch_seqs is 8 in the first and 16 in process 1; set it explicitly"
    )


def test_one_process_agrees_with_itself() -> None:
    assert gather("mine") == ["mine"]
    refuse_different({"dtype": "float32"})
    assert look(True) == "something"
    with pytest.raises(InputError) as caught:
        look(False)
    assert not caught.value.everywhere
