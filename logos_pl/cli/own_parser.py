"""Commands with a parser of their own, which run without Lightning: `read`, `chat`, `doctor`, `export` and `hub`."""

import argparse
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from logos_pl.cli.commands import COMMANDS
from logos_pl.cli.error_messages import describe, one_sentence, speak_plainly
from logos_pl.cli.quiet import silence_third_parties
from logos_pl.errors import InputError, LogosError
from logos_pl.io.files import is_utf8
from logos_pl.io.terminal import complain
from logos_pl.io.waiting import waiting

GGUF_HELP = "name of a GGUF file in the model's folder or repository, read instead of its other weights"
ADAPTER_HELP = "folder or Hub id (org/name@revision) of a PEFT adapter, which is merged into the weights"
LENS_HELP = (
    "lens to read with: a tuned lens (folder or org/name on the Hub), KIND:SOURCE for another kind (such as "
    "imported:org/name), or `norm` for the logit lens. Default: the tuned lens in checkpoints/tuned_lenses/<model>, "
    "else the logit lens"
)
"""Help of `--lens`."""


class OwnParser(argparse.ArgumentParser):
    """Parser of one command; an error is one sentence. Values are text as given, never YAML.

    Args:
        name: Name of the command.
        epilog: Further help, below the options.
    """

    def __init__(self, name: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"logos-pl {name}",
            description=COMMANDS[name],
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the parser's error in one sentence.

        Raises:
            InputError: Always.
        """
        raise InputError(one_sentence(message, f"`{self.prog} --help`"))

    def checked(self, args: list[str]) -> argparse.Namespace:
        """Parse the arguments, and check that every text is UTF-8 without NUL.

        Raises:
            InputError: An option is unknown, lacks its value, or a text is empty or not UTF-8.
        """
        given = self.parse_args(args)
        for option, value in vars(given).items():
            _check_text(option, value)
        return given


def _check_text(option: str, value: Any) -> None:
    if not isinstance(value, str):
        return
    shown = "The text" if option == "text" else f"--{option}"
    if not value.strip():
        raise InputError(f"{shown} is empty: give a value, or leave it out.")
    if "\0" in value:
        raise InputError(f"{shown} contains a NUL character: remove it.")
    if not is_utf8(value):
        raise InputError(f"{shown} {value!r} is not UTF-8 text: give it in UTF-8.")


def run_own(work: Callable[[], object], interrupted: str) -> int:
    """Run a command and return its exit status; an error is one sentence on standard error.

    Args:
        work: Parses the arguments and does the work.
        interrupted: Message after Ctrl-C.

    Returns:
        Exit status: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C.
    """
    silence_third_parties()
    speak_plainly()
    try:
        work()
    except (LogosError, OSError, UnicodeDecodeError, RuntimeError, MemoryError) as error:
        message, status = describe(error)
        complain(message)
        return status
    except KeyboardInterrupt:
        complain(interrupted)
        return 130
    return 0


@contextmanager
def importing() -> Iterator[None]:
    """Context for importing large libraries without garbage collection, which takes a tenth of the time for nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with waiting("loading torch and transformers"):
            yield
    finally:
        if was_enabled:
            gc.enable()
