"""`logos-pl read`: one prompt through every row, from the command line alone: no configuration, no run folder."""

import argparse
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from logos_pl.bounds import check_number
from logos_pl.cli.own_parser import ADAPTER_HELP, GGUF_HELP, LENS_HELP, OwnParser, importing, run_own
from logos_pl.demo import DEMO
from logos_pl.errors import InputError
from logos_pl.io.replaceable import PAGE_BEGIN, PNG_BEGIN, refuse_other_content
from logos_pl.io.terminal import shortened
from logos_pl.sweeps.records import TOP_K

EXAMPLES = """examples:
  logos-pl read "The capital of Germany is" --answer Berlin
  logos-pl read "The capital of Germany is" --model Qwen/Qwen3-0.6B --layers 14-28 --html page.html
  logos-pl read "What is the capital of Germany?" --model Qwen/Qwen3-0.6B --chat
  logos-pl read "1,450,7483" --ids --model ./my-model
  git log -1 --format=%B | logos-pl read - --model ./my-model --png tokens.png
"""

ROWS = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")


def main(args: Sequence[str]) -> int:
    """Run the command.

    Args:
        args: Arguments after `logos-pl read`.

    Returns:
        Exit status: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C.
    """
    return run_own(lambda: _run(args), "Interrupted before the end; no file is incomplete.")


def _run(args: Sequence[str]) -> None:
    """Parse the arguments, check what can be checked without a model, and read the prompt.

    Raises:
        InputError: An option cannot be used.
    """
    given = command_parser().checked(list(args))
    check_number("--top", given.top, at_least=1, at_most=TOP_K)
    _check_form(given)
    if given.layers is not None and not ROWS.fullmatch(given.layers):
        raise InputError(f"--layers must be rows, such as 0,4,8-12 (got {shortened(given.layers, 60)!r}).")
    for option, begin in (("html", PAGE_BEGIN), ("png", PNG_BEGIN)):
        _check_place(option, getattr(given, option), begin)
    if given.html is not None and given.png is not None and os.path.realpath(given.html) == os.path.realpath(given.png):
        raise InputError(f"--html and --png are both {given.png}: give each a file of its own.")
    with importing():
        from logos_pl.cli.read_prompt import read
    read(given)


def command_parser() -> OwnParser:
    """Parser of the command."""
    parser = OwnParser("read", EXAMPLES)
    add = parser.add_argument
    add("text", help="the prompt; `-` reads it from standard input and drops a final line feed")
    add("--model", default=DEMO, help="Hub id or local folder of the model; default: the bundled demo")
    add("--revision", help="branch, tag or commit of the model on the Hub")
    add("--gguf", metavar="FILE", help=GGUF_HELP)
    add("--adapter", help=ADAPTER_HELP)
    add("--device", default="auto", help="cuda, cuda:1, mps or cpu; default: the first with enough memory")
    add("--lens", help=LENS_HELP)
    add("--lens_revision", help="release, branch or commit of the lens on the Hub")
    add("--chat", action="store_true", help="put the prompt into the model's chat template, as the user's message")
    add("--system", help="with --chat: the system message, in place of the template's own")
    add("--ids", action="store_true", help="the prompt is token ids, such as 1,2,3, read as they are")
    add(
        "--special_tokens",
        choices=["auto", "none"],
        default="auto",
        help="auto: add the tokenizer's special tokens, such as BOS, to a text, once; none: add none",
    )
    add("--answer", help="expected continuation; its rank is shown at every row")
    add("--layers", help="rows to show, such as 0,4,8-12; default: all")
    add("--top", type=int, default=5, help=f"maximum number of tokens to show at each row, up to {TOP_K}; default: 5")
    add("--html", metavar="FILE", help="also write the page: every row and position, in one file")
    add("--png", metavar="FILE", help="also write the picture: the likeliest token at every row and position")
    return parser


def _check_form(given: argparse.Namespace) -> None:
    """Check the options that say what the prompt is.

    Raises:
        InputError: They contradict each other.
    """
    if given.chat and given.ids:
        raise InputError("--chat and --ids cannot be combined: give a message, or token ids.")
    if given.system is not None and not given.chat:
        raise InputError("--system is the system message of a conversation: give --chat as well.")
    if given.special_tokens == "none" and (given.chat or given.ids):
        raise InputError("--special_tokens applies to plain text only: leave it out with --chat and --ids.")


def _check_place(option: str, given: str | None, begin: bytes) -> None:
    """Check before the model is loaded that a file can be written.

    Raises:
        InputError: There is no such folder, or something other than an earlier file of this kind is in its place.
    """
    if given is None:
        return
    path = Path(given)
    with suppress(OSError):  # a name too long, no permission: writing it says so
        if not path.parent.is_dir():
            raise InputError(f"--{option} {given}: there is no folder {os.path.relpath(path.parent)}: create it first.")
        if path.exists() and not path.is_file():
            raise InputError(f"--{option} {given} is not a file: give the name of one.")
        refuse_other_content(path, begin, f"--{option} {given}")
