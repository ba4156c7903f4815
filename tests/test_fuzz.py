"""The fuzzer sees each fault that it looks for, and a small seeded run of it finds none."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
REFUSED = "logos-pl: run.yaml is not a regular file: give a file."


@pytest.fixture(scope="module")
def fuzzing() -> Iterator[SimpleNamespace]:
    """The fuzzer's modules that know nothing of logos-pl."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield SimpleNamespace(
            **{name: importlib.import_module(f"fuzzing.{name}") for name in ("child", "damage", "values", "verdict")}
        )
    finally:
        sys.path.remove(str(SCRIPTS))


def _say(sentence: str, status: int = 2) -> int:
    print(sentence, file=sys.stderr)
    return status


def _spin() -> None:
    while True:
        pass


def _wait() -> None:
    time.sleep(60)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fill_memory() -> None:
    bytearray(2**30)


def _err() -> None:
    raise KeyError("tokens")


def _leave_half() -> int:
    Path(".weights.pt.partial").touch()
    return _say(REFUSED)


def _leave_a_folder() -> int:
    Path("version_1").mkdir()
    return _say(REFUSED)


def _lose() -> int:
    Path("given").unlink()
    return _say(REFUSED)


def _speak_raw() -> int:
    print("\x1b[31mred")
    return 0


PLANTED: dict[str, Callable[[], int | None]] = {
    "traceback": _err,
    "hang": _spin,
    "signal": _die,
    "memory": _fill_memory,
    "accepted": lambda: 0,
    "status": lambda: _say(REFUSED, 7),
    "control": _speak_raw,
    "sentence": lambda: _say("usage: something else"),
    "long": lambda: _say(REFUSED * 20),
    "noise": lambda: _say(f"UserWarning: of a library\n{REFUSED}"),
    "leftover": _leave_half,
    "altered": _lose,
}


@pytest.fixture
def seen(fuzzing: SimpleNamespace, tmp_path: Path) -> Callable[..., set[str]]:
    """The kinds of fault that are found in a call, made in a folder with one file."""
    work, logs = tmp_path / "work", tmp_path / "logs"
    work.mkdir()
    logs.mkdir()
    (work / "given").write_text("given")

    def found(call: Callable[[], int | None], seconds: float = 20, *, changed_byte: bool = False) -> set[str]:
        before = fuzzing.verdict.snapshot(work)
        outcome = fuzzing.child.run(call, work, logs, fuzzing.child.Limits(seconds, 1, 256))
        after = fuzzing.verdict.snapshot(work)
        found = fuzzing.verdict.faults(outcome, before, after, changed_byte=changed_byte, by_command=True)
        return {fault.kind for fault in found}

    return found


FORKS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of a process that may have threads, in 3.12


@FORKS
@pytest.mark.parametrize("fault", PLANTED)
def test_each_kind_of_fault_is_seen_where_it_was_planted(fault: str, seen: Callable[..., set[str]]) -> None:
    assert seen(PLANTED[fault], changed_byte=fault == "accepted") == {fault}


@FORKS
def test_waiting_for_ever_is_a_hang_although_it_takes_no_time_of_the_processor(seen: Callable[..., set[str]]) -> None:
    assert seen(_wait, seconds=0.5) == {"hang"}


@FORKS
def test_an_empty_folder_after_a_refusal_is_a_leftover(seen: Callable[..., set[str]]) -> None:
    assert seen(_leave_a_folder) == {"leftover"}


@FORKS
def test_a_plain_refusal_is_no_fault_and_neither_is_success(seen: Callable[..., set[str]]) -> None:
    assert seen(lambda: _say(REFUSED), changed_byte=True) == set()
    assert seen(lambda: 0) == set()


def test_every_fault_has_a_planted_one(fuzzing: SimpleNamespace) -> None:
    assert set(PLANTED) == set(fuzzing.verdict.FAULTS)


def test_an_edit_changes_a_copy_and_is_a_function_of_the_random_numbers(fuzzing: SimpleNamespace) -> None:
    tree = {"a": {"b": [1, 2.5, "c"], "d": None}, "e": True}
    before = json.dumps(tree)
    values: ModuleType = fuzzing.values
    edits = [[values.to_json(part) for part in values.edited(Random(seed), tree, 3)] for seed in range(300)]
    assert json.dumps(tree) == before
    assert edits == [[values.to_json(part) for part in values.edited(Random(seed), tree, 3)] for seed in range(300)]
    assert len({text for text, _ in edits}) > 200


def test_damage_always_changes_the_file(fuzzing: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for seed in range(300):
        path.write_bytes(content := Random(seed).randbytes(seed % 5))
        fuzzing.damage.damaged(Random(seed), path)
        assert path.read_bytes() != content


@pytest.mark.slow
def test_a_small_run_over_every_kind_of_input_finds_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "fuzz.py"), "--cases", "24", "--seed", "6", "--processes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@FORKS
@pytest.mark.parametrize(
    ("kept", "new", "faults"), [("given", "new", set()), ("changed", "new", {"altered"}), ("given", None, {"altered"})]
)
def test_what_is_kept_under_a_dated_name_beside_the_new_is_not_lost(
    kept: str, new: str | None, faults: set[str], seen: Callable[..., set[str]]
) -> None:
    def replace() -> int:
        Path("given.replaced-20260131-2359").write_text(kept)
        Path("given").unlink()
        if new is not None:
            Path("given").write_text(new)
        return _say(REFUSED)

    assert seen(replace) == faults
