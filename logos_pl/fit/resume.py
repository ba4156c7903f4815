"""Whether a checkpoint is of the run that is to go on."""

from typing import Any

from logos_pl.errors import InputError


def refuse_other_run(recorded: dict[str, Any] | None, present: dict[str, Any], name: str = "The checkpoint") -> None:
    """Compare a checkpoint's identity with the present run's.

    Args:
        recorded: The checkpoint's.
        present: The run's.
        name: What the checkpoint is called in messages.

    Raises:
        InputError: they differ, or the checkpoint records none.
    """
    if recorded is None:
        raise InputError(f"{name} was not written by logos-pl fit: give one that was, or start anew.")
    differing = [key for key in present if recorded.get(key) != present[key]]
    if differing:
        listed = ", ".join(f"{key} {recorded.get(key)!r} (asked for: {present[key]!r})" for key in differing)
        raise InputError(f"{name} belongs to another run, with {listed}: give the same settings, or start anew.")
