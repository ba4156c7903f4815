"""Two processes: what one refuses, both refuse, and neither waits for the other."""

from pathlib import Path

import pytest

from logos_pl.agreement import gather, refuse_different, together
from logos_pl.errors import InputError, RunError
from tests.processes import in_processes


@together
def look(found: bool) -> str:
    if not found:
        raise InputError("There is nothing: look elsewhere.")
    return "something"


@pytest.mark.parametrize("missing", [{0}, {1}, {0, 1}])
def test_what_one_process_refuses_all_refuse_with_its_words(missing: set[int], tmp_path: Path) -> None:
    refused = (InputError, "There is nothing: look elsewhere.", True)
    assert in_processes(tmp_path / "store", lambda rank: look(rank not in missing)) == [refused, refused]


def test_what_no_process_refuses_each_has(tmp_path: Path) -> None:
    assert in_processes(tmp_path / "store", lambda rank: look(True)) == ["something", "something"]


def test_processes_that_have_resolved_something_else_are_told_what(tmp_path: Path) -> None:
    def resolve(rank: int) -> None:
        refuse_different({"dtype": "float32", "micro_batch_seqs": 8 if rank == 0 else 16})

    kind, message, everywhere = in_processes(tmp_path / "store", resolve)[1]
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
