"""The errors a user can act on: one sentence each, and the exit status the command line ends with."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

DISK_ERRORS = {
    errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO, errno.EBUSY,
    errno.ETXTBSY, errno.ENXIO, errno.ENODEV, errno.ETIMEDOUT, errno.ENOTCONN,
}  # fmt: skip
"""What a disk refuses with, one of a network included."""


class LogosError(Exception):
    """An error whose message is meant for the user: what went wrong and what to do, in one sentence.

    Attributes:
        everywhere: Whether every process of the run raises it, so that the first alone has to say it.
    """

    exit_status = 1
    everywhere = False


class InputError(LogosError):
    """What was given cannot be used: a configuration, a file, a model, a lens or a checkpoint. Exit status 2."""

    exit_status = 2


class RunError(LogosError):
    """What was given is fine and the work failed all the same: a full disk, a shard that vanished. Exit status 1."""

    exit_status = 1


class GatesNotPassedError(LogosError):
    """The lens was judged and not accepted: the work went well, and its result is no. Exit status 3."""

    exit_status = 3
    everywhere = True  # each process judges by the figures of all


class InterruptedRunError(LogosError):
    """The run was asked to stop by a signal and left a checkpoint. Exit status 128 + signal number, as shells do."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


def causes(error: BaseException) -> list[BaseException]:
    """An error with what it was raised from, the error itself first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def first_sentence(error: BaseException) -> str:
    """The first line of an error, ended by one full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(" .:") + "."


@contextmanager
def state_of_a_checkpoint(what: str) -> Iterator[None]:
    """Inside, a part of a checkpoint is taken up, and nothing else: where it is not what a fit writes, that is said.

    Args:
        what: Which part.

    Raises:
        InputError: The part lacks something, or something of it is of another kind.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"The checkpoint's {what} is not what a fit writes ({type(error).__name__}: {error}): give another "
            "checkpoint, or start again."
        ) from error
