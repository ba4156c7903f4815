import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logos_pl.artifacts.store import (
    REPLACED,
    check_destination,
    find_folder,
    read_steadily,
    replace_and_keep,
    replace_folder,
    rewrite_folder,
)
from logos_pl.errors import InputError, RunError
from tests.artifacts.lenses import contents

OLD = {"a": b"old", "b": b"old too"}
NEW = {"a": b"new", "c": b"new only"}


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test may handle it."""


EFFECTS = [(os, "mkdir"), (os, "rename"), (os, "fsync"), (shutil, "rmtree")]


def before_each_effect(act: Callable[[], None], effects: list[tuple[Any, str]], patch: pytest.MonkeyPatch) -> None:
    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            act()
            return function(*args, **kwargs)

        return wrapped

    for module, name in effects:
        patch.setattr(module, name, wrap(getattr(module, name)))


def fail_once_after(
    calls: int, failure: Callable[[], BaseException], effects: list[tuple[Any, str]], patch: pytest.MonkeyPatch
) -> None:
    """Let `calls` effects on the disk happen, and make the next one fail before it does anything."""
    left = [calls]

    def act() -> None:
        left[0] -= 1
        if left[0] == -1:
            raise failure()

    before_each_effect(act, effects, patch)


def effects_of_a_replacement(tmp_path: Path) -> int:
    """How many effects on the disk a replacement has."""
    replace_folder(tmp_path / "count", OLD)
    calls: list[None] = []
    with pytest.MonkeyPatch.context() as patch:
        before_each_effect(lambda: calls.append(None), EFFECTS, patch)
        replace_folder(tmp_path / "count", NEW)
    shutil.rmtree(tmp_path / "count")
    return len(calls)


def test_the_folder_holds_exactly_the_files_given(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "artifact"
    replace_folder(folder, OLD)
    assert contents(folder) == OLD
    replace_folder(folder, NEW)
    assert contents(folder) == NEW
    assert os.listdir(folder.parent) == ["artifact"]


@pytest.mark.filterwarnings("ignore:Writing .* was interrupted")
def test_a_kill_at_any_effect_leaves_the_old_or_the_new_and_the_next_write_clears_up(tmp_path: Path) -> None:
    total = effects_of_a_replacement(tmp_path)
    assert total >= 8  # a folder made, two files and two folders flushed, two renames, the old one removed
    seen = []
    for calls in range(total):
        folder = tmp_path / str(calls) / "artifact"
        replace_folder(folder, OLD)
        with pytest.MonkeyPatch.context() as patch:
            fail_once_after(calls, Killed, EFFECTS, patch)
            with pytest.raises(Killed):
                replace_folder(folder, NEW)
        found = contents(find_folder(folder))
        assert found in (OLD, NEW)
        seen.append(found)
        replace_folder(folder, {"d": b"next"})
        assert contents(folder) == {"d": b"next"}
        assert os.listdir(folder.parent) == ["artifact"]
    assert OLD in seen
    assert NEW in seen


def test_a_kill_between_the_renames_is_told_and_the_earlier_files_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "artifact"
    replace_folder(folder, OLD)
    real = os.rename
    with monkeypatch.context() as patch:

        def rename(source: Path, target: Path) -> None:
            if Path(target).name == "artifact":
                raise Killed
            real(source, target)

        patch.setattr(os, "rename", rename)
        with pytest.raises(Killed):
            replace_folder(folder, NEW)
    assert not folder.exists()
    with pytest.warns(UserWarning, match="was interrupted"):
        found = find_folder(folder)
    assert contents(found) == OLD


def test_a_write_that_fails_after_a_kill_between_the_renames_keeps_the_only_whole_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "artifact"
    replace_folder(folder, OLD)
    os.rename(folder, tmp_path / ".artifact.old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RunError):
        replace_folder(folder, NEW)
    assert contents(folder) == OLD


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("existing", [OLD, None])
def test_a_disk_that_refuses_anywhere_is_one_sentence_and_leaves_no_trace(
    tmp_path: Path, code: int, existing: dict[str, bytes] | None
) -> None:
    said: list[str] = []
    for calls in range(effects_of_a_replacement(tmp_path)):
        folder = tmp_path / f"{code}-{calls}" / "artifact"
        folder.parent.mkdir()
        if existing is not None:
            replace_folder(folder, existing)
        with pytest.MonkeyPatch.context() as patch:
            # without rmtree: a refusal comes from inside it, where it may be ignored
            fail_once_after(calls, lambda: OSError(code, os.strerror(code)), EFFECTS[:3], patch)
            try:
                replace_folder(folder, NEW)
            except RunError as error:
                said.append(str(error))
        if folder.exists():
            assert contents(folder) in (existing, NEW)
        else:
            assert existing is None
        assert not (folder.parent / ".artifact.new").exists()
    assert len(said) >= 5
    assert all(os.strerror(code) in sentence and "\n" not in sentence for sentence in said)


def test_a_full_disk_while_writing_a_file_keeps_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "artifact"
    replace_folder(folder, OLD)
    real_open = Path.open

    class FullFile:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "FullFile":
            return self

        def __exit__(self, *exc: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[:1])
            full_disk()

    monkeypatch.setattr(Path, "open", lambda self, *a, **k: FullFile(real_open(self, *a, **k)))
    with pytest.raises(RunError, match="No space left on device"):
        replace_folder(folder, NEW)
    monkeypatch.undo()
    assert contents(folder) == OLD
    assert os.listdir(tmp_path) == ["artifact"]


def test_a_refused_second_rename_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "artifact"
    replace_folder(folder, OLD)
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if Path(source).name == ".artifact.new":
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(RunError, match="Input/output error"):
        replace_folder(folder, NEW)
    assert contents(folder) == OLD
    assert os.listdir(tmp_path) == ["artifact"]


def test_a_link_to_the_folder_stays_a_link(tmp_path: Path) -> None:
    replace_folder(tmp_path / "real" / "artifact", OLD)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real" / "artifact")
    replace_folder(link, NEW)
    assert link.is_symlink()
    assert contents(tmp_path / "real" / "artifact") == NEW


def test_a_missing_artifact_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no artifact at .*nowhere"):
        find_folder(tmp_path / "nowhere")


def test_a_folder_with_anything_else_in_it_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("known")
    check_destination(tmp_path, {"a", "b"})
    check_destination(tmp_path / "absent", {"a"})
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"holds thesis\.tex"):
        check_destination(tmp_path, {"a", "b"})
    with pytest.raises(InputError, match="it is a file"):
        check_destination(tmp_path / "a", {"a"})


def keep_all(folder: Path) -> bool:
    return False


def kept_beside(folder: Path) -> list[dict[str, bytes]]:
    """What is kept beside a folder, the earliest first."""
    found = [path for path in folder.parent.iterdir() if REPLACED.fullmatch(path.name)]
    assert all(path.name.startswith(f"{folder.name}.replaced-20") for path in found)
    return [contents(path) for path in sorted(found, key=lambda path: (len(path.name), path.name))]


def test_what_was_there_is_kept_under_a_dated_name_also_twice_in_a_minute(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    assert replace_and_keep(folder, OLD, keep_all) is None
    first = replace_and_keep(folder, NEW, keep_all)
    second = replace_and_keep(folder, {"d": b"next"}, keep_all)
    assert first is not None
    assert second is not None
    assert (contents(first), contents(second), contents(folder)) == (OLD, NEW, {"d": b"next"})
    assert {path.name for path in tmp_path.iterdir()} == {"artifact", first.name, second.name}


def test_what_the_new_files_say_all_of_is_not_kept(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    replace_folder(folder, OLD)
    assert replace_and_keep(folder, NEW, lambda there: contents(there) == OLD) is None
    assert (contents(folder), os.listdir(tmp_path)) == (NEW, ["artifact"])


@pytest.mark.filterwarnings("ignore:Writing .* was interrupted")
def test_a_kill_at_any_effect_loses_neither_the_new_nor_what_was_to_be_kept(tmp_path: Path) -> None:
    seen = set()
    for calls in range(20):
        folder = tmp_path / str(calls) / "artifact"
        replace_folder(folder, OLD)
        killed = False
        with pytest.MonkeyPatch.context() as patch:
            fail_once_after(calls, Killed, EFFECTS, patch)
            try:
                replace_and_keep(folder, NEW, keep_all)
            except Killed:
                killed = True
        found = contents(find_folder(folder))
        replace_and_keep(folder, {"d": b"next"}, keep_all)
        assert contents(folder) == {"d": b"next"}
        there = [OLD] if found == OLD else [OLD, NEW]
        assert len(kept_beside(folder)) == len(there)
        assert all(files in kept_beside(folder) for files in there)
        assert not [name for name in os.listdir(folder.parent) if name.startswith(".")]
        seen.add((killed, found == NEW))
    assert seen == {(True, False), (True, True), (False, True)}


def test_writers_of_one_folder_come_one_after_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    replace_folder(folder, {"count": b"0"})

    def count_up() -> None:
        def one_more(there: Path) -> dict[str, bytes]:
            count = int((there / "count").read_bytes())
            time.sleep(0.01)  # long enough for another writer to come in between, if it could
            return {"count": str(count + 1).encode()}

        for _ in range(5):
            rewrite_folder(folder, one_more)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (contents(folder), os.listdir(tmp_path)) == ({"count": b"20"}, ["artifact"])


def test_without_locks_a_folder_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    replace_folder(tmp_path / "artifact", OLD)
    assert contents(tmp_path / "artifact") == OLD


def both(folder: Path) -> tuple[bytes, bytes]:
    """Two files that are written together."""
    first = (folder / "a").read_bytes()
    second = (folder / "b").read_bytes() if (folder / "b").exists() else b""
    if first != second:
        raise InputError("altered")
    return first, second


def test_a_folder_that_is_replaced_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    replace_folder(folder, {"a": b"1", "b": b"1"})
    looks = []

    def read(there: Path) -> tuple[bytes, bytes]:
        looks.append(there)
        first = (there / "a").read_bytes()
        if len(looks) == 1:
            replace_folder(folder, {"a": b"2", "b": b"2"})
        if (there / "b").read_bytes() != first:
            raise InputError("altered")
        return first, (there / "b").read_bytes()

    assert read_steadily(folder, read) == (b"2", b"2")
    assert len(looks) == 2


def test_a_folder_that_is_wrong_as_it_stands_is_read_once_and_refused(tmp_path: Path) -> None:
    replace_folder(tmp_path / "artifact", {"a": b"1", "b": b"2"})
    looks = []

    def read(there: Path) -> None:
        looks.append(there)
        both(there)

    with pytest.raises(InputError, match="altered"):
        read_steadily(tmp_path / "artifact", read)
    assert len(looks) == 1


@pytest.mark.filterwarnings("error")
def test_a_reader_beside_a_writer_always_finds_one_whole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    replace_folder(folder, {"a": b"0", "b": b"0"})
    ended = threading.Event()

    def write() -> None:
        for k in range(60):
            number = str(k).encode()
            replace_folder(folder, {"a": number, "b": number})
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    found = set()
    while not ended.is_set():
        try:
            found.add(read_steadily(folder, both))
        except FileNotFoundError:  # `both` reads without turning that into a sentence
            continue
    writer.join()
    assert all(first == second for first, second in found)


@pytest.mark.parametrize("leads_to", ["artifact", "/nowhere/at/all"])
def test_a_link_that_leads_nowhere_is_no_artifact_and_no_destination(tmp_path: Path, leads_to: str) -> None:
    folder = tmp_path / "artifact"
    folder.symlink_to(leads_to)

    with pytest.raises(InputError, match="There is no artifact at"):
        find_folder(folder)
    with pytest.raises(InputError, match="broken link"):
        check_destination(folder, {"a"})


def test_a_place_within_another_artifact_is_no_destination(tmp_path: Path) -> None:
    replace_folder(tmp_path / "artifact", {"provenance.json": b"{}"})
    with pytest.raises(InputError, match=r"would be inside the artifact in .*artifact: choose another folder"):
        check_destination(tmp_path / "artifact" / "artifact", {"a"})


def test_files_under_the_names_of_what_a_crash_leaves_are_cleared_like_folders(tmp_path: Path) -> None:
    (tmp_path / ".artifact.new").touch()
    (tmp_path / ".artifact.old").symlink_to("nowhere")
    replace_folder(tmp_path / "artifact", OLD)
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]
    assert contents(tmp_path / "artifact") == OLD
