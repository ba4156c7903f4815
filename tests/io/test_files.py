import errno
import os
from pathlib import Path

import pytest

from logos_pl.io.files import make_folders, real_path, remove_leftovers, replace_file, take_lock, text_stream


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    replace_file(target, b"new")

    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_made_with_those_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path("a/b/c"), Path("a/b/../d"), Path("new/../e"), Path(), tmp_path / "f"):
        make_folders(folder)
        make_folders(folder)
        assert folder.is_dir()
    with pytest.raises(FileExistsError):
        make_folders(Path("a/b"), exist_ok=False)


def test_where_a_folder_cannot_be_made_none_above_it_is_left_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    Path("file").touch()
    for folder in (Path("org/x", "n" * 300), Path("here/a/b", "n" * 300, "c"), Path("new/../file/b")):
        with pytest.raises(OSError, match=r"File name too long|Not a directory|File exists"):
            make_folders(folder)
        assert sorted(map(str, Path().rglob("*"))) == ["file", "here"]


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(target, b"new")

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_kill_between_write_and_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    class Killed(BaseException):
        pass

    def kill(source: Path, destination: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(Killed):
            replace_file(target, b"new")
    assert target.read_bytes() == b"old"

    replace_file(target, b"newer")
    assert target.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_kill_left_is_removed_and_what_is_being_written_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".left.partial").write_bytes(b"half")
    replaced = os.replace
    seen: list[list[str]] = []

    def replace(source: Path, destination: Path) -> None:
        remove_leftovers(tmp_path)  # as another process does, just before the file gets its name
        seen.append(sorted(os.listdir(tmp_path)))
        replaced(source, destination)

    monkeypatch.setattr(os, "replace", replace)
    replace_file(tmp_path / "a.bin", b"new")
    assert seen == [[".a.bin.partial"]]
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_file_removed_between_opening_and_locking_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = [0]

    def take(descriptor: int, wait: bool) -> bool | None:
        taken[0] += 1
        if taken[0] == 1:
            (tmp_path / ".a.bin.partial").unlink()
        return take_lock(descriptor, wait)

    monkeypatch.setattr("logos_pl.io.files.take_lock", take)
    replace_file(tmp_path / "a.bin", b"new")
    assert (taken[0], (tmp_path / "a.bin").read_bytes()) == (2, b"new")


def test_links_that_lead_in_a_circle_are_left_to_whoever_opens_them(tmp_path: Path) -> None:
    loop, straight = tmp_path / "loop", tmp_path / "straight"
    loop.symlink_to("loop")
    straight.symlink_to("target")

    assert real_path(loop) == loop
    assert real_path(straight) == tmp_path / "target"


def test_a_stream_has_its_name_once_it_is_whole_and_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, partial = tmp_path / "a.txt", tmp_path / "a.txt.partial"
    target.write_text("old")
    effects: list[tuple[str, int]] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        effects.append(("fsync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def renamed(source: Path, destination: Path) -> None:
        effects.append(("replace", source.stat().st_size))
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    with text_stream(target) as file:
        file.write("é\r\n")
        assert (target.read_text(), partial.exists()) == ("old", True)

    assert effects[:2] == [("fsync", 4), ("replace", 4)]
    assert [name for name, _ in effects] == ["fsync", "replace", "fsync"]  # the last one of the folder
    assert target.read_bytes() == b"\xc3\xa9\r\n"
    assert list(tmp_path.iterdir()) == [target]


def test_a_stream_that_breaks_off_keeps_what_was_written_beside_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def break_off() -> None:
        with text_stream(target) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert target.read_text() == "old"
    assert (tmp_path / "a.txt.partial").read_text() == "half"

    with text_stream(target) as file:
        file.write("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_disk_that_is_full_at_the_end_of_a_stream_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), text_stream(target) as file:
        file.write("new")
    assert target.read_text() == "old"
