"""Entry point: runs a command and returns its exit status; an error is one sentence on standard error."""

import sys

from logos_pl.artifacts.provenance_schema import Fingerprint
from logos_pl.cli.command import Command
from logos_pl.cli.commands import answer_at_once, installed_version
from logos_pl.cli.compare import Compare
from logos_pl.cli.error_messages import describe, speak_plainly
from logos_pl.cli.foreseen import FORESEEN
from logos_pl.cli.predict import Predict, compare_models, with_cross_report
from logos_pl.cli.processes import check_launcher, is_first_process
from logos_pl.cli.quiet import silence_third_parties
from logos_pl.cli.run import run_command
from logos_pl.cli.several_models import SeveralModelsError, each_model
from logos_pl.compare.revision_writer import Series
from logos_pl.errors import InterruptedRunError, LogosError
from logos_pl.io.terminal import complain, say
from logos_pl.sweeps.writer import SweepDestination

DONE = {"fit": "fitted", "prism": "fitted", "jacobian": "fitted", "test": "tested"}
"""What a command does with several models, for the sentence at the end."""


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
            if error.everywhere:  # the first process reports it; Lightning would kill it if others failed
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
    name, rest = args[0], with_a_model(args[1:])

    seen: dict[str, Fingerprint] = {}
    series = Series()

    def configure(command: Command) -> None:
        if isinstance(command, Predict):
            command.destination = destination
        if isinstance(command, Compare):
            command.series = series

    def configure_one(command: Command) -> None:
        configure(command)
        command.one_of_several, command.seen = True, seen

    def run_one(model: str) -> None:
        run_command(name, [*rest, f"--model.model_id={model}"], configure_one)

    try:
        run_command(name, rest, configure)
    except SeveralModelsError as several:
        status = each_model(several.models, run_one, with_cross_report(destination), DONE.get(name, "read"))
        compare_models(destination)
        series.finish(seen)
        return status
    return 0


def with_a_model(rest: list[str]) -> list[str]:
    """Arguments with the first of `--models` as the model; a configuration or a later option overrides it."""
    first = rest[rest.index("--models") + 1 :][:1] if "--models" in rest else []
    return [f"--model.model_id={first[0]}", *rest] if first and not first[0].startswith("-") else rest
