"""A question to the Hub that is answered, refused, or waited for in vain."""

import threading
import time

import pytest

from logos_pl.lm import hub_call
from logos_pl.lm.hub_call import ask_hub


def test_an_answer_and_an_error_come_out_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask_hub("about it", lambda: 3) == 3
    with pytest.raises(KeyError, match="x"):
        ask_hub("about it", lambda: dict[str, int]()["x"])
    assert capsys.readouterr().err == ""


def test_a_hub_that_never_answers_is_named_and_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub_call, "SAY_AFTER_S", 0.05)
    monkeypatch.setattr(hub_call, "GIVE_UP_AFTER_S", 0.1)
    never = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="does not answer"):
        ask_hub("about org/model", never.wait)
    never.set()
    assert time.monotonic() - began < 2
    assert capsys.readouterr().err.startswith("logos-pl: waiting for https://")


def test_a_slow_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(hub_call, "SAY_AFTER_S", 0.05)

    def slowly() -> int:
        time.sleep(0.2)
        return 7

    assert ask_hub("about it", slowly) == 7
    assert "waiting for" in capsys.readouterr().err
