"""One request to the Hub, with a notice when it is slow and a time-out of a few seconds."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from huggingface_hub import constants

from logos_pl.io.terminal import complain

SAY_AFTER_S = 3.0
"""Seconds after which the user is told what is waited for."""
GIVE_UP_AFTER_S = 15.0
"""Seconds for an answer. The client's own limits hold per address and attempt; none holds for the name's look-up."""


def ask_hub(about: str, question: Callable[[], Any]) -> Any:
    """The answer to one request; its own errors are raised unchanged.

    Args:
        about: What it is about, for the notice: ``about org/model``.
        question: Asks and returns the answer; where it is given up, it runs on in a thread that nobody waits for.

    Raises:
        TimeoutError: There is no answer within ``GIVE_UP_AFTER_S``.
    """
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((question(), None))
        except BaseException as error:  # it is raised again below, in the thread that asked
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
