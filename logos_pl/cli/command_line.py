"""The command line that repeats a run: every option that is not at its default."""

import dataclasses
import os
import shlex
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # lightning, which not every command loads
    from logos_pl.cli.command import Command

ELSEWHERE = "PATH/TO"
"""Placeholder for a folder outside the working directory, since a shared page must not reveal home folders."""


def command_line(command: "Command", *, revision: str | None = None, leave_out: Set[str] = frozenset()) -> str:
    """Return the command line of a run, quoted for a shell.

    It has the options of the command and of its groups, but none of the machine (`--trainer.…`). Paths inside the
    working directory are relative to it; of other paths, only the last part is given.

    Args:
        command: A prepared command.
        revision: Commit of the model on the Hub; None: as given.
        leave_out: Options to leave out, such as `data.prompt`.
    """
    given: dict[str, Any] = {}
    for group, settings in command.settings.items():
        for part in dataclasses.fields(settings):
            value = getattr(settings, part.name)
            if value != part.default:
                given[f"{group}.{part.name}"] = value
    given |= {name: command.config.get(name) for name, option in command.options.items()}
    given = {name: value for name, value in given.items() if value is not None and name not in leave_out}
    if revision is not None:
        given["model.revision"] = revision
    arguments = [f"--{name}={written(value)}" for name, value in given.items() if not isinstance(value, dict)]
    arguments += [
        f"--{name}.{key}={written(part)}" for name, value in given.items() if isinstance(value, dict)
        for key, part in value.items()
    ]  # fmt: skip
    return shlex.join(["logos-pl", command.name, *arguments])


def written(value: Any) -> str:
    """A value as on the command line; of a path outside the working directory, only the last part."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if not isinstance(value, str | Path) or not os.path.lexists(text):
        return text
    relative = os.path.relpath(text)
    return f"{ELSEWHERE}/{Path(relative).name}" if relative.startswith("..") else relative
