"""One request to the Hub, with a notice when it is slow and a time-out of a few seconds."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from huggingface_hub import constants

from logos_pl.io.terminal import complain

SAY_AFTER_S = 3.0
"""Seconds after which the user is told about the request."""
GIVE_UP_AFTER_S = 15.0
"""Time-out in seconds. The client's limits are per address and attempt and do not cover name resolution."""


def ask_hub(about: str, question: Callable[[], Any]) -> Any:
    """Result of one request; its own errors are raised unchanged.

    Args:
        about: Subject of the request, for the notice: ``about org/model``.
        question: Sends the request and returns the result; after the time-out it continues in a daemon thread.

    Raises:
        TimeoutError: There is no result within ``GIVE_UP_AFTER_S``.
    """
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((question(), None))
        except BaseException as error:  # it is raised again below, in the calling thread
            answers.put((None, error))

    threading.Thread(target=ask, name="ask_hub", daemon=True).start()
    try:
        answer, error = answers.get(timeout=SAY_AFTER_S)
    except queue.Empty:
        complain(f"waiting for {constants.ENDPOINT} {about} …")
        try:
            answer, error = answers.get(timeout=GIVE_UP_AFTER_S - SAY_AFTER_S)
        except queue.Empty:
            raise TimeoutError(f"{constants.ENDPOINT} does not answer.") from None
    if error is not None:
        raise error
    return answer
