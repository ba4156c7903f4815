"""Set-up of a checkout: two commands at once do not clear each other's environment."""

import importlib.util
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO

import pytest


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`dev.py`, of a checkout whose set-up takes a moment and is put on record."""
    spec = importlib.util.spec_from_file_location("dev", Path(__file__).parents[1] / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("pyproject.toml", "requirements.lock", "dev.py"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    return module


def test_of_two_commands_at_once_one_sets_up_and_the_other_waits_and_says_so(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fcntl = pytest.importorskip("fcntl")
    setting_up, waiting = threading.Event(), threading.Event()
    ran: list[str] = []

    def run(*command: str | Path) -> None:
        ran.append(str(command[2]))
        if "venv" in command:
            dev.VENV.mkdir(exist_ok=True)
            setting_up.set()
            assert waiting.wait(30), "the second command did not wait for the first"

    def flock(lock: IO[str], operation: int) -> None:
        if operation == fcntl.LOCK_EX:  # asked for only once the first attempt, which does not wait, has failed
            waiting.set()
        fcntl.flock(lock, operation)

    monkeypatch.setattr(dev, "run", run)
    monkeypatch.setattr(dev, "fcntl", SimpleNamespace(flock=flock, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB))
    first, second = (threading.Thread(target=dev.set_up) for _ in range(2))
    first.start()
    assert setting_up.wait(30)
    second.start()
    for command in (first, second):
        command.join()

    assert ran == ["venv", "pip", "pip", "pip"]
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        "Setting up .venv (a few minutes the first time) …",
        "Waiting for another dev.py that is setting up .venv …",
    ]
    assert [line.partition(":")[0] for line in said[2:]] == ["  1 of 3", "  2 of 3", "  3 of 3"]


def test_the_demo_ends_with_the_command_that_comes_next(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "BIN", dev.VENV / "bin")
    monkeypatch.setattr(dev, "run", lambda *command: None)
    monkeypatch.setattr(dev, "set_up", lambda: None)
    monkeypatch.setattr(dev.sys, "argv", ["dev.py", "demo"])
    dev.main()
    assert ': .venv/bin/logos-pl read "The capital' in capsys.readouterr().out


def test_an_environment_that_stands_is_left_alone(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    dev.VENV.mkdir()
    monkeypatch.setattr(dev, "run", lambda *command: None)
    dev.set_up()
    monkeypatch.setattr(dev, "run", lambda *command: pytest.fail("set up again"))
    dev.set_up()
    (dev.ROOT / "requirements.lock").write_text("other")
    with pytest.raises(pytest.fail.Exception, match="set up again"):
        dev.set_up()


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([], ["-m", "not slow"]),
        (["--all"], []),
        (["--all", "-x"], ["-x"]),
        (["tests/fit/test_resume.py"], ["tests/fit/test_resume.py"]),
    ],
)
def test_the_long_tests_are_left_out_unless_all_or_a_file_is_asked_for(
    given: list[str], passed: list[str], dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(dev, "run", lambda *command: commands.append([str(part) for part in command]))
    dev.test(*given)
    (command,) = commands
    assert command[command.index("--no-loadscope-reorder") + 1 :] == passed


def test_what_builds_the_documentation_is_installed_once_and_apart_from_the_rest(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev.VENV.mkdir()
    (dev.ROOT / "requirements-docs.lock").write_text("mkdocs==1.6.1")
    commands: list[str] = []
    monkeypatch.setattr(dev, "run", lambda *command: commands.append(" ".join(str(part) for part in command[1:])))
    dev.docs()
    dev.docs()
    executed, built = "-m scripts.site_pages.notebooks build/notebooks", "-m mkdocs build --strict"
    installed, *rest = commands
    assert installed.endswith("--no-deps --requirement requirements-docs.lock")
    assert rest == [executed, built] * 2


def test_no_package_is_in_both_locks() -> None:
    def names(lock: str) -> set[str]:
        lines = (Path(__file__).parents[1] / lock).read_text().splitlines()
        return {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}

    assert names("requirements.lock")
    assert names("requirements-docs.lock")
    assert names("requirements.lock") & names("requirements-docs.lock") == set()
