"""Entry point of `logos-pl` and `python -m logos_pl`: sets the environment before torch is imported."""

import os
import sys
from importlib import import_module

from logos_pl.cli.commands import OWN_PARSERS, answer_at_once
from logos_pl.cli.error_messages import describe
from logos_pl.cli.processes import check_launcher, is_first_process
from logos_pl.errors import InputError
from logos_pl.io.terminal import complain, open_closed_streams, say


def main() -> int:
    """Run the command line; see `logos_pl.cli.entry.main`, and `main` of the commands in `OWN_PARSERS`."""
    # Threads wait passively instead of spinning: on two cores shared with another program, a fit of the demo is 50
    # times as fast as with the default.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["MPLBACKEND"] = "agg"  # plots are saved, never shown; a missing interactive backend would fail at import
    open_closed_streams()
    try:
        answer = answer_at_once(sys.argv[1:])
        if answer is not None:
            say(answer)
            return 0
        _refuse_vanished_folder()
        if sys.flags.optimize > 1:
            raise InputError("PYTHONOPTIMIZE=2 removes the docstrings that transformers reads: unset it.")
        if sys.argv[1] in OWN_PARSERS:  # they need no lightning, and some no torch
            return int(import_module(f"logos_pl.cli.{sys.argv[1]}").main(sys.argv[2:]))
        check_launcher()
        from logos_pl.io.progress import Progress

        with Progress("loading libraries", shown=is_first_process()):
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
    """Check that the working folder exists; otherwise importing torch would abort the process.

    Raises:
        InputError: The working folder was removed.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise InputError("The working folder has been removed: change to another.") from error


if __name__ == "__main__":
    sys.exit(main())
