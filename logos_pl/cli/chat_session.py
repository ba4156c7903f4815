"""A conversation on the terminal: reads lines, streams replies, carries out commands."""

import argparse
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from logos_pl.api import load_model
from logos_pl.cli.chat_help import COMMANDS_HELP
from logos_pl.cli.chat_reply import ReplyToken, read_again, reply
from logos_pl.cli.chat_view import ReplyView
from logos_pl.cli.error_messages import describe
from logos_pl.cli.lens_at_hand import LOGIT, GivenModel, LensAtHand, find_lens
from logos_pl.data.conversation import Conversation
from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.data.prompts import TokenizedPrompt
from logos_pl.data.token_strings import TokenStrings
from logos_pl.errors import InputError, LogosError
from logos_pl.io.files import is_utf8
from logos_pl.io.replaceable import PAGE_BEGIN, refuse_other_content
from logos_pl.io.terminal import complain, say
from logos_pl.io.waiting import waiting
from logos_pl.lm.cached import CachedReader
from logos_pl.lm.frozen import FrozenLM

PROMPT = "> "
CUT_CHARACTER = "\ufffd"
"""What a tokenizer decodes an incomplete character to."""


def start(given: argparse.Namespace) -> None:
    """Load model and lens, and talk until the input ends.

    Raises:
        InputError: The model or the lens cannot be used.
        RunError: The disk or the Hub fails.
    """
    model = GivenModel(given.model, given.gguf, given.adapter)
    found = find_lens(model, given.lens, given.lens_revision)
    with waiting(f"loading {given.model}"):
        lm = load_model(
            given.model, revision=given.revision, gguf=given.gguf, adapter=given.adapter, device=given.device
        )
        lens = found.load(lm)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C stops a reply, also where a launcher ignores it
    ChatSession(lm, lens, given.max_tokens, given.system).run(_lines())


def _lines() -> Callable[[], str]:
    """Return a function that reads a line: with prompt and line editing on a terminal, otherwise echoed."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        with suppress(ImportError):  # Windows
            import readline  # noqa: F401 - input() edits lines with it
        return lambda: input(PROMPT)

    def read() -> str:
        line = input()
        say(f"{PROMPT}{line}")
        return line

    return read


class ChatSession:
    """A conversation with one model.

    Args:
        lm: The model.
        lens: The lens by which tokens settle.
        max_tokens: Maximum number of tokens per reply.
        system: System message with which every conversation begins.

    Attributes:
        conversation: The conversation so far.
        tokens: The last reply.

    Raises:
        InputError: The model has no tokenizer, no chat template for a system message, or no key-value cache.
    """

    def __init__(self, lm: FrozenLM, lens: LensAtHand, max_tokens: int, system: str | None = None) -> None:
        if lm.tokenizer is None:
            raise InputError(f"{lm.model_id} has no tokenizer to read text with: add it to its folder.")
        self.lm, self.lens, self.max_tokens = lm, lens, max_tokens
        self.conversation = Conversation(lm.tokenizer, lm.model_id, lm.vocab_size, lm.context_length, system)
        self.tokens: list[ReplyToken] = []
        self.view = ReplyView(lm.num_blocks)
        self._reader, self._strings = CachedReader(lm), TokenStrings(lm.tokenizer)

    def run(self, read: Callable[[], str]) -> None:
        """Answer line after line until the input ends or `/quit`.

        Args:
            read: Returns the next line; raises EOFError at the end of the input.
        """
        dtype = str(self.lm.dtype).removeprefix("torch.")
        say(f"{self.lm.model_id}: {self.lm.num_blocks} blocks, on {self.lm.device} in {dtype}; {self.lens.words}")
        if not self.conversation.has_template:
            say("The model has no chat template: it simply continues your text.")
        self.view.legend()
        say("/help lists the commands.")
        while True:
            try:
                line = read()
            except EOFError:
                return
            except KeyboardInterrupt:
                say("\n/quit or Ctrl-D ends the conversation.")
                continue
            if line.split()[:1] == ["/quit"]:
                return
            self._answer_or_complain(line)

    def _answer_or_complain(self, line: str) -> None:
        """Carry out a line; errors are printed, and the conversation continues."""
        try:
            self.take(line)
        except (LogosError, OSError, RuntimeError, MemoryError) as error:
            complain(describe(error)[0])
        except KeyboardInterrupt:
            say("\nstopped")

    def take(self, line: str) -> None:
        """Carry out one line: a command, or something to reply to.

        Raises:
            InputError: It cannot be carried out.
            RunError: The disk or the Hub fails.
        """
        if not line.strip():
            return
        if not is_utf8(line) or "\0" in line:
            raise InputError("The line is not UTF-8 text: enter it in UTF-8.")
        if not line.startswith("/"):
            self.reply(line)
            return
        name, _, argument = line.strip().partition(" ")
        commands = {
            "/help": lambda _: say(COMMANDS_HELP.rstrip()),
            "/lens": self._lens,
            "/layer": self._layer,
            "/save": self._save,
            "/new": lambda _: self._new(),
        }
        if name not in commands:
            raise InputError(f"There is no command {name}: choose {', '.join(commands)} or /quit.")
        commands[name](argument.strip())

    def reply(self, text: str) -> None:
        """Stream the model's reply; after Ctrl-C, the part written so far is kept.

        Raises:
            InputError: The text cannot be read, or the context is full.
        """
        self.conversation.ask(text)
        self.tokens, room = [], self.conversation.room
        most = self.max_tokens if room is None else min(self.max_tokens, room)
        stopped, written = False, ""
        try:
            norm, lens = self.lens.lenses[LOGIT], self.lens.lenses[self.lens.name]
            for token in reply(self._reader, norm, lens, self.conversation.ids, most):
                self.tokens.append(token)
                whole = self._text().removesuffix(CUT_CHARACTER)
                self.view.stream(whole[len(written) :], token.settled)
                written = whole
        except KeyboardInterrupt:
            stopped = True
        self.conversation.answer([token.id for token in self.tokens])
        self._end()
        if stopped:
            say("stopped")
        elif len(self.tokens) == room:
            say("The context is full: /new begins another conversation.")
        elif len(self.tokens) == self.max_tokens:
            say(f"stopped after {self.max_tokens} tokens (--max_tokens)")

    def _text(self) -> str:
        return self.conversation.text([token.id for token in self.tokens])

    def _end(self) -> None:
        strings = [self._strings(token.id) for token in self.tokens]
        self.view.end(strings, [token.settled for token in self.tokens])

    def _new(self) -> None:
        self.conversation.clear()
        self.tokens = []
        self._reader.forget()
        say("A new conversation.")

    def _lens(self, given: str) -> None:
        """Say which lens is used, or use another and show the last reply under it."""
        if given:
            self.lens = find_lens(self.lens.model, given).load(self.lm)
        say(f"Read by the {self.lens.words}.")
        if not (given and self.tokens):
            return
        lens, ids = self.lens.lenses[self.lens.name], self.conversation.ids
        self.tokens = read_again(self.lm, lens, ids, len(ids) - len(self.tokens))
        for token in self.tokens:
            self.view.stream(self._strings(token.id), token.settled)
        self._end()

    def _layer(self, given: str) -> None:
        """Show the likeliest token of a row below each token of the last reply."""
        num_blocks = self.lm.num_blocks
        if not (given.isascii() and given.isdigit() and len(given) < 5 and int(given) <= num_blocks):
            raise InputError(f"/layer needs a row, 0 to {num_blocks}.")
        if not self.tokens:
            raise InputError("There is no reply yet: say something first.")
        row = int(given)
        said = [self._strings(token.id) for token in self.tokens]
        there = [self._strings(token.top_ids[row]) for token in self.tokens]
        self.view.pairs(said, there, ("reply", f"row {row}"))

    def _save(self, given: str) -> None:
        """Write the page of the conversation."""
        from logos_pl.sweeps.in_memory import read_tokenized  # matplotlib
        from logos_pl.sweeps.milestones import milestones
        from logos_pl.sweeps.page import PageWriter, partly_read

        if not given:
            raise InputError("/save needs the name of a file, such as /save chat.html.")
        path, ids = Path(given).expanduser(), self.conversation.ids
        if not ids:
            raise InputError("The conversation is empty: say something first.")
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"{given} cannot be written: give the name of a file in an existing folder.")
        refuse_other_content(path, PAGE_BEGIN, given)
        tokens = tuple(map(self._strings, ids))
        prompt = Prompt("conversation", "orig", "".join(tokens), token_ids=ids)
        tokenized = TokenizedPrompt(prompt, ids, tokens, AnswerTokens("none"), AnswerTokens("none"))
        with waiting("reading the conversation"):
            (records,) = read_tokenized(self.lm, [tokenized], self.lens.lenses).prompts
        lm, lens = self.lm, self.lens
        names, partly = list(lens.lenses), partly_read(lens.lenses)
        with PageWriter(path, lm.clean_model_name, names, lm.num_blocks, lens.command, partly) as page:
            page.add(records, {name: milestones(rows) for name, rows in records.next_token.items()})
        say(f"page: {given}")
