"""The sums of an unfinished fit of a Jacobian lens on disk: written atomically, with a checksum."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from logos_pl.artifacts.checkpoint_file import checkpoint_bytes, read_unaltered
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError, RunError, state_of_a_checkpoint
from logos_pl.fit.jacobian import JacobianModule
from logos_pl.functional.mean_jacobian import JacobianSums
from logos_pl.io.files import replace_file
from logos_pl.io.terminal import shortened

MAX_SHOWN = 80
"""Largest number of characters quoted from a value."""


def write_unfinished(path: Path, module: JacobianModule, data: TrainingText) -> None:
    """Write everything a run needs to resume exactly from here.

    Raises:
        RunError: It cannot be written; an earlier file is kept.
    """
    content = {
        "identity": _identity(module, data),
        "sums": {name: of.cpu() for name, of in module.sums._asdict().items()},
        "sequences": module.num_sequences,
        "probes_done": module.probes_done,
        "text": data.state_dict(),
    }
    try:
        replace_file(path, checkpoint_bytes(content))
    except OSError as error:
        raise RunError(
            f"The sums of the fit cannot be written to {os.path.relpath(path)} ({error.strerror}): fix the disk, or "
            "choose another --jacobian.folder."
        ) from error


def restore_unfinished(path: Path, module: JacobianModule, data: TrainingText) -> None:
    """Restore what `write_unfinished` wrote.

    Raises:
        InputError: The file was altered, or is of a run with other options; the first difference is named.
    """
    start_again = f"remove {os.path.relpath(path)} to start again"
    content = read_unaltered(path, remedy=start_again)
    remedy = f"give the same options, or {start_again}"
    with state_of_a_checkpoint("sums of a Jacobian lens"):
        _refuse_other_run(content["identity"], _identity(module, data), remedy)
        sums = JacobianSums(**content["sums"])
        for name, now in module.sums._asdict().items():
            before = getattr(sums, name)
            if before.shape != now.shape or before.dtype != now.dtype:
                raise ValueError(f"{name} is {before.dtype} of shape {tuple(before.shape)}")
        done, probes_done = int(content["sequences"]), int(content["probes_done"])
        if done < 0 or not 0 <= probes_done < module.probes:
            raise ValueError(f"{done} sequences and {probes_done} probes")
        data.load_state_dict(content["text"])
    module.sums = JacobianSums(*(of.to(module.frozen.device) for of in sums))
    module.num_sequences, module.probes_done = done, probes_done


def _identity(module: JacobianModule, data: TrainingText) -> dict[str, Any]:
    """What determines the sums, and the order in which they are summed."""
    return {
        **module.identity(),
        "skip_first": module.jacobian.skip_first,
        "probes": module.probes,
        "sequences": module.jacobian.sequences,
        **data.identity(),
    }


def _refuse_other_run(before: Mapping[str, Any], now: Mapping[str, Any], remedy: str) -> None:
    for name, value in now.items():
        given = before.get(name)
        if given != value:
            there = shortened(str(given), MAX_SHOWN)
            raise InputError(f"The unfinished fit has {name} {there}, but this run {value}: {remedy}.")
