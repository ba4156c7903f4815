"""Checks that a checkpoint belongs to the run that resumes it."""

from typing import Any

from logos_pl.errors import InputError


def refuse_other_run(recorded: dict[str, Any] | None, present: dict[str, Any], name: str = "The checkpoint") -> None:
    """Compare the identity of a checkpoint with that of the run.

    Args:
        recorded: Identity of the checkpoint.
        present: Identity of the run.
        name: Name of the checkpoint in messages.

    Raises:
        InputError: They differ, or the checkpoint has no identity.
    """
    if recorded is None:
        raise InputError(f"{name} was not written by logos-pl fit: give another checkpoint, or start again.")
    differing = [key for key in present if recorded.get(key) != present[key]]
    if differing:
        listed = ", ".join(f"{key} {recorded.get(key)!r} (now {present[key]!r})" for key in differing)
        raise InputError(f"{name} belongs to another run, with {listed}: give the same settings, or start again.")
