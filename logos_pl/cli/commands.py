"""Names and summaries of the commands, `--help` and `--version`; imports only light modules to answer at once."""

import difflib
from importlib.metadata import PackageNotFoundError, version

from logos_pl.errors import InputError
from logos_pl.io.terminal import shortened

COMMANDS = {
    "read": "Read one prompt at every row; no configuration is needed.",
    "fit": "Train a tuned lens and write it to checkpoints/tuned_lenses/<model>/.",
    "prism": "Fit a Prism lens: one map shared by all rows.",
    "jacobian": "Fit a Jacobian lens: the mean Jacobian of the last row by each row.",
    "validate": "Print the KL of each row on the validation text.",
    "test": "Evaluate a lens against the acceptance gates, on held-out prompts and text.",
    "compare": "Compare two lenses of a model at every row, or track one lens over revisions of a model.",
    "predict": "Read prompts at every row with every lens; write CSV, JSON, plots and an HTML page.",
    "selftest": "Check that head and sweep are numerically exact on a model.",
    "chat": "Talk with a model; each token is coloured by the depth at which it settled.",
    "doctor": "Print versions, devices, memory and which models fit, for a bug report.",
    "export": "Write a Jacobian lens in a format that other packages read.",
    "hub": "Publish, fetch and verify lenses on the Hub.",
}
"""Summary of every command."""

OWN_PARSERS = ("read", "chat", "doctor", "export", "hub")
"""Commands that parse their own arguments and run without Lightning."""

MAX_SHOWN = 40
"""Characters of an unknown command that are quoted in the message."""


def usage() -> str:
    """Text of `logos-pl --help`."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    return (
        'usage: logos-pl read "The capital of Germany is" [--model MODEL]\n'
        "       logos-pl COMMAND [--config FILE] [--OPTION VALUE ...]\n\n"
        "At which depth does a language model start to know its answer? logos-pl trains tuned lenses and\n"
        "reads prompts through every row of the residual stream.\n\n"
        f"commands:\n{listed}\n\n"
        "logos-pl COMMAND --help lists a command's options, logos-pl COMMAND --print_config their values.\n"
        "logos-pl --version prints the version. On the bundled demo: logos-pl fit --config configs/demo.yaml"
    )


def answer_at_once(args: list[str]) -> str | None:
    """Text of `--help` or `--version`; None if a command is to be run.

    Raises:
        InputError: The command is missing or unknown.
    """
    first = args[0] if args else ""
    if first in ("-h", "--help"):
        return usage()
    if first == "--version":
        return f"logos-pl {installed_version()}"
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


def installed_version() -> str:
    """Version of logos-pl according to its package metadata, as recorded in provenance.

    Raises:
        InputError: It is run from its source without being installed.
    """
    try:
        return version("logos-pl")
    except PackageNotFoundError as error:
        raise InputError(
            "logos-pl is on the path but not installed, so its version cannot be recorded: run `pip install --editable "
            ".` in its folder."
        ) from error
