"""`logos-pl chat`: talk with a model, each token coloured by the depth at which it settled."""

from collections.abc import Sequence

from logos_pl.bounds import check_number
from logos_pl.cli.chat_help import COMMANDS_HELP
from logos_pl.cli.own_parser import ADAPTER_HELP, GGUF_HELP, LENS_HELP, OwnParser, importing, run_own
from logos_pl.demo import DEMO

MAX_TOKENS = 100_000


def main(args: Sequence[str]) -> int:
    """Run the command.

    Args:
        args: Arguments after `logos-pl chat`.

    Returns:
        Exit status: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C before the conversation.
    """
    return run_own(lambda: _run(args), "Interrupted before the conversation began.")


def _run(args: Sequence[str]) -> None:
    """Parse the arguments and talk.

    Raises:
        InputError: An option, the model or the lens cannot be used.
    """
    given = command_parser().checked(list(args))
    check_number("--max_tokens", given.max_tokens, at_least=1, at_most=MAX_TOKENS)
    with importing():
        from logos_pl.cli.chat_session import start
    start(given)


def command_parser() -> OwnParser:
    """Parser of the command."""
    parser = OwnParser("chat", COMMANDS_HELP)
    add = parser.add_argument
    add("--model", default=DEMO, help="Hub id or local folder of the model; default: the bundled demo")
    add("--revision", help="branch, tag or commit of the model on the Hub")
    add("--gguf", metavar="FILE", help=GGUF_HELP)
    add("--adapter", help=ADAPTER_HELP)
    add("--device", default="auto", help="cuda, cuda:1, mps or cpu; default: the first with enough memory")
    add("--lens", help=LENS_HELP)
    add("--lens_revision", help="release, branch or commit of the lens on the Hub")
    add("--system", help="system message with which every conversation begins, in place of the chat template's own")
    add("--max_tokens", type=int, default=200, help="maximum number of tokens per reply; default: 200")
    return parser
