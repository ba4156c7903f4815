"""`logos-pl read`: what is refused before torch is loaded, and that help does not wait for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from logos_pl.cli.read import main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "text is missing: see `logos-pl read --help`."),
        (["a", "--top", "0"], "--top must be at least 1 and at most 10 (got 0)"),
        (["a", "--chat", "--ids"], "--chat and --ids cannot be combined"),
        (["a", "--system", "b"], "--system is the system message of a conversation: give --chat as well."),
        (["a", "--chat", "--special_tokens", "none"], "--special_tokens applies to plain text only"),
        (["a", "--top", "11"], "--top must be at least 1 and at most 10 (got 11)"),
        (["a", "--layers", "0..3"], "--layers must be rows, such as 0,4,8-12 (got '0..3')"),
        (["a", "--layers", "-1"], "--layers must be rows, such as 0,4,8-12 (got '-1')"),
        (["a", "--layers", "--top", "3"], "--layers needs a value"),
        (["a", "--html", "no/page.html"], "--html no/page.html: there is no folder no: create it first."),
        (["a", "--png", "folder"], "--png folder is not a file"),
        (["a", "--html", "config.json"], "--html config.json is a file of another kind and is not replaced"),
        (["a", "--png", "page.html"], "--png page.html is a file of another kind and is not replaced"),
        (["a", "--html", "x", "--png", "folder/../x"], "--html and --png are both folder/../x"),
    ],
)
def test_what_needs_no_model_is_refused_without_one(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "logos_pl.cli.read_prompt", None)  # to import it is an error
    Path("config.json").write_text("{}")
    Path("page.html").write_text("<!doctype html>")
    assert main(args) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_help_and_mistakes_do_not_wait_for_torch() -> None:
    program = (
        "import sys; from logos_pl.__main__ import main\n"
        "try: status = main()\n"
        "except SystemExit as end: status = end.code\n"
        "print(status, sorted({'torch', 'lightning', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    for args, status in ((["read", "--help"], 0), (["read", "a", "--top", "x"], 2)):
        done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == f"{status} []"


def test_the_help_fits_eighty_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["--help"])
    helped = capsys.readouterr().out
    assert helped.isascii()
    assert max(map(len, helped.partition("examples:")[0].splitlines())) <= 80
