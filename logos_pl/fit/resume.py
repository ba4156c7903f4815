"""Checks that a checkpoint belongs to the run that resumes it, and is complete."""

from collections.abc import Mapping
from typing import Any

from logos_pl.errors import InputError, state_of_a_checkpoint

OPTIMIZER_STEPS = "epoch_loop.automatic_optimization.optim_progress"


def refuse_other_loops(checkpoint: Mapping[str, Any], fresh: Mapping[str, Any]) -> None:
    """Check that Lightning's counters are complete and agree with the step.

    Lightning ignores missing counters and then counts from zero, so that the run would never reach its last step.

    Args:
        checkpoint: The checkpoint.
        fresh: State of the trainer's fit loop before anything is restored.

    Raises:
        InputError: A counter is missing or not a count, or the optimiser's steps differ from the checkpoint's.
    """
    with state_of_a_checkpoint("state of the training loop"):
        recorded = checkpoint["loops"]["fit_loop"]
        _check_counters(recorded, fresh)
        counted = recorded[OPTIMIZER_STEPS]["optimizer"]["step"]["total"]["completed"]
        if counted != checkpoint["global_step"]:
            raise ValueError(f"{counted} optimiser steps and a global_step of {checkpoint['global_step']}")


def _check_counters(recorded: Any, fresh: Any, name: str = "fit_loop") -> None:
    """Compare the structure of the counters.

    Raises:
        KeyError: One is missing.
        TypeError: One has another type.
        ValueError: One is negative.
    """
    if isinstance(fresh, Mapping):
        for key, value in fresh.items():
            _check_counters(recorded[key], value, str(key))
    elif type(recorded) is not type(fresh):
        raise TypeError(f"{name} is {recorded!r}")
    elif recorded < 0:
        raise ValueError(f"{name} is {recorded}")


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
