"""What goes wrong, as one sentence for the user and an exit status; knows no library that takes long to load."""

import errno
import io
import re
import sys
import warnings

from logos_pl.errors import InputError, LogosError, RunError

DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EIO}


def speak_plainly() -> None:
    """Warnings in one sentence, without the line of code; and output that no encoding of the terminal can stop."""
    warnings.formatwarning = lambda message, *_, **__: f"logos-pl: {message}\n"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def one_sentence(message: str, help_texts: str = "`logos-pl --help` or `logos-pl fit --help`") -> str:
    """The parser's message without its Python types: which option, what was given, what it takes.

    Args:
        message: What jsonargparse says.
        help_texts: Where to look.
    """
    message = " ".join(message.split())
    key, given = re.match(r'Parser key "([^"]+)":', message), re.search(r"(?:Given|Got) value: (.*)$", message)
    if key is None:
        return message.rstrip(".") + f": see {help_texts}."
    option = f"--{key[1]}"
    if given is None:
        return f"{option}: {message[key.end() :].strip().rstrip('.')}."
    wanted = [name or choices for name, choices in re.findall(r"<class '(\w+)'>|typing\.Literal\[([^\]]+)\]", message)]
    takes = " or ".join(dict.fromkeys(wanted)) or message[key.end() : given.start()].strip()
    if given[1] == "None":
        return f"{option} is missing: give it, or a configuration, such as --config configs/demo.yaml."
    return f"{option} {given[1]} is not what it takes: {takes}."


def describe(error: Exception) -> tuple[str, int]:
    """The sentence for the user, and the exit status.

    Raises:
        Exception: the given one, where it is none of those that a user can do something about.
    """
    if isinstance(error, LogosError):
        return str(error), error.exit_status
    if _is(error, "lightning", "MisconfigurationException"):
        return " ".join(str(error).split()), InputError.exit_status
    if isinstance(error, BrokenPipeError):
        return "Whoever read the output has gone, and the command stopped.", RunError.exit_status
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        where = "" if error.filename is None else f" ({error.filename})"
        return f"{error.strerror}{where}: free space, or choose folders that can be written.", RunError.exit_status
    if isinstance(error, UnicodeDecodeError):
        reason = f"A file that was given is not UTF-8 text ({error.reason}): save it as UTF-8."
        return reason, InputError.exit_status
    if _is(error, "torch", "OutOfMemoryError"):
        reason = " ".join(str(error).split())
        return f"Out of memory ({reason}): take fewer or shorter sequences, or another device.", RunError.exit_status
    if _is(error, "torch", "DistError") or (isinstance(error, RuntimeError) and "gloo/transport" in str(error)):
        reason = (
            "Another process of the run has ended, and says above why; go on with --ckpt_path last once it is mended."
        )
        return reason, RunError.exit_status
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        return "A process that reads text was killed; go on with --ckpt_path last (is memory short?).", 1
    raise error


def _is(error: Exception, package: str, name: str) -> bool:
    """Whether an error is of a package's class, by name: to ask the class itself would load the package."""
    return any(kind.__module__.split(".")[0] == package and kind.__name__ == name for kind in type(error).__mro__)
