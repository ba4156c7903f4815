"""What is silenced, for how long, and what is as it was afterwards."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from transformers.utils import logging

from logos_pl.lm.quiet import quiet, without_native_output


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


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_python_or_native_code_prints_is_discarded(stream: str) -> None:
    code = f"""
import os, sys
from logos_pl.lm.quiet import without_native_output
print("before", file=sys.{stream})
with without_native_output():
    print("from Python", file=sys.{stream})
    os.write(sys.{stream}.fileno(), b"from native code")
print("after", file=sys.{stream})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert getattr(done, stream) == "before\nafter\n"


def test_both_streams_are_back_after_a_failure_and_no_file_stays_open(capfd: pytest.CaptureFixture[str]) -> None:
    open_before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    with pytest.raises(KeyError), without_native_output():
        raise KeyError("x")
    if open_before is not None:
        assert len(os.listdir("/proc/self/fd")) == open_before
    os.write(1, b"one\n")
    os.write(2, b"two\n")
    assert capfd.readouterr() == ("one\n", "two\n")


@pytest.mark.parametrize(("closed", "other"), [(1, "stderr"), (2, "stdout")])
def test_a_command_started_without_a_stream_runs_all_the_same(closed: int, other: str) -> None:
    code = (
        f"import os, sys; os.close({closed})\nfrom logos_pl.lm.quiet import without_native_output\n"
        f"with without_native_output(): pass\nos.write({3 - closed}, b'ran')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert getattr(done, other) == "ran"
