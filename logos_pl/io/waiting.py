"""Says what is waited for, by time: nothing where it is quick."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from logos_pl.io.terminal import complain

FIRST_SECONDS = 3.0
"""Seconds after which the first line is printed."""

BETWEEN_SECONDS = 10.0
"""Seconds between further lines."""


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Inside, a line on standard error says what is waited for and since when, after 3 seconds and every 10.

    Args:
        what: What goes on, such as ``loading the model``.
    """
    done, start = threading.Event(), time.monotonic()

    def speak() -> None:
        pause = FIRST_SECONDS
        while not done.wait(pause):
            complain(f"{what} … {time.monotonic() - start:.0f} s")
            pause = BETWEEN_SECONDS

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()
