"""One command, from its arguments to its exit status; what goes wrong is one sentence on standard error."""

import gc
import os
import sys

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from logos_pl.cli.error_messages import describe, speak_plainly
from logos_pl.cli.processes import check_launcher, is_first_process
from logos_pl.cli.quiet import silence_third_parties
from logos_pl.cli.run import LogosCLI, LogosParser, SeveralModelsAskedError, file_name
from logos_pl.cli.run import __doc__ as cli_doc
from logos_pl.errors import DISK_ERRORS, InputError, InterruptedRunError, LogosError, RunError
from logos_pl.fit.run_config import RunConfig
from logos_pl.io.terminal import complain, say
from logos_pl.sweep.several_models import record_skips, write_cross_report
from logos_pl.sweep.writer import SweepDestination

FORESEEN = (LogosError, MisconfigurationException, OSError, UnicodeDecodeError, RuntimeError, MemoryError)
"""What may go wrong through no fault of the program; `describe` tells those of them that are one."""


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: arguments, for calls from Python; the process's own where left out.

    Returns:
        Exit status: 0, 1 for a failure, 2 for bad input, 128 + n after signal n.
    """
    silence_third_parties()
    speak_plainly()
    destination = SweepDestination()
    try:
        try:
            check_launcher()
            run_command(args, destination)
        except SeveralModelsAskedError as asked:
            return each_model(sys.argv[1:] if args is None else args, asked.models, destination)
    except FORESEEN as error:
        message, status = describe(error)
        if isinstance(error, LogosError) and not is_first_process():
            if error.everywhere:  # the first process says it; Lightning would kill it if another ended with a status
                return 0
            if isinstance(error, InterruptedRunError):
                return status
        complain(message)
        return status
    finally:
        destination.close()
    return 0


def run_command(args: list[str] | None, destination: SweepDestination, one_model: bool = False) -> None:
    """Parse the arguments and do what they say."""
    LogosCLI(
        destination=destination,
        one_model=one_model,
        parser_class=LogosParser,
        parser_kwargs={"prog": "logos-pl", "description": cli_doc, "allow_abbrev": False},
        save_config_callback=RunConfig,
        save_config_kwargs={"save_to_log_dir": False},
        seed_everything_default=316,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        args=args,
    )


def each_model(args: list[str], models: list[str], destination: SweepDestination) -> int:
    """Sweep one model after the other; one that fails or does not fit is skipped, with its reason on record.

    Returns:
        0 if all were read, 2 if only bad input was in the way of some, else 1.

    Raises:
        InputError: Two of them would write the same files.
    """
    refuse_same_names(models)
    statuses: list[int] = []
    skipped: list[tuple[str, str]] = []
    for number, model in enumerate(models, start=1):
        say(f"\nmodel {number} of {len(models)}: {model}")
        try:
            run_command([*args, f"--model.model_id={model}"], destination, one_model=True)
        except InterruptedRunError:
            raise
        except Exception as error:  # whatever it is, the others go on
            disk = error.__cause__ if isinstance(error, RunError) else error
            if isinstance(disk, OSError) and disk.errno in DISK_ERRORS:
                raise  # the next one would meet the same
            message, status = _reason(error)
            complain(f"{model} is skipped: {message}")
            skipped.append((model, message))
            statuses.append(status)
        if destination.reports:  # bad input alone rotates nothing
            record_skips(destination.open(), skipped)
            skipped.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if len(destination.reports) > 1:
        written = write_cross_report(destination.open(), destination.reports)
        say(f"\nmodels side by side: {os.path.relpath(written)}")
    if statuses:
        say(f"\n{len(models) - len(statuses)} of {len(models)} models were read; the others are named above.")
    return 0 if not statuses else InputError.exit_status if set(statuses) == {InputError.exit_status} else 1


def _reason(error: Exception) -> tuple[str, int]:
    """Why a model is skipped, and the status that it leaves."""
    if isinstance(error, FORESEEN):
        try:
            return describe(error)
        except FORESEEN:
            pass  # one of these kinds, but none of those that are known
    return f"{type(error).__name__}: {' '.join(str(error).split())} (unforeseen: please report it).", 1


def refuse_same_names(models: list[str]) -> None:
    """Make sure that no two models write to the same files.

    Raises:
        InputError: Two have the same clean name.
    """
    seen: dict[str, str] = {}
    for model in models:
        name = file_name(model)
        if name in seen:
            raise InputError(f"{seen[name]} and {model} would write the same files: sweep them in two commands.")
        seen[name] = model
