"""Error messages in one sentence, and exit statuses; imports only light modules."""

import errno
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping

from logos_pl.errors import DISK_ERRORS, InputError, LogosError, RunError
from logos_pl.io.terminal import one_line, open_closed_streams, printable, shortened, stream_encoding

MAX_GIVEN = 120
"""Characters of a rejected value that are quoted in the message."""

UNION = re.compile(r"Subtypes: \[(?P<takes>.*?)\] Errors: .*Given value type: \S+ \S+ Given value: ?(?P<given>.*)$")
SINGLE = re.compile(r"Expected a (?P<takes>.*?)\. Got value: ?(?P<given>.*)$")
"""jsonargparse's messages on a value of the wrong type, for a union of types and for a single one."""

PLAIN = (
    (
        r"argument subcommand: invalid choice: '?(.*?)'? \(choose from (.*)\)",
        r"There is no command \1: choose among \2",
    ),
    (r'expected "subcommand" to be one of \{.*\}, but it was not provided', "The command is missing"),
    (r"the following arguments are required: (?:--)?(\S+)", r"--\1 is missing"),
    (r"argument (?:-\w/)?(--[\w.]+)(?:/--[\w.]+\+)?: expected (?:one|at least one) argument", r"\1 needs a value"),
    (r"(--[\w.]+\.help): Importing '(.*)' is not allowed,.*", r"\1: \2 is not an allowed class"),
    (r"Subcommand '(\w+)' does not accept option '(.*)'", r"There is no option --\2 of \1"),
)
"""Its other messages, as patterns, with their replacements."""


SHORT_OF = {
    errno.EMFILE: "raise the limit with `ulimit -n`",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs, or use fewer or shorter sequences",
    errno.EAGAIN: "close other programs, or raise the limits of `ulimit`",
}
"""Remedy by errno, for exhausted system resources."""

PATH_ERRORS = {
    errno.ENOENT: 1,
    errno.ESTALE: 1,
    errno.ENOTDIR: 2,
    errno.EISDIR: 2,
    errno.ENAMETOOLONG: 2,
    errno.ELOOP: 2,
}
"""Exit status by errno of an unusable path; a missing one counts as a failure, as it may have been removed."""


NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""Text of torch's RuntimeError when the host is out of memory."""


class PlainRecord(logging.LogRecord):
    """A log record, also of other libraries, whose message is made printable."""

    def getMessage(self) -> str:  # noqa: N802
        """The printable message."""
        return printable(super().getMessage())


def speak_plainly() -> None:
    """Print warnings in one line without source code and printable log messages; never fail on encoding."""
    open_closed_streams()
    warnings.formatwarning = lambda message, *_, **__: f"logos-pl: {one_line(str(message))}\n"
    logging.setLogRecordFactory(PlainRecord)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=stream_encoding(), errors="backslashreplace")


def one_sentence(
    message: str,
    help_texts: str = "`logos-pl --help` or `logos-pl fit --help`",
    takes: Mapping[str, str] | None = None,
) -> str:
    """Rewrite a message of jsonargparse without Python types: the option, what it must be, what was given.

    Args:
        message: Message of jsonargparse.
        help_texts: Command that prints the help, for the remedy.
        takes: Description of accepted values by option, for options whose types would be long.
    """
    message = " ".join(message.split())
    key = re.match(r'Parser key "([^"]+)"(?: element \d+)?:', message)
    if key is None:
        return f"{_plainly(message)}: see {help_texts}."
    option, said = f"--{key[1]}", message[key.end() :].strip()
    found = UNION.search(said) or SINGLE.search(said)
    if found is None:
        return f"{option}: {said.rstrip('.')}."
    given, wanted = found["given"], (takes or {}).get(key[1]) or _in_words(found["takes"])
    if given == "None" and wanted == "text" and "element" not in key[0]:
        return f"{option} is missing: give it, or a configuration, such as --config configs/demo.yaml."
    if given == "None":
        given = "null"
    elif not given:
        given = "''"
    elif nested := re.fullmatch(r"NestedArg\(key='(.*)', val=(.*)\)", given):
        option, given = f"{option}.{nested[1]}", nested[2]
    return f"{option} must be {wanted} (got {shortened(given, MAX_GIVEN)}{_hint(given, wanted)})."


def _plainly(message: str) -> str:
    """Rewrite a message that is not about an option's value."""
    for pattern, words in PLAIN:
        if match := re.fullmatch(pattern, message.rstrip(".")):
            return match.expand(words)
    return message.rstrip(".")


WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null"}


def _in_words(takes: str) -> str:
    """Describe the types in a parser message in plain words."""
    listed = []
    for kind, choices, items in re.findall(r"<class '([\w.]+)'>|Literal\[([^\]]+)\]|((?:tuple|list)\b[^,]*)", takes):
        listed.append(choices or (WORDS.get(kind, kind.rpartition(".")[2]) if kind else "a list"))
        if items.startswith("tuple"):
            listed[-1] = "a list of two numbers"  # every tuple option has two
    return " or ".join(dict.fromkeys(listed)) or takes


THOUSANDS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def _hint(given: str, takes: str) -> str:
    """Suggest how to write the value."""
    number = re.fullmatch(r"([-+]?\d+(?:\.\d*)?(?:[eE]\+?\d{1,2})?)([kKmMbB]?)", given)
    if "a whole number" in takes and number is not None and not given.isdigit():
        meant = float(number[1]) * THOUSANDS[number[2].lower()]
        if meant.is_integer():
            return f"; write {meant:.0f}"
    if takes.startswith("text") and given != "null" and re.fullmatch(r"[-+\w.]+", given):
        return "; put it in quotes"
    return ""


def describe(error: Exception) -> tuple[str, int]:
    """Return the error message and the exit status.

    Raises:
        Exception: The given error, if the user can do nothing about it.
    """
    if isinstance(error, LogosError):
        return str(error), error.exit_status
    if _is(error, "lightning", "MisconfigurationException"):
        return " ".join(str(error).split()), InputError.exit_status
    if isinstance(error, BrokenPipeError):
        return "The reader of the output closed it, so the command stopped.", RunError.exit_status
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        reason = f"{error.strerror}{_file_of(error)}: free space, or choose writable folders."
        return reason, RunError.exit_status
    if isinstance(error, OSError) and error.errno in SHORT_OF:
        return f"{error.strerror}{_file_of(error)}: {SHORT_OF[error.errno]}.", RunError.exit_status
    if isinstance(error, OSError) and error.errno in PATH_ERRORS:
        status = PATH_ERRORS[error.errno]
        remedy = "keep files and folders in place while a command uses them" if status == 1 else "give another path"
        return f"{error.strerror}{_file_of(error)}: {remedy}.", status
    if isinstance(error, UnicodeDecodeError):
        reason = f"An input file is not UTF-8 text ({error.reason}): save it as UTF-8."
        return reason, InputError.exit_status
    if _is(error, "torch", "OutOfMemoryError") or isinstance(error, MemoryError) or NO_MEMORY in str(error):
        reason = " ".join(str(error).split())
        return f"Out of memory ({reason}): use fewer or shorter sequences, or another device.", RunError.exit_status
    if _is(error, "torch", "DistError") or (isinstance(error, RuntimeError) and "gloo/transport" in str(error)):
        reason = "Another process of the run failed, as reported above; fix this, and resume with --ckpt_path last."
        return reason, RunError.exit_status
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        return "A process that reads text was killed, perhaps for lack of memory; resume with --ckpt_path last.", 1
    raise error


def _file_of(error: OSError) -> str:
    return "" if error.filename is None else f" ({shortened(os.fsdecode(error.filename), MAX_GIVEN)})"


def _is(error: Exception, package: str, name: str) -> bool:
    """Whether an error is an instance of a class, compared by name to avoid importing its package."""
    return any(kind.__module__.split(".")[0] == package and kind.__name__ == name for kind in type(error).__mro__)
