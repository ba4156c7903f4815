import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from logos_pl.cli import commands, entry
from logos_pl.cli.commands import COMMANDS, OWN_PARSERS, answer_at_once, usage
from logos_pl.cli.run import KINDS
from logos_pl.errors import InputError


def test_every_command_is_listed_with_a_sentence_of_its_own() -> None:
    assert set(COMMANDS) == {*KINDS, *OWN_PARSERS}
    for name, what in COMMANDS.items():
        assert f"  {name}" in usage()
        assert what in usage()
        assert what.endswith(".")


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["--version"]])
def test_help_and_version_are_answered(args: list[str]) -> None:
    answer = answer_at_once(args)
    assert answer is not None
    assert answer.startswith("logos-pl " if args == ["--version"] else "usage: logos-pl read ")


@pytest.mark.parametrize("args", [["--version"], ["fit", "--config=configs/demo.yaml"]])
def test_source_that_was_not_installed_is_refused_before_anything_is_computed(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(commands, "version", absent)
    assert entry.main(args) == 2
    assert "logos-pl is on the path but not installed" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["fit"], ["hub", "list"], ["predict", "--help"], ["read", "--help"]])
def test_a_command_is_left_to_its_parser(args: list[str]) -> None:
    assert answer_at_once(args) is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fti"], "There is no command 'fti': did you mean fit?"),
        (["predcit", "--help"], "There is no command 'predcit': did you mean predict?"),
        (["\x1b[31m"], r"There is no command '\x1b[31m': choose among read, fit, prism"),
        (["x" * 10_000], "characters left out"),
        ([""], "There is no command ''"),
        ([], "The command is missing"),
        (["--config", "a.yaml", "fit"], "The command comes before its options"),
    ],
)
def test_what_is_no_command_is_refused_with_what_was_meant(args: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        answer_at_once(args)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["fti"]])
def test_none_of_it_waits_for_torch(args: list[str]) -> None:
    program = (
        "import sys; from logos_pl.__main__ import main; status = main()\n"
        "heavy = {'torch', 'lightning', 'transformers', 'jsonargparse'}\n"
        "print(status, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{2 if args == ['fti'] else 0} []"
