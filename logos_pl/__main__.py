"""The entry of `logos-pl` and `python -m logos_pl`: what has to be set before torch is loaded, then the rest."""

import os
import sys


def main() -> int:
    """Run the command line; see `logos_pl.entry.main` and `logos_pl.hub_cli.main`."""
    # Threads that wait for each other without spinning: on two cores that another program uses too, a fit of the demo
    # makes 50 steps in the time in which it makes one with the spinning default.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        if sys.argv[1:2] == ["hub"]:  # to list a repository takes neither torch nor lightning
            from logos_pl.hub_cli import main as run_hub

            return run_hub(sys.argv[2:])
        from logos_pl.entry import main as run

        return run()
    except KeyboardInterrupt:
        from logos_pl.terminal import complain

        complain("Interrupted before the first step; there is nothing to resume.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
