"""Errors that a user can act on, each with a one-sentence message and an exit status."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

DISK_ERRORS = {
    errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO, errno.EBUSY,
    errno.ETXTBSY, errno.ENXIO, errno.ENODEV, errno.ETIMEDOUT, errno.ENOTCONN,
}  # fmt: skip
"""Values of errno for disk failures, including network file systems."""


class LogosError(Exception):
    """Error with a message for the user: what went wrong and what to do, in one sentence.

    Attributes:
        everywhere: Whether every process raises it, so that only the first prints it.
    """

    exit_status = 1
    everywhere = False


class InputError(LogosError):
    """An unusable input: configuration, file, model, lens or checkpoint. Exit status 2."""

    exit_status = 2


class RunError(LogosError):
    """A failure with valid input, such as a full disk or a missing shard. Exit status 1."""

    exit_status = 1


class GatesNotPassedError(LogosError):
    """The evaluation succeeded, but the lens failed a gate. Exit status 3."""

    exit_status = 3
    everywhere = True  # every process evaluates the merged measurements


class InterruptedRunError(LogosError):
    """The run was stopped by a signal. Exit status 128 + signal number, as in shells."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


def causes(error: BaseException) -> list[BaseException]:
    """The error and the chain of its causes, the error itself first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def first_sentence(error: BaseException) -> str:
    """First line of an error's message, with one full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(" .:") + "."


@contextmanager
def state_of_a_checkpoint(what: str) -> Iterator[None]:
    """Context in which a part of a checkpoint is restored; turns lookup and type errors into an InputError.

    Args:
        what: Name of the part, for the message.

    Raises:
        InputError: The part is incomplete or has values of a wrong type.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise InputError(
            f"The checkpoint's {what} is invalid ({type(error).__name__}: {error}): give another "
            "checkpoint, or start again."
        ) from error
