"""What is said of long work, and when: by a clock that the tests set."""

import io
import threading
import time
from collections.abc import Iterator

import pytest

from logos_pl.io import progress
from logos_pl.io.progress import Display, Progress, clock_time
from logos_pl.io.terminal import Console


class Screen:
    """A display on a clock of its own."""

    def __init__(self, terminal: bool = False, threaded: bool = False) -> None:
        self.now = 1000.0
        self.display = Display(clock=lambda: self.now, threaded=threaded)
        self.file = io.StringIO()
        self.display.console = Console(
            file=self.file, soft_wrap=True, markup=False, width=200, force_terminal=terminal, color_system=None
        )

    def at(self, second: float) -> list[str]:
        """The lines that have been printed when the clock shows this many seconds."""
        self.now = 1000.0 + second
        self.display.look()
        return self.file.getvalue().splitlines()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_a_line_comes_every_ten_seconds_with_rate_and_time_left(screen: Screen) -> None:
    with Progress("reading", 40, "sequences", per_unit=(512, "tokens"), display=screen.display) as reading:
        assert screen.at(9.9) == []
        reading.advance(8)
        lines = screen.at(10.0)
        assert lines == ["reading: 8 of 40 sequences · 410 tokens/s · 0:40 left"], "8 × 512 / 10"
        reading.advance(8)
        assert screen.at(19.9) == lines
        assert screen.at(32.0)[1:] == ["reading: 16 of 40 sequences · 256 tokens/s · 0:48 left"]
        assert len(screen.at(41.9)) == 2, "ten seconds after the line, not after the one that was due"
    assert len(screen.at(100)) == 2, "nothing after the end"


def test_colours_that_are_asked_for_make_no_terminal_of_a_notebook_or_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter sets it for what a cell starts
    monkeypatch.setenv("TERM", "xterm-color")
    now = 0.0
    display = Display(clock=lambda: now, threaded=False)
    with Progress("step", 128, display=display):
        now = 10.0
        display.look()
    assert capsys.readouterr().out == "step 0/128 · 0:10 so far\n"


def test_a_stage_that_has_done_nothing_yet_says_for_how_long(screen: Screen) -> None:
    with Progress("step", 128, display=screen.display) as steps:
        assert screen.at(10) == ["step 0/128 · 0:10 so far"]
        steps.advance(4, "KL 2.000 bits")
        assert screen.at(20)[1:] == ["step 4/128 · KL 2.000 bits · 10:20 left"]
    with Progress("loading the model", display=screen.display):
        assert screen.at(95)[2:] == ["loading the model (1:15)"]


def test_what_was_done_before_counts_for_no_rate(screen: Screen) -> None:
    steps = Progress("step", 100, display=screen.display).start(50)
    steps.advance(10)
    assert screen.at(20) == ["step 60/100 · 1:20 left"]
    steps.stop()


def test_the_innermost_stage_is_shown_and_short_stages_do_not_add_up_to_silence(screen: Screen) -> None:
    with Progress("step", 9, display=screen.display) as steps:
        screen.at(8)
        with Progress("validation", 4, "sequences", display=screen.display) as validation:
            validation.advance(1)
            lines = screen.at(10)
            assert lines == ["validation: 1 of 4 sequences · 0.5 sequences/s · 0:06 left"]
        steps.advance(3)
        assert screen.at(19) == lines
        assert screen.at(20)[1:] == ["step 3/9 · 0:40 left"]


def test_work_itself_prints_what_is_due(screen: Screen) -> None:
    with Progress("reading", 2, "files", display=screen.display) as reading:
        screen.now += 11
        reading.advance()
        assert screen.file.getvalue() == "reading: 1 of 2 files · 0.091 files/s · 0:11 left\n"
        reading.say()
        assert screen.file.getvalue().count("\n") == 2


def test_a_process_that_shows_nothing_counts_all_the_same(screen: Screen) -> None:
    with Progress("reading", 2, "files", shown=False, display=screen.display) as reading:
        reading.advance(2)
        reading.say()
        assert screen.at(60) == []
        assert reading.done == 2


def test_a_thread_speaks_while_one_call_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_FRAME", 0.001)
    screen = Screen(threaded=True)
    with Progress("loading the model", display=screen.display):
        screen.now += 12
        for _ in until(lambda: screen.file.getvalue() != ""):
            pass
    assert screen.file.getvalue() == "loading the model (0:12)\n"
    assert "progress" not in [thread.name for thread in threading.enumerate()]


def test_an_output_that_fails_in_the_thread_fails_where_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_FRAME", 0.001)
    screen = Screen(threaded=True)

    def broken(*_: object) -> None:
        raise BrokenPipeError("no reader")

    monkeypatch.setattr(screen.display.console, "print", broken)
    reading = Progress("reading", 5, "files", display=screen.display).start()
    screen.now += 12
    for _ in until(lambda: screen.display.failed):
        pass
    with pytest.raises(BrokenPipeError, match="no reader"):
        reading.advance()
    reading.stop()
    reading.stop()


def test_on_a_terminal_there_is_a_bar_and_nothing_of_it_is_left() -> None:
    screen = Screen(terminal=True)
    with Progress("step", 9, display=screen.display) as steps:
        screen.now += 1
        steps.advance(3, "KL 2.000 bits")
        with Progress("validation", 4, "sequences", display=screen.display) as validation:
            screen.now += 1
            validation.advance(1)
        screen.now += 20
        steps.advance(1)
    written = screen.file.getvalue()
    assert "step" in written
    assert "3/9 · KL 2.000 bits · 0:02 left" in written
    assert "validation" in written
    assert "1 of 4 sequences · 1 sequences/s · 0:03 left" in written
    assert "4/9 · KL 2.000 bits · 0:28 left" in written
    assert written.rstrip().endswith("\x1b[2K"), "the last thing is that a line is erased"


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599.4, "59:59"), (3725, "1:02:05")]
)
def test_durations_are_written_as_on_a_clock(seconds: float, wanted: str) -> None:
    assert clock_time(seconds) == wanted


def until(condition: object) -> Iterator[None]:
    """Waits a little at a time, for at most ten seconds."""
    assert callable(condition)
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)
        yield
