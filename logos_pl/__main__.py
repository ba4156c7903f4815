"""The entry of `logos-pl` and `python -m logos_pl`: what has to be set before torch is loaded, then the rest."""

import os
import sys

from logos_pl.cli.commands import answer_at_once
from logos_pl.cli.error_messages import describe
from logos_pl.cli.processes import check_launcher
from logos_pl.errors import InputError
from logos_pl.io.terminal import complain, open_closed_streams, say


def main() -> int:
    """Run the command line; see `logos_pl.cli.entry.main` and `logos_pl.cli.hub.main`."""
    # Threads that wait for each other without spinning: on two cores that another program uses too, a fit of the demo
    # makes 50 steps in the time in which it makes one with the spinning default.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["MPLBACKEND"] = "agg"  # plots are saved, never shown; a backend that is not there ends the import
    open_closed_streams()
    try:
        answer = answer_at_once(sys.argv[1:])
        if answer is not None:
            say(answer)
            return 0
        _refuse_vanished_folder()
        if sys.flags.optimize > 1:
            raise InputError("PYTHONOPTIMIZE=2 takes away the docstrings that transformers reads: unset it.")
        if sys.argv[1:2] == ["hub"]:  # to list a repository takes neither torch nor lightning
            from logos_pl.cli.hub import main as run_hub

            return run_hub(sys.argv[2:])
        check_launcher()
        from logos_pl.cli.entry import main as run

        return run()
    except (InputError, OSError) as error:
        message, status = describe(error)
        complain(message)
        return status
    except KeyboardInterrupt:
        complain("Interrupted before the first step; there is nothing to resume.")
        return 130


def _refuse_vanished_folder() -> None:
    """Name what torch would end the process with, as it is loaded: a working folder that was removed.

    Raises:
        InputError: It was.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise InputError("The folder that this command was called in has been removed: go to another.") from error


if __name__ == "__main__":
    sys.exit(main())
