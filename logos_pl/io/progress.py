"""Progress of long work, by time: a bar on a terminal, lines elsewhere.

A separate thread prints, so that there is output even while a single call takes minutes. Stages may be nested, such as
a validation within training; only the innermost is shown.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from logos_pl.io.terminal import Console

SECONDS_BETWEEN_LINES = 10.0
"""Seconds between lines without a terminal, across all stages, and before the first line."""

_FRAME = 0.5
"""Seconds between updates by the thread, and between frames of a bar."""


class Display:
    """Shows the stages under way in a process.

    Args:
        clock: Returns seconds.
        threaded: Whether a thread updates the display; otherwise only calls of `look` do.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, threaded: bool = True) -> None:
        self.clock, self.threaded = clock, threaded
        self.console = Console(soft_wrap=True, markup=False)
        self._stages: list[Progress] = []
        self._last_look = 0.0
        self._bar: Bar | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None
        self._lock = threading.RLock()

    @property
    def stages(self) -> tuple["Progress", ...]:
        """The stages under way, the innermost last."""
        return tuple(self._stages)

    def begin(self, stage: "Progress") -> None:
        """Show a stage in place of the one that contains it."""
        with self._lock:
            if not self._stages:
                self._last_look = self.clock()
            self._stages.append(stage)
            self._change_bar()
        if self.threaded and self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
            self._thread.start()

    def end(self, stage: "Progress") -> None:
        """Show the stage that contains this one again, if there is one.

        Raises:
            OSError: The output had failed while the stage was under way.
        """
        with self._lock:
            self._stages.remove(stage)
            self._change_bar()
            last = not self._stages
        if last and self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None
        self.raise_failure()

    @property
    def failed(self) -> bool:
        """Whether output has failed in the thread and the error has not been raised yet."""
        return self._failure is not None

    def raise_failure(self) -> None:
        """Raise the error of the thread's output, if any.

        Raises:
            OSError: The output had failed.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def look(self, now: bool = False) -> None:
        """Bring the bar up to date, or print a line, if it is time or `now`."""
        with self._lock:
            since = self.clock() - self._last_look
            if not self._stages or not (now or since >= (SECONDS_BETWEEN_LINES if self._bar is None else _FRAME)):
                return
            self._last_look, stage = self.clock(), self._stages[-1]
            if self._bar is None:
                self.console.print(stage.line())
            else:
                self._bar.update(self._bar.task_ids[0], completed=stage.done, reading=stage.reading())

    def _watch(self) -> None:
        while not self._ended.wait(_FRAME):
            try:
                self.look()
            except OSError as failure:  # such as a broken pipe: raised where the work is done
                self._failure = failure
                return

    def _change_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._stages and self.console.is_interactive:
            stage = self._stages[-1]
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[reading]}"))
            self._bar = Bar(*columns, TimeElapsedColumn(), console=self.console, transient=True)
            self._bar.add_task(stage.what, total=stage.total, completed=stage.done, reading=stage.reading())
            self._bar.start()


DISPLAY = Display()
"""The display of this process."""


class Progress:
    """A stage of a command; shown from `start` to `stop`, or as a context.

    Args:
        what: Name of the stage.
        total: Units of work; None if unknown.
        unit: What is counted, in the plural; empty if `what` says it.
        per_unit: Size of a unit and its name, in which the rate is given, such as (512, "tokens").
        shown: Whether this process shows it.
        display: Where it is shown.

    Attributes:
        done: Units done.
        note: Further text, such as the loss.
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        unit: str = "",
        *,
        per_unit: tuple[int, str] | None = None,
        shown: bool = True,
        display: Display = DISPLAY,
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.per_unit = (1, unit) if per_unit is None else per_unit
        self.shown, self.display = shown, display
        self.done, self.note = 0, ""
        self._first, self._began = 0, 0.0
        self._running = False

    def start(self, done: int = 0) -> Self:
        """Begin; units done before do not count towards the rate."""
        self.done = self._first = done
        self._began = self.display.clock()
        self._running = True
        if self.shown:
            self.display.begin(self)
        return self

    def stop(self) -> None:
        """End; may be called twice."""
        if self._running:
            self._running = False
            if self.shown:
                self.display.end(self)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def advance(self, units: int = 1, note: str | None = None) -> None:
        """Count units done, and replace the note.

        Raises:
            OSError: The output has failed.
        """
        self.done += units
        self.note = self.note if note is None else note
        if self.shown and self._running:
            self.display.raise_failure()
            self.display.look()

    def say(self) -> None:
        """Print the line now; a bar is brought up to date."""
        if self.shown and self._running:
            self.display.look(now=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.display.clock() - self._began

    def line(self) -> str:
        """The stage in one line."""
        if self.total is None or not self.unit:
            return f"{self.what} {self.reading()}"
        return f"{self.what}: {self.reading()}"

    def reading(self) -> str:
        """Units done, rate and time left: the line without the name."""
        if self.total is None:
            return " · ".join(part for part in (self.note, f"({clock_time(self.elapsed)})") if part)
        parts = [f"{self.done:,} of {self.total:,} {self.unit}" if self.unit else f"{self.done}/{self.total}"]
        parts += [self.note] if self.note else []
        new = self.done - self._first
        if new == 0:
            return " · ".join([*parts, f"{clock_time(self.elapsed)} so far"])
        seconds = max(self.elapsed, 1e-9)
        if self.unit:
            size, name = self.per_unit
            parts.append(f"{rate_of(new * size / seconds)} {name}/s")
        return " · ".join([*parts, f"{clock_time((self.total - self.done) * seconds / new)} left"])


def rate_of(per_second: float) -> str:
    """A rate with two digits below ten, without fractions above."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def clock_time(seconds: float) -> str:
    """Format a duration as 1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
