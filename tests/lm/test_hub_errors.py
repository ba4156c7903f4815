"""What the Hub, the network and the disk raise, each told to the user in one sentence."""

import errno

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from logos_pl.errors import LogosError, RunError
from logos_pl.lm.hub_errors import explain


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (OfflineModeIsEnabled("offline"), "or not all of it, and offline mode is on; unset HF_HUB_OFFLINE"),
        (ConnectionError("no route"), "or not all of it, and the Hub cannot be reached; check the network"),
    ],
)
def test_offline_mode_and_a_missing_network_are_told_apart(cause: Exception, words: str) -> None:
    missing = LocalEntryNotFoundError("not found")
    missing.__cause__ = cause
    assert words in str(explain(missing, "org/model"))


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written"), (errno.EACCES, "cannot be written")],
)
def test_a_disk_that_refuses_is_a_failure_of_the_run_not_of_the_input(code: int, words: str) -> None:
    wrapped = OSError("could not fetch")
    wrapped.__cause__ = OSError(code, "disk")
    error: LogosError = explain(wrapped, "org/model")
    assert isinstance(error, RunError)
    assert words in str(error)


def test_anything_else_keeps_its_first_line() -> None:
    assert str(explain(OSError("odd thing.\nmore"), "org/model")) == "org/model cannot be loaded: odd thing."
