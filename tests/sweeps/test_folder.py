import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from logos_pl.errors import InputError, RunError
from logos_pl.io import files
from logos_pl.sweeps import folder
from logos_pl.sweeps.folder import open_given_folder, open_sweep_folder

NOON = datetime(2025, 3, 1, 12, 0, 59, tzinfo=UTC)
LATER = NOON + timedelta(days=1)


def sweep(root: Path, now: datetime, result: str) -> None:
    """A sweep from start to end, with one file as its result."""
    with open_sweep_folder(root, now) as folder:
        assert folder.path == root / "sweeps" / "run-latest"
        assert folder.note is None
        (folder.path / "result").write_text(result)


def results(root: Path) -> dict[str, str]:
    """What each run left, by the name of its folder."""
    return {path.parent.name: path.read_text() for path in (root / "sweeps").glob("*/result")}


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_the_earlier_run_takes_the_time_it_was_started_not_the_time_of_the_next(tmp_path: Path) -> None:
    sweep(tmp_path, NOON, "first")
    os.utime(tmp_path / "sweeps" / "run-latest", (0, 0))
    sweep(tmp_path, LATER, "second")
    sweep(tmp_path, LATER, "third")

    assert results(tmp_path) == {"run-20250301-1200": "first", "run-20250302-1200": "second", "run-latest": "third"}


def test_names_are_in_utc(tmp_path: Path) -> None:
    sweep(tmp_path, datetime(2025, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=5))), "first")
    sweep(tmp_path, LATER, "second")

    assert results(tmp_path) == {"run-20250228-2030": "first", "run-latest": "second"}


def test_runs_of_the_same_minute_stand_beside_each_other(tmp_path: Path) -> None:
    for k in range(5):
        sweep(tmp_path, NOON, f"run {k}")

    names = ["run-20250301-1200", *(f"run-20250301-1200-{k}" for k in (2, 3, 4)), "run-latest"]
    assert results(tmp_path) == {name: f"run {k}" for k, name in enumerate(names)}


def test_even_an_empty_folder_or_a_dangling_link_of_that_name_is_passed_over(tmp_path: Path) -> None:
    sweep(tmp_path, NOON, "first")
    (tmp_path / "sweeps" / "run-20250301-1200").mkdir()
    (tmp_path / "sweeps" / "run-20250301-1200-2").symlink_to("nowhere")
    sweep(tmp_path, LATER, "second")

    assert results(tmp_path) == {"run-20250301-1200-3": "first", "run-latest": "second"}
    assert visible(tmp_path / "sweeps" / "run-20250301-1200") == []


@pytest.mark.parametrize("started", [None, "", "2025-", "\udcff"])
def test_a_run_whose_start_was_not_written_down_takes_the_time_of_its_last_change(
    tmp_path: Path, started: str | None
) -> None:
    latest = tmp_path / "sweeps" / "run-latest"
    latest.mkdir(parents=True)
    (latest / "result").write_text("made by hand")
    if started is not None:
        (latest / ".started").write_bytes(started.encode(errors="surrogateescape"))
    os.utime(latest, (NOON.timestamp(), NOON.timestamp()))
    sweep(tmp_path, LATER, "second")

    assert results(tmp_path) == {"run-20250301-1200": "made by hand", "run-latest": "second"}


def test_nothing_hidden_is_left_but_the_start_and_the_lock_of_the_renaming(tmp_path: Path) -> None:
    sweep(tmp_path, NOON, "first")
    sweep(tmp_path, LATER, "second")

    found = {str(path.relative_to(tmp_path / "sweeps")) for path in (tmp_path / "sweeps").rglob("*") if path.is_file()}
    runs = ("run-20250301-1200", "run-latest")
    assert found == {".lock"} | {f"{run}/{name}" for run in runs for name in (".started", "result")}


def test_a_run_that_goes_on_is_not_moved_and_the_second_says_where_it_is(tmp_path: Path) -> None:
    with open_sweep_folder(tmp_path, NOON) as first, open_sweep_folder(tmp_path, LATER) as second:
        assert (first.path.name, second.path.name) == ("run-latest", "run-20250302-1200")
        with open_sweep_folder(tmp_path, LATER) as third:
            assert third.path.name == "run-20250302-1200-2"
        (first.path / "result").write_text("first")
        (second.path / "result").write_text("second")
        assert second.note == (
            "run-latest is left as it is (another sweep is still writing there): this sweep is in run-20250302-1200."
        )
    sweep(tmp_path, LATER, "fourth")

    assert results(tmp_path) == {
        "run-20250301-1200": "first",
        "run-20250302-1200": "second",
        "run-latest": "fourth",
    }


def test_a_folder_may_be_closed_twice_and_the_second_time_touches_nothing(tmp_path: Path) -> None:
    folder = open_sweep_folder(tmp_path, NOON)
    folder.close()
    with open_sweep_folder(tmp_path, LATER):
        folder.close()
        assert (tmp_path / "sweeps" / "run-latest" / ".lock").exists()


def test_a_worker_that_outlives_its_sweep_does_not_hold_the_folder(tmp_path: Path) -> None:
    folder = open_sweep_folder(tmp_path, NOON)
    ((_, lock),) = folder._locks
    inherited = os.dup(lock)  # as after a fork: the same lock, held by another descriptor
    folder.close()
    sweep(tmp_path, LATER, "second")
    os.close(inherited)

    assert visible(tmp_path / "sweeps") == ["run-20250301-1200", "run-latest"]


def test_many_runs_at_once_get_a_folder_each(tmp_path: Path) -> None:
    sweep(tmp_path, NOON, "earlier")
    paths: list[Path] = []
    begin, end = threading.Barrier(8), threading.Barrier(8)

    def one() -> None:
        begin.wait()
        with open_sweep_folder(tmp_path, LATER) as folder:
            end.wait()
            (folder.path / "result").write_text("new")
            paths.append(folder.path)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    dated = ["run-20250302-1200", *(f"run-20250302-1200-{k}" for k in range(2, 8))]
    assert sorted(path.name for path in paths) == sorted([*dated, "run-latest"])
    assert results(tmp_path)["run-20250301-1200"] == "earlier"


KILLED_AT_EVERY_STEP = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from logos_pl.sweeps.folder import open_sweep_folder

root, start = Path(sys.argv[1]), datetime.fromisoformat("2025-03-01T12:00:00+00:00")

def sweep(result, kill_at):
    steps = 0
    def count(event, arguments):  # called before every file operation
        nonlocal steps
        if event in {"open", "os.mkdir", "os.rename", "os.remove", "os.truncate", "fcntl.flock"}:
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    with open_sweep_folder(root, start) as folder:
        (folder.path / "result").write_text(result)

done = []
for kill_at in [None, *range(1, 1000)]:
    child = os.fork()
    if child == 0:
        sweep(f"run {kill_at}", kill_at)
        os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    if not killed:
        done.append(f"run {kill_at}")
    found = [path.read_text() for path in root.glob("sweeps/*/result")]
    assert sorted(text for text in found if text in done) == sorted(done), (kill_at, found)
    if not killed and kill_at is not None:
        break
sweep("last", None)  # nothing that the kills left behind is in the way
assert (root / "sweeps" / "run-latest" / "result").read_text() == "last"
print(kill_at)
"""


def test_a_kill_at_any_step_loses_no_run_and_bars_no_later_one(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", KILLED_AT_EVERY_STEP, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)

    assert said.returncode == 0, said.stderr
    assert int(said.stdout) > 8  # lock, look, rename, make, lock, start, result, unlock: all were met
    assert "run 1" not in results(tmp_path).values()
    assert results(tmp_path)["run-20250301-1200"] == "run None"


@pytest.mark.parametrize("refused", ["mkdir", "rename", "open"])
def test_a_disk_that_refuses_any_step_is_one_sentence_and_loses_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    sweep(tmp_path, NOON, "first")
    before = results(tmp_path)
    (tmp_path / "sweeps" / "run-latest" / ".started").unlink()

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, refused, refuse)
        with pytest.raises(
            RunError, match=r"^Cannot write to .*sweeps: Read-only file system; .* --sweep.out_dir\.$"
        ) as info:
            open_sweep_folder(tmp_path, LATER)
    assert "\n" not in str(info.value)
    assert list(results(tmp_path).values()) == list(before.values())
    sweep(tmp_path, LATER, "second")
    assert sorted(results(tmp_path).values()) == ["first", "second"]


def test_a_full_disk_leaves_the_earlier_run_and_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(tmp_path, NOON, "first")

    def full(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(RunError, match="No space left on device"):
            open_sweep_folder(tmp_path, LATER)
    sweep(tmp_path, LATER, "second")

    assert results(tmp_path)["run-20250301-1200"] == "first"
    assert results(tmp_path)["run-latest"] == "second"


@pytest.mark.parametrize("place", ["sweeps", "sweeps/run-latest", ""])
def test_a_file_in_the_way_is_refused_by_name_and_kept(tmp_path: Path, place: str) -> None:
    root = tmp_path / "logs"
    file = root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")

    with pytest.raises(InputError, match=r"^A file is in the way of the folder .*sweeps: move it away, .*out_dir\.$"):
        open_sweep_folder(root, NOON)
    assert file.read_text() == "mine"


def test_relative_links_in_a_run_and_to_a_run_still_lead_where_they_led(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "sweeps").symlink_to("disk")
    (tmp_path / "disk" / "elsewhere").mkdir()
    (tmp_path / "disk" / "elsewhere" / "result").write_text("linked")
    (tmp_path / "disk" / "run-latest").symlink_to("elsewhere")
    sweep(tmp_path, NOON, "second")
    (tmp_path / "sweeps" / "run-latest" / "link").symlink_to("../elsewhere/result")
    sweep(tmp_path, LATER, "third")

    assert sorted(results(tmp_path).values()) == ["linked", "linked", "second", "third"]
    assert (tmp_path / "sweeps" / "run-20250301-1200" / "link").read_text() == "linked"
    assert (tmp_path / "sweeps").is_symlink()


def test_a_link_that_leads_nowhere_is_renamed_like_a_run(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    latest = tmp_path / "sweeps" / "run-latest"
    latest.symlink_to("unmounted")
    os.utime(latest, (NOON.timestamp(), NOON.timestamp()), follow_symlinks=False)
    sweep(tmp_path, LATER, "second")

    assert os.readlink(tmp_path / "sweeps" / "run-20250301-1200") == "unmounted"
    assert results(tmp_path) == {"run-latest": "second"}


def no_locks(patch: pytest.MonkeyPatch) -> None:
    for module in (folder, files):
        patch.setattr(module, "fcntl", None)


def locks_refused(patch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    patch.setattr("fcntl.flock", refuse)


@pytest.mark.parametrize("without", [no_locks, locks_refused])
def test_without_locks_a_lock_file_counts_as_held_and_the_note_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: Callable[[pytest.MonkeyPatch], None]
) -> None:
    without(monkeypatch)
    sweep(tmp_path, NOON, "first")
    with open_sweep_folder(tmp_path, NOON) as second, open_sweep_folder(tmp_path, LATER) as third:
        (second.path / "result").write_text("second")
        assert (second.path.name, third.path.name) == ("run-latest", "run-20250302-1200")
        assert third.note is not None
        assert "this disk has no locks" in third.note
        assert "delete it if none is" in third.note
    sweep(tmp_path, LATER, "fourth")

    assert results(tmp_path) == {
        "run-20250301-1200": "first",
        "run-20250301-1200-2": "second",
        "run-latest": "fourth",
    }


def test_without_locks_a_run_that_comes_in_between_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_locks(monkeypatch)
    sweep(tmp_path, NOON, "first")
    rename, others = os.rename, []

    def rename_after_another(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        others.append(open_sweep_folder(tmp_path, LATER))
        rename(source.with_name("gone"), target)  # what this rename finds: the other one has been there

    monkeypatch.setattr(os, "rename", rename_after_another)
    with open_sweep_folder(tmp_path, LATER) as folder, others[0] as other:
        assert (other.path.name, folder.path.name) == ("run-latest", "run-20250302-1200")
        assert folder.note is not None
        assert "another sweep has just begun" in folder.note
    assert results(tmp_path) == {"run-20250301-1200": "first"}


def test_without_locks_a_name_taken_in_between_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_locks(monkeypatch)
    sweep(tmp_path, NOON, "first")
    rename = os.rename

    def rename_too_late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        target.mkdir()
        (target / "result").write_text("another's")
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_too_late)
    sweep(tmp_path, LATER, "second")

    assert results(tmp_path) == {
        "run-20250301-1200": "another's",
        "run-20250301-1200-2": "first",
        "run-latest": "second",
    }


def test_a_lock_that_fails_for_another_reason_is_an_error_not_a_missing_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(RunError, match="Input/output error"):
        open_sweep_folder(tmp_path, NOON)


def test_a_given_folder_is_made_and_nothing_is_renamed(tmp_path: Path) -> None:
    out_dir = tmp_path / "a" / "b"
    with open_given_folder(out_dir, ["Qwen3"]) as folder:
        (folder.path / "output-Qwen3-8B.json").write_text("another model's")
        (folder.path / "notes.txt").write_text("mine")
    with open_given_folder(out_dir, ["Qwen3"]) as folder:
        assert (folder.path, folder.note) == (out_dir, None)

    assert sorted(path.name for path in out_dir.iterdir()) == ["notes.txt", "output-Qwen3-8B.json"]


@pytest.mark.parametrize(
    "there",
    [
        "output-a[1].json", "output-a[1]-records-tuned.csv", "output-a[1]-pure-next-token.csv", "output-a[1]-kl.png",
        "evaluation-a[1].md", "evaluation-cross-models.md", "output-a[1]-page.html.partial",
    ],
)  # fmt: skip
def test_results_of_the_same_model_are_refused_by_name(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("old")

    with pytest.raises(InputError, match="exists from another sweep and will not be overwritten: move") as info:
        open_given_folder(tmp_path, ["b", "a[1]"])
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert there in str(info.value)
    assert (tmp_path / there).read_text() == "old"


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_given_folder_that_is_a_file_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(InputError, match="A file is in the way of the folder"):
        open_given_folder(tmp_path / place, [])


def test_a_given_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(folder.tempfile, "TemporaryFile", refuse)
    with pytest.raises(RunError, match=r"^Cannot write to .*: Permission denied; .*--sweep.out_dir\.$"):
        open_given_folder(tmp_path, [])


@pytest.mark.parametrize("there", ["output-a.json", "output-a-kl.png", "output-a-records.csv.partial"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling link"])
def test_what_is_no_file_counts_as_results_that_are_there(tmp_path: Path, there: str, kind: str) -> None:
    make_special(tmp_path / there, kind)

    with pytest.raises(InputError, match=f"{there} exists from another sweep"):
        open_given_folder(tmp_path, ["a"])
    assert os.path.lexists(tmp_path / there)


@pytest.mark.parametrize("kind", ["fifo", "dangling link"])
def test_a_given_folder_that_is_a_pipe_or_leads_nowhere_is_refused(tmp_path: Path, kind: str) -> None:
    make_special(tmp_path / "out", kind)

    with pytest.raises(InputError, match=r"A file is in the way of the folder .*out"):
        open_given_folder(tmp_path / "out", ["a"])


def make_special(path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")


def test_two_sweeps_of_one_model_do_not_share_a_folder_and_of_two_models_do(tmp_path: Path) -> None:
    with open_given_folder(tmp_path, ["Qwen3", "b"]):
        with open_given_folder(tmp_path, ["Qwen3-8B"]):
            pass
        with pytest.raises(InputError, match=r"^Another sweep of b is writing to .*: wait for it, or choose another"):
            open_given_folder(tmp_path, ["c", "b"])
        with open_given_folder(tmp_path, ["c"]):  # what was refused has let go of its other locks
            pass
    with open_given_folder(tmp_path, ["b"]):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_its_holder_has_just_removed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = folder.take_lock

    def take_too_late(descriptor: int, wait: bool) -> bool | None:
        monkeypatch.setattr(folder, "take_lock", take)
        (tmp_path / ".output-a.lock").unlink()
        return take(descriptor, wait)

    monkeypatch.setattr(folder, "take_lock", take_too_late)
    with open_given_folder(tmp_path, ["a"]), pytest.raises(InputError, match="is writing to"):
        open_given_folder(tmp_path, ["a"])


def test_a_lock_that_a_kill_left_is_taken_and_one_without_locks_counts_as_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".output-a.lock").touch()
    with open_given_folder(tmp_path, ["a"]):
        pass
    locks_refused(monkeypatch)
    with open_given_folder(tmp_path, ["a"]), pytest.raises(InputError, match=r"if none is, delete .*\.output-a\.lock"):
        open_given_folder(tmp_path, ["a"])


def test_a_run_whose_start_is_a_pipe_is_renamed_all_the_same(tmp_path: Path) -> None:
    latest = tmp_path / "sweeps" / "run-latest"
    latest.mkdir(parents=True)
    os.mkfifo(latest / ".started")
    os.utime(latest, (NOON.timestamp(), NOON.timestamp()))
    sweep(tmp_path, LATER, "second")

    assert (tmp_path / "sweeps" / "run-20250301-1200").is_dir()


def test_a_given_folder_that_was_made_and_stayed_empty_is_removed_with_those_above_it(tmp_path: Path) -> None:
    with open_given_folder(tmp_path / "a" / "b", ["Qwen3"]):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a" / "b").mkdir(parents=True)
    with open_given_folder(tmp_path / "a" / "b", ["Qwen3"]):
        pass
    assert (tmp_path / "a" / "b").is_dir(), "it was there before"
    with open_given_folder(tmp_path / "c" / "d", ["Qwen3"]) as folder:
        (folder.path / "output-Qwen3.json").touch()
    assert [path.name for path in (tmp_path / "c" / "d").iterdir()] == ["output-Qwen3.json"]
