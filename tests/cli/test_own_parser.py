"""Parsers of commands that run without Lightning, and what they say."""

import errno
import gc

import pytest

from logos_pl.cli.own_parser import OwnParser, importing, run_own
from logos_pl.errors import InputError


@pytest.fixture
def parser() -> OwnParser:
    made = OwnParser("read")
    made.add_argument("text")
    made.add_argument("--top", type=int)
    made.add_argument("--answer")
    return made


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "text is missing"),
        (["a", "--tpo", "3"], "unrecognized arguments: --tpo 3"),
        (["a", "--top"], "--top needs a value"),
        (["a", "--top", "many"], "argument --top: invalid int value: 'many'"),
        (["a", "--answ", "b"], "unrecognized arguments: --answ b"),
        ([" "], "The text is empty: give a value"),
        (["a", "--answer", ""], "--answer is empty"),
        (["a\0b"], "The text contains a NUL character"),
        (["a", "--answer", "\udcff"], "is not UTF-8 text"),
    ],
)
def test_what_cannot_be_parsed_is_one_sentence_with_the_help_that_says_more(
    args: list[str], message: str, parser: OwnParser
) -> None:
    with pytest.raises(InputError) as caught:
        parser.checked(args)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["1:30", "{a: 1}", "[", "null", "2026-02-31", "- a"])
def test_text_is_taken_as_it_is(text: str, parser: OwnParser) -> None:
    assert parser.checked([f"{text}", f"--answer={text}"]).answer == text


def test_errors_have_their_statuses_and_a_bug_is_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    def raising(error: BaseException) -> int:
        def work() -> None:
            raise error

        return run_own(work, "Stopped.")

    assert run_own(lambda: None, "Stopped.") == 0
    assert raising(InputError("bad.")) == 2
    assert raising(OSError(errno.ENOSPC, "No space left on device")) == 1
    assert raising(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "logos-pl: Stopped."
    with pytest.raises(RuntimeError, match="a bug"):
        raising(RuntimeError("a bug"))


def test_imports_run_without_garbage_collection_and_leave_it_as_it_was() -> None:
    assert gc.isenabled()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
