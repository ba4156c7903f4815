"""Conversations line by line: replies, commands, Ctrl-C, and what is refused without an end."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from logos_pl.api import load_model
from logos_pl.cli import chat_session
from logos_pl.cli.chat_reply import ReplyToken
from logos_pl.cli.chat_session import ChatSession
from logos_pl.cli.lens_at_hand import find_lens
from logos_pl.data.prompt_types import Message
from logos_pl.lm.frozen import FrozenLM
from tests.tiny import make_chat_model, make_model

TEXT = "The capital of Germany is"


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return load_model("demo", device="cpu")


@pytest.fixture
def session(lm: FrozenLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChatSession:
    monkeypatch.chdir(tmp_path)
    return ChatSession(lm, find_lens("demo", None).load(lm), max_tokens=6)


def talk(session: ChatSession, *lines: str) -> None:
    """Give the lines in order, then end the input."""
    given = iter(lines)

    def read() -> str:
        try:
            return next(given)
        except StopIteration:
            raise EOFError from None

    session.run(read)


def test_the_demo_goes_on_with_the_text_and_says_so(session: ChatSession, capsys: pytest.CaptureFixture[str]) -> None:
    talk(session, TEXT, "", "The capital of France is")
    said = capsys.readouterr().out
    assert "has no chat template: it simply continues your text" in said
    assert " Berlin." in said
    assert " Paris." in said
    assert said.count("stopped after 6 tokens (--max_tokens)") == 2
    assert [message.role for message in session.conversation.messages] == ["user", "assistant"] * 2
    assert session.conversation.text(session.conversation.ids).startswith(f"{TEXT} Berlin.")
    assert len(session.tokens) == 6


def test_a_template_has_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_model(tmp_path / "tiny")
    (folder / "chat_template.jinja").write_text("<s> {% for m in messages %}{{ m.content }} . {% endfor %}moon")
    lm = load_model(str(folder), device="cpu")
    session = ChatSession(lm, find_lens(str(folder), "norm").load(lm), max_tokens=3)
    talk(session, "sun", "star")
    assert "no chat template" not in capsys.readouterr().out
    assert [message.role for message in session.conversation.messages] == ["user", "assistant"] * 2
    assert session.conversation.messages[2] == Message("user", "star")


def test_a_system_message_begins_the_conversation(tmp_path: Path) -> None:
    folder = make_chat_model(tmp_path / "tiny")
    lm = load_model(str(folder), device="cpu")
    session = ChatSession(lm, find_lens(str(folder), "norm").load(lm), 2, "stone")
    talk(session, "sun", "/new", "star")
    assert session.conversation.messages[:2] == [Message("system", "stone"), Message("user", "star")]
    assert session.conversation.text(session.conversation.ids).startswith("road stone . hill star . road")


def interrupted_after(count: int, reply: Callable[..., Iterator[ReplyToken]]) -> Callable[..., Iterator[ReplyToken]]:
    def replying(*args: object) -> Iterator[ReplyToken]:
        for number, token in enumerate(reply(*args)):
            if number == count:
                raise KeyboardInterrupt
            yield token

    return replying


def test_ctrl_c_stops_a_reply_and_the_conversation_goes_on(
    session: ChatSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(chat_session, "reply", interrupted_after(2, chat_session.reply))
        session.take(TEXT)
    assert capsys.readouterr().out.splitlines()[-1] == "stopped"
    assert session.conversation.messages[-1] == Message("assistant", " Berlin.")
    before = session.conversation.ids
    session.take(" The capital of France is")
    assert session.conversation.ids[: len(before)] == before
    assert " Paris" in session.conversation.messages[-1].content


def test_ctrl_c_at_the_prompt_says_how_to_end(session: ChatSession, capsys: pytest.CaptureFixture[str]) -> None:
    calls = iter([KeyboardInterrupt(), "/quit", "never read"])

    def read() -> str:
        line = next(calls)
        if isinstance(line, BaseException):
            raise line
        return line

    session.run(read)
    assert "/quit or Ctrl-D ends the conversation." in capsys.readouterr().out
    assert next(calls) == "never read"


def test_a_row_and_a_lens_are_shown_for_the_last_reply(
    session: ChatSession, capsys: pytest.CaptureFixture[str]
) -> None:
    session.take(TEXT)
    tokens = session.tokens
    session.take("/layer 8")
    above, below = capsys.readouterr().out.splitlines()[-2:]
    assert above.split()[1:] == below.split()[2:], "the last row has the tokens of the reply"
    session.take("/lens norm")
    assert session.tokens == tokens, "read again, each token settles where it settled"
    session.take("/lens")
    assert capsys.readouterr().out.splitlines()[-1] == "Read by the logit lens."
    session.take("/help")
    assert "/save FILE.html" in capsys.readouterr().out


def test_the_page_has_the_whole_conversation(session: ChatSession, capsys: pytest.CaptureFixture[str]) -> None:
    talk(session, TEXT, "/save chat.html", "/new")
    page = Path("chat.html").read_text(encoding="utf-8")
    assert f"{TEXT} Berlin." in page
    assert capsys.readouterr().out.splitlines()[-2:] == ["page: chat.html", "A new conversation."]
    assert session.conversation.ids == ()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["/sing"], "There is no command /sing: choose /help, /lens, /layer, /save, /new or /quit."),
        (["/layer 2"], "There is no reply yet: say something first."),
        ([TEXT, "/layer 9"], "/layer needs a row, 0 to 8."),
        ([TEXT, "/layer ²"], "/layer needs a row, 0 to 8."),
        (["/save a.html"], "The conversation is empty: say something first."),
        ([TEXT, "/save"], "/save needs the name of a file, such as /save chat.html."),
        ([TEXT, "/save no/a.html"], "no/a.html cannot be written"),
        ([TEXT, f"/save {__file__}"], "is a file of another kind and is not replaced"),
        (["/lens nowhere"], "There is no artifact at nowhere"),
        (["a\0b"], "The line is not UTF-8 text"),
        (["word " * 5000], "tokens, but demo reads"),
    ],
)
def test_what_cannot_be_is_said_and_the_conversation_goes_on(
    lines: list[str], message: str, session: ChatSession, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(session, *lines, TEXT)
    said = capsys.readouterr()
    assert message in said.err
    assert " Berlin." in said.out
