"""What the entry says before any library is loaded, and what it sets for those that are."""

import contextlib
import os
import sys
from pathlib import Path

import pytest

from logos_pl import __main__ as entry
from logos_pl.io.progress import DISPLAY


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence of a command that loads nothing."""
    monkeypatch.setattr(sys, "argv", ["logos-pl", "fit"])
    monkeypatch.setitem(sys.modules, "logos_pl.cli.entry", None)  # to import it is an error
    assert entry.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_working_folder_that_has_gone_is_named_before_torch_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "The working folder has been removed" in refused(monkeypatch, capsys)


def test_a_rank_that_is_no_number_is_named_before_lightning_reads_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "first")
    assert "environment variable RANK must be a number (got 'first')" in refused(monkeypatch, capsys)


def test_a_backend_for_plots_that_is_not_there_is_never_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    monkeypatch.setenv("RANK", "first")
    refused(monkeypatch, capsys)
    assert os.environ["MPLBACKEND"] == "agg"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_help_that_nobody_can_read_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["logos-pl", "--help"])
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert entry.main() == 1
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("logos-pl: No space left on device")


def test_libraries_that_load_slowly_are_waited_for_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(0, 1000, 20))
    monkeypatch.setattr(DISPLAY, "clock", lambda: float(next(now)))
    monkeypatch.setattr(DISPLAY, "threaded", False)

    class Slow:
        """What stands for the entry: loading it is looked at."""

        def __getattr__(self, name: str) -> object:
            DISPLAY.look()
            return lambda: 7

    monkeypatch.setattr(sys, "argv", ["logos-pl", "fit"])
    monkeypatch.setitem(sys.modules, "logos_pl.cli.entry", Slow())
    assert entry.main() == 7
    assert capsys.readouterr().out.startswith("loading libraries (")
    assert DISPLAY.stages == ()
