"""The help inside a conversation against the commands that it takes."""

import re
from pathlib import Path

import pytest

from logos_pl.api import load_model
from logos_pl.cli.chat_help import COMMANDS_HELP
from logos_pl.cli.chat_session import ChatSession
from logos_pl.cli.lens_at_hand import find_lens
from logos_pl.errors import InputError


def test_the_help_names_every_command_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lm = load_model("demo", device="cpu")
    session = ChatSession(lm, find_lens("demo", None).load(lm), max_tokens=1)
    with pytest.raises(InputError) as refusal:
        session.take("/sing")
    taken = set(re.findall(r"/[a-z]+", str(refusal.value))) - {"/sing"}

    assert set(re.findall(r"(?:^  |, )(/[a-z]+)", COMMANDS_HELP, re.MULTILINE)) == taken


def test_the_help_fits_eighty_columns_of_ascii() -> None:
    assert COMMANDS_HELP.isascii()
    assert max(map(len, COMMANDS_HELP.splitlines())) <= 80
