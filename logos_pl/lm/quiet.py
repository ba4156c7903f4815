"""Transformers' notices, silenced where the user can do nothing about them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """No notices from transformers inside, and no progress bar for reading weights; both as before afterwards.

    Not even its errors: what it logs as one, it goes on to raise, and that is said in a sentence.

    Progress of downloads is the Hub library's and stays.
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
    """Inside, standard error goes nowhere: for Rust, which prints a panic with its stack before it is an exception."""
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
