"""What is silenced, for how long, and what is as it was afterwards."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from transformers.utils import logging

from logos_pl.lm.quiet import quiet, without_stderr


@pytest.fixture(params=[(logging.INFO, True), (logging.ERROR, False)], ids=["talkative", "silent"])
def state(request: pytest.FixtureRequest) -> Iterator[tuple[int, bool]]:
    """Verbosity of transformers and whether it shows progress bars; as before after the test."""
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    _set(*request.param)
    yield request.param
    _set(*before)


def _set(verbosity: int, bars: bool) -> None:
    logging.set_verbosity(verbosity)
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()


def now() -> tuple[int, bool]:
    return logging.get_verbosity(), logging.is_progress_bar_enabled()


def test_transformers_says_nothing_and_is_as_it_was_afterwards(state: tuple[int, bool]) -> None:
    with quiet():
        assert now() == (logging.CRITICAL, False)
    assert now() == state


def test_transformers_is_as_it_was_also_after_a_failure(state: tuple[int, bool]) -> None:
    with pytest.raises(KeyError), quiet():
        raise KeyError("x")
    assert now() == state


def test_what_python_or_any_library_writes_to_standard_error_goes_nowhere() -> None:
    code = """
import os, sys
from logos_pl.lm.quiet import without_stderr
print("before", file=sys.stderr)
with without_stderr():
    print("from Python", file=sys.stderr)
    os.write(2, b"from below Python")
print("after", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "before\nafter\n"


def test_standard_error_is_back_after_a_failure_and_no_file_stays_open(capfd: pytest.CaptureFixture[str]) -> None:
    open_before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    with pytest.raises(KeyError), without_stderr():
        raise KeyError("x")
    if open_before is not None:
        assert len(os.listdir("/proc/self/fd")) == open_before
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_a_command_started_without_standard_error_runs_all_the_same() -> None:
    code = "import os; os.close(2)\nfrom logos_pl.lm.quiet import without_stderr\nwith without_stderr(): print('ran')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "ran\n"
