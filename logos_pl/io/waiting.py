"""Prints what a command is waiting for, if it takes more than a few seconds."""

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
    """Context that prints what is being waited for and for how long to standard error, after 3 s and then every 10 s.

    Args:
        what: What is happening, such as ``loading the model``.
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
