"""The commands, and what `logos-pl` says of itself; knows no library, so that it answers at once."""

import difflib
from importlib.metadata import version

from logos_pl.errors import InputError
from logos_pl.io.terminal import shortened

COMMANDS = {
    "fit": "Train a tuned lens, and write it to checkpoints/tuned_lenses/<model>/.",
    "prism": "Fit a Prism lens, one map shared by all rows.",
    "validate": "Print KL per row on the text that decided on stopping.",
    "test": "Evaluate a lens against the acceptance gates, on held-out prompts and text.",
    "predict": "Sweep prompts through every row and lens, into CSV, JSON, plots and a page.",
    "selftest": "Check on the model at hand that the head and the sweep are exact.",
    "hub": "Publish, fetch and verify lenses on the Hub.",
}
"""Every command with one sentence."""

MAX_SHOWN = 40
"""Characters of a mistyped command that are quoted."""


def usage() -> str:
    """What `logos-pl --help` prints."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    return (
        "usage: logos-pl COMMAND [--config FILE] [--OPTION VALUE ...]\n\n"
        "At which depth does a language model start to know its answer? logos-pl trains tuned lenses and\n"
        "reads prompts through every row of the residual stream.\n\n"
        f"commands:\n{listed}\n\n"
        "logos-pl COMMAND --help lists a command's options, logos-pl COMMAND --print_config their values.\n"
        "logos-pl --version prints the version. On the bundled demo: logos-pl fit --config configs/demo.yaml"
    )


def answer_at_once(args: list[str]) -> str | None:
    """The answer to arguments that need no command run; None where a command is to be run.

    Raises:
        InputError: There is no such command, or none is named.
    """
    first = args[0] if args else ""
    if first in ("-h", "--help"):
        return usage()
    if first == "--version":
        return f"logos-pl {version('logos-pl')}"
    if not args:
        raise InputError("The command is missing: see `logos-pl --help`.")
    if first in COMMANDS:
        return None
    if first.startswith("-"):
        raise InputError(
            "The command comes before its options, as in logos-pl fit --config FILE: see `logos-pl --help`."
        )
    near = difflib.get_close_matches(first[:MAX_SHOWN], COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose among {', '.join(COMMANDS)}."
    raise InputError(f"There is no command {shortened(first, MAX_SHOWN)!r}: {hint}")
