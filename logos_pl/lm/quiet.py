"""Silences notices of transformers that the user cannot act on."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Within a ``with`` statement, silence notices of transformers and its progress bar for reading weights.

    Logged errors are silenced, too: transformers also raises them, and the exception is reported.

    Progress of downloads comes from the Hub library and is kept.
    """
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def without_native_output() -> Iterator[None]:
    """Discard standard output and standard error inside, also of native code.

    The Rust code of tokenizers prints a panic with its stack before raising it, and prints names of unknown settings
    unescaped, control characters included.
    """
    with ExitStack() as stack:
        stack.enter_context(_discarded(1, "stdout"))
        stack.enter_context(_discarded(2, "stderr"))
        yield


@contextmanager
def _discarded(number: int, name: str) -> Iterator[None]:
    stream = getattr(sys, name)
    try:
        kept = (
            None if stream is None else os.dup(number)
        )  # if the stream is closed, its number may belong to another file
    except OSError:  # closed in the meantime
        kept = None
    if stream is None or kept is None:
        yield
        return
    stream.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, number)
        yield
    finally:
        stream.flush()
        os.dup2(kept, number)
        os.close(kept)
        os.close(nowhere)
