"""Silences notices of transformers that the user cannot act on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Within a ``with`` statement, silence notices of transformers and its progress bar for reading weights.

    Logged errors, too, as transformers then raises them, and the exception is reported.

    Progress of downloads belongs to the Hub library and is kept.
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
def without_stderr() -> Iterator[None]:
    """Within a ``with`` statement, discard standard error, as Rust prints a panic before raising an exception."""
    try:
        kept = os.dup(2)
    except OSError:  # the command was started without one
        yield
        return
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
