"""One command for several models or revisions, one after the other: `--models A@step1000 A@step2000`."""

import gc
from collections.abc import Callable, Sequence

import torch

from logos_pl.cli.command import Command
from logos_pl.cli.device_options import world_size_of
from logos_pl.cli.error_messages import describe
from logos_pl.cli.foreseen import FORESEEN
from logos_pl.errors import DISK_ERRORS, GatesNotPassedError, InputError, InterruptedRunError, RunError
from logos_pl.io.terminal import complain, say
from logos_pl.lm.sources import folder_name_of


class SeveralModelsError(Exception):
    """Control flow: several models were given, and each needs its own run. Never shown to a user."""

    def __init__(self, models: list[str]) -> None:
        super().__init__(*models)
        self.models = models


def hand_out(command: Command) -> None:
    """End a run that names several models, so that each gets its own.

    Args:
        command: A command that is not the run of one of several.

    Raises:
        SeveralModelsError: `--models` is given.
        InputError: It is given with several processes or with the checkpoint of one model, or two models would write
            the same files.
    """
    models = command.config.get("models")
    if not models or command.one_of_several:
        return
    if world_size_of(command.config.trainer) > 1:
        raise InputError("--models runs one model after the other in one process: give --trainer.devices 1.")
    if command.name == "fit" and command.config.get("ckpt_path") is not None:
        raise InputError(
            "--ckpt_path resumes the fit of one model: name it with --model.model_id, and the others with --models in "
            "a second command."
        )
    if any(command.config.get(f"model.{name}") is not None for name in ("gguf", "adapter")):
        raise InputError("--model.gguf and --model.adapter belong to one model: leave --models out.")
    refuse_same_names(models)
    command.before_several(models)
    raise SeveralModelsError(models)


def refuse_same_names(models: Sequence[str]) -> None:
    """Check that no two models write to the same files.

    Raises:
        InputError: Two models have the same name.
    """
    seen: dict[str, str] = {}
    for model in models:
        name = folder_name_of(model)
        if name in seen:
            raise InputError(f"{seen[name]} and {model} would write the same files: give them in two commands.")
        seen[name] = model


def each_model(
    models: Sequence[str],
    run: Callable[[str], None],
    after: Callable[[list[tuple[str, str]]], None] = lambda skipped: None,
    done: str = "read",
) -> int:
    """Run a command for several models; one that fails is skipped.

    Args:
        models: Model ids, each of which may name a revision.
        run: Runs the command for one model.
        after: Called after each model with all that were skipped so far, with their reasons; may clear the list.
        done: What was done with the models, for the sentence at the end.

    Returns:
        Exit status: 0 if all succeeded, 3 if some only failed a gate, 2 if some failed by bad input only, else 1.
    """
    statuses: list[int] = []
    skipped: list[tuple[str, str]] = []
    for number, model in enumerate(models, start=1):
        say(f"\nmodel {number} of {len(models)}: {model}")
        try:
            run(model)
        except InterruptedRunError:
            raise
        except GatesNotPassedError as error:
            complain(f"{model}: {error}")
            statuses.append(error.exit_status)
        except Exception as error:  # of any kind: go on with the others
            disk = error.__cause__ if isinstance(error, RunError) else error
            if isinstance(disk, OSError) and disk.errno in DISK_ERRORS:
                raise  # the next model would fail likewise
            message, status = _reason(error)
            complain(f"{model} is skipped: {message}")
            skipped.append((model, message))
            statuses.append(status)
        after(skipped)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    failed = [status for status in statuses if status != GatesNotPassedError.exit_status]
    if failed:
        say(f"\n{len(models) - len(failed)} of {len(models)} models were {done}; see above for the others.")
        return InputError.exit_status if set(failed) == {InputError.exit_status} else 1
    return statuses[0] if statuses else 0


def _reason(error: Exception) -> tuple[str, int]:
    """Reason why a model is skipped, and the exit status."""
    if isinstance(error, FORESEEN):
        try:
            return describe(error)
        except FORESEEN:
            pass  # of a known class, but not a known cause
    return f"{type(error).__name__}: {' '.join(str(error).split())} (unexpected: please report it).", 1
