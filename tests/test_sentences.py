import errno
import subprocess
import sys

import pytest
import torch.distributed
from lightning.fabric.utilities.exceptions import MisconfigurationException

from logos_pl.errors import GatesNotPassedError, InputError
from logos_pl.sentences import describe, one_sentence


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            "Parser key \"data.tokens\":\n  Expected a <class 'int'>. Got value: many",
            "--data.tokens many is not what it takes: int.",
        ),
        ("unrecognized arguments: --x", "unrecognized arguments: --x: see `logos-pl --help` or `logos-pl fit --help`."),
    ],
)
def test_the_parsers_messages_become_one_sentence(message: str, sentence: str) -> None:
    assert one_sentence(message) == sentence


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (InputError("As it is."), 2, "As it is."),
        (GatesNotPassedError("No."), 3, "No."),
        (MisconfigurationException("Two\n  lines"), 2, "Two lines"),
        (OSError(errno.ENOSPC, "No space left on device", "x.pt"), 1, "No space left on device (x.pt): free space, or"),
        (torch.OutOfMemoryError("CUDA out of\nmemory"), 1, "Out of memory (CUDA out of memory): take fewer or shorter"),
        (BrokenPipeError(), 1, "Whoever read the output has gone"),
        (torch.distributed.DistBackendError("NCCL"), 1, "Another process of the run has ended"),
        (
            RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc:547] Connection closed by peer"),
            1,
            "Another process of the run has ended, and says above why",
        ),
    ],
)
def test_what_a_user_can_act_on_is_one_sentence_with_an_exit_status(
    error: Exception, status: int, sentence: str
) -> None:
    found, exit_status = describe(error)
    assert exit_status == status
    assert found.startswith(sentence)


def test_a_fault_of_the_program_is_raised_again() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        describe(RuntimeError("a bug"))


def test_to_describe_an_error_no_large_library_is_loaded() -> None:
    code = "import sys, logos_pl.sentences; print([m for m in ('torch', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
