"""Lines on standard error for what takes long, none for what does not."""

import time

import pytest

from logos_pl.io import waiting
from logos_pl.io.waiting import waiting as wait


def test_what_is_quick_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with wait("thinking"):
        pass
    assert capsys.readouterr() == ("", "")


def test_what_takes_long_is_said_by_time(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(waiting, "BETWEEN_SECONDS", 0.05)
    with wait("thinking"):
        time.sleep(0.3)
    said = capsys.readouterr().err.splitlines()
    assert 2 <= len(said) <= 7
    assert set(said) == {"logos-pl: thinking … 0 s"}
    time.sleep(0.1)
    assert capsys.readouterr().err == "", "nothing is said once it is done"


def test_it_ends_with_what_fails() -> None:
    with pytest.raises(ValueError, match="no"), wait("thinking"):
        raise ValueError("no")
