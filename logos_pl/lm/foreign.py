"""Turns errors of transformers, tokenizers and torch on a user's files into one sentence."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from logos_pl.errors import InputError, LogosError, RunError, first_sentence
from logos_pl.io.hub_errors import HubRequest, explain
from logos_pl.lm.config_values import key_of

MAX_REASON = 200
"""Maximum number of quoted characters of a library's error."""
_NO_MEMORY = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")


@contextmanager
def blaming(what: str, remedy: str, name: str, values: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turn any exception of one library call into one sentence; the ``with`` block must contain only that call.

    These libraries check few values; a wrong one raises KeyError, AssertionError, ZeroDivisionError or one of many
    others. Hence any exception is caught, but only here.

    Args:
        what: What is wrong, such as ``config.json of m is not valid``.
        remedy: What to do.
        name: Name of the model in messages.
        values: The configuration they read: the message names the key whose value the error quotes.

    Raises:
        InputError: The files cannot be used, or a package is missing.
        RunError: There is too little memory, or the disk fails.
    """
    try:
        yield
    except (LogosError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # already a clear message, or a failure of the machine
    except ImportError as error:
        raise InputError(f"{name} needs a package that is not installed: {first_sentence(error)}") from error
    except MemoryError as error:
        raise _out_of_memory(name) from error
    except OSError as error:
        known = explain(error, HubRequest("model", name))
        if isinstance(known, RunError):
            raise known from error
        raise _bad_input(what, remedy, error, values) from error
    except RuntimeError as error:
        if any(words in str(error) for words in _NO_MEMORY):
            raise _out_of_memory(name) from error
        raise _bad_input(what, remedy, error, values) from error
    except Exception as error:
        raise _bad_input(what, remedy, error, values) from error
    except BaseException as error:
        # Rust panics raise this: it is not an Exception, and its module cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise _bad_input(what, remedy, error, values) from error


def reason(error: BaseException) -> str:
    """An error of a library in one line, with its class, shortened to ``MAX_REASON``."""
    text = " ".join(str(error).split()).rstrip(" .:")
    kind = type(error).__name__
    text = f"{kind}: {text}" if text else kind
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"


def _bad_input(what: str, remedy: str, error: BaseException, values: Mapping[str, Any] | None) -> InputError:
    key = None if values is None else key_of(values, str(error))
    return InputError(f"{what} ({'' if key is None else f'{key}; '}{reason(error)}); {remedy}.")


def _out_of_memory(name: str) -> RunError:
    return RunError(f"there is not enough memory for {name}; free some, or use a smaller model or --model.dtype.")
