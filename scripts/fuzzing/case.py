"""A case: a folder with malformed input, a command that reads it, and what must not happen."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random
from typing import NamedTuple

from fuzzing.child import Stdout
from logos_pl.cli.commands import OWN_PARSERS
from logos_pl.cli.entry import main
from logos_pl.errors import LogosError


@dataclass(frozen=True)
class Case:
    """One malformed input and the command that reads it.

    Attributes:
        title: What is wrong with the input.
        command: The command, for display.
        call: The same as a function, called in the case's folder.
        changed_byte: A byte of a hashed file differs, so that success is a fault.
        by_command: It goes through the command line; Python calls make fewer promises on messages.
        environment: Variables to set.
        stdout: Where standard output goes.
    """

    title: str
    command: str
    call: Callable[[], int | None]
    changed_byte: bool = False
    by_command: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    stdout: Stdout = "file"


class Kind(NamedTuple):
    """A kind of cases.

    Attributes:
        name: Its name.
        share: How many of 10,000 cases are of this kind.
        make: Makes the input in a copy of the workspace, from random numbers alone.
    """

    name: str
    share: int
    make: Callable[[Random, Path], Case]


def command(
    title: str,
    arguments: list[str],
    *,
    changed_byte: bool = False,
    environment: dict[str, str] | None = None,
    stdout: Stdout = "file",
) -> Case:
    """A case of the command line."""
    if arguments[0] in OWN_PARSERS:

        def call() -> int:
            return int(import_module(f"logos_pl.cli.{arguments[0]}").main(arguments[1:]))

    else:

        def call() -> int:
            return main(arguments)

    shown = " ".join(argument if len(argument) <= 60 else f"{argument[:50]}…" for argument in arguments)
    return Case(title, f"logos-pl {shown}", call, changed_byte, True, environment or {}, stdout)


def from_python(
    title: str,
    name: str,
    read: Callable[[], object],
    *,
    changed_byte: bool = False,
    also_raises: type[Exception] = LogosError,
) -> Case:
    """A case of a call from Python, which may raise our own errors and what its docstring names besides."""

    def call() -> int:
        try:
            read()
        except (LogosError, also_raises) as error:
            print(error, file=sys.stderr)
            return 2
        return 0

    return Case(title, name, call, changed_byte, by_command=False)
