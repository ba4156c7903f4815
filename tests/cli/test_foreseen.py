"""Which errors end a command with one sentence, and which are faults of the program that are shown whole."""

import errno

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from logos_pl.cli import entry
from logos_pl.errors import GatesNotPassedError, InputError, InterruptedRunError, RunError

FORESEEN = {
    "bad input": (InputError("No."), 2),
    "work that failed": (RunError("No."), 1),
    "a verdict": (GatesNotPassedError("No."), 3),
    "a signal": (InterruptedRunError("Stopped.", 15), 143),
    "Lightning's own": (MisconfigurationException("No such device."), 2),
    "a full disk": (OSError(errno.ENOSPC, "No space left on device"), 1),
    "a missing file": (FileNotFoundError(errno.ENOENT, "No such file"), 1),
    "a closed pipe": (BrokenPipeError(), 1),
    "no UTF-8": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2),
    "the host's memory": (MemoryError("Cannot allocate"), 1),
    "the card's memory": (torch.OutOfMemoryError("CUDA out of memory"), 1),
    "torch's memory": (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1),
    "another process": (torch.distributed.DistBackendError("NCCL"), 1),
    "a worker": (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), 1),
}
FAULTS = [
    KeyError("x"), TypeError("x"), ValueError("x"), AttributeError("x"), IndexError("x"), AssertionError("x"),
    ZeroDivisionError("x"), NotImplementedError("x"), RuntimeError("x"), ImportError("x"), OSError(errno.EINVAL, "x"),
]  # fmt: skip


def end_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    """The status of a command that ends with an error."""

    def fail(*given: object) -> None:
        raise error

    monkeypatch.setattr(entry, "run_command", fail)
    return entry.main(["validate"])


@pytest.mark.parametrize("what", FORESEEN)
def test_an_error_that_a_user_can_act_on_is_one_line_and_a_status(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, status = FORESEEN[what]
    assert end_with(error, monkeypatch) == status
    said = capsys.readouterr().err
    assert said.startswith("logos-pl: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_a_bug_is_raised_with_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(type(error)) as caught:
        end_with(error, monkeypatch)
    assert caught.value is error
