"""`logos-pl chat` as a process: a transcript where lines come from elsewhere, and help before torch is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from logos_pl.cli.chat import main


def test_lines_from_a_pipe_make_a_transcript(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "logos_pl", "chat", "--max_tokens", "2"],
        input=b"The capital of Germany is\n/layer 0\n/quit\nnever read\n",
        env=os.environ | {"LC_ALL": "C", "COLUMNS": "60"},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    lines = done.stdout.decode("ascii").splitlines()
    start = lines.index("> The capital of Germany is")
    assert lines[start + 1] == " Berlin."
    assert lines[start + 2].split() == ["token", "Berlin", "."]
    assert lines[start + 3].split()[0] == "row"
    assert lines[-1] == "> /quit"


@pytest.mark.parametrize("args", [["--max_tokens", "0"], ["--max_tokens", "x"], ["hello"]])
def test_what_needs_no_model_is_refused_without_one(
    args: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "logos_pl.cli.chat_session", None)  # to import it is an error
    assert main(args) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_help_lists_the_commands_of_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    helped = capsys.readouterr().out
    assert "/layer ROW" in helped
    assert helped.isascii()
