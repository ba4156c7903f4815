"""Entry point: runs a command and returns its exit status; an error is one sentence on standard error."""

import sys

from logos_pl.cli.command import Command
from logos_pl.cli.commands import answer_at_once, installed_version
from logos_pl.cli.error_messages import describe, speak_plainly
from logos_pl.cli.foreseen import FORESEEN
from logos_pl.cli.predict import Predict, SeveralModelsError, each_model, refuse_same_names
from logos_pl.cli.processes import check_launcher, is_first_process
from logos_pl.cli.quiet import silence_third_parties
from logos_pl.cli.run import run_command
from logos_pl.errors import InterruptedRunError, LogosError
from logos_pl.io.terminal import complain, say
from logos_pl.sweeps.writer import SweepDestination


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Command-line arguments; default: those of the process.

    Returns:
        Exit status: 0, 1 for a failure, 2 for bad input, 128 + n after signal n.
    """
    silence_third_parties()
    speak_plainly()
    destination = SweepDestination()
    try:
        return _run(sys.argv[1:] if args is None else args, destination)
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


def _run(args: list[str], destination: SweepDestination) -> int:
    """Run the command and return its exit status.

    Raises:
        InputError: The command is unknown, its arguments cannot be used, or logos-pl is not installed.
    """
    answer = answer_at_once(args)
    if answer is not None:
        say(answer)
        return 0
    installed_version()  # here rather than at the end of a fit, where it is recorded
    check_launcher()
    name, rest = args[0], args[1:]

    def configure(command: Command, one_of_several: bool = False) -> None:
        if isinstance(command, Predict):
            command.destination, command.one_of_several = destination, one_of_several

    def read(model: str) -> None:
        run_command(name, [*rest, f"--model.model_id={model}"], lambda command: configure(command, True))

    try:
        run_command(name, rest, configure)
    except SeveralModelsError as several:
        refuse_same_names(several.models)
        return each_model(several.models, destination, read)
    return 0
