"""Folders of results: what is never overwritten, and that files that belong together are written together."""

import os
from pathlib import Path

import pytest

from logos_pl.errors import InputError, RunError
from logos_pl.io import result_folder
from logos_pl.io.result_folder import refuse_results, write_results

CONTENTS = {"one.csv": b"1", "two.png": b"2", "all.json": b"3"}
OPTION = "--compare.out_dir"


def test_a_folder_of_its_own_is_named_unless_one_is_given(tmp_path: Path) -> None:
    named = result_folder.result_folder(tmp_path / "comparisons", "demo", None)
    assert named.parent == tmp_path / "comparisons"
    assert named.name.startswith("demo-20")
    assert result_folder.result_folder(tmp_path, "demo", "mine") == Path("mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [(), ("mine",), ("mine/below",)])
def test_all_files_are_written_and_nothing_else_is_left(there: tuple[str, ...], tmp_path: Path) -> None:
    for path in there:
        (tmp_path / path).mkdir(parents=True)
    folder = tmp_path / "mine" / "below"
    write_results(folder, CONTENTS, OPTION)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS
    assert [path.name for path in folder.parent.iterdir()] == ["below"]


@pytest.mark.parametrize("file", CONTENTS)
def test_earlier_results_are_not_overwritten(file: str, tmp_path: Path) -> None:
    (tmp_path / file).symlink_to("nowhere")
    for refuse in (
        lambda: refuse_results(tmp_path, CONTENTS, OPTION),
        lambda: write_results(tmp_path, CONTENTS, OPTION),
    ):
        with pytest.raises(InputError, match=f"holds {file} already: choose another --compare.out_dir"):
            refuse()
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_a_file_in_the_place_of_the_folder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="A file is in the way of the folder"):
        refuse_results(tmp_path / "file", CONTENTS, OPTION)
    with pytest.raises(InputError, match="A file is in the way of the folder"):
        write_results(tmp_path / "file" / "below", CONTENTS, OPTION)


def test_a_folder_that_cannot_be_made_leaves_none_above_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="File name too long"):
        write_results(tmp_path / "a" / ("n" * 300), CONTENTS, OPTION)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("failing", [*CONTENTS, "rename"])
def test_a_disk_that_fails_at_any_file_leaves_none(
    is_there: bool, failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a" / "b"
    if is_there:
        folder.mkdir(parents=True)
        (folder / "notes.txt").touch()
    write = result_folder._write

    def failing_write(path: Path, data: bytes) -> None:
        write(path, data)
        if failing in path.name:
            raise OSError(28, "No space left on device")

    def failing_rename(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result_folder, "_write", failing_write)
    if failing == "rename":
        monkeypatch.setattr(os, "rename", failing_rename)
        replace = os.replace
        done: list[tuple[Path, ...]] = []

        def replace_once(*paths: Path) -> None:
            if done:
                failing_rename()
            done.append(paths)
            replace(*paths)

        monkeypatch.setattr(os, "replace", replace_once)
    with pytest.raises(RunError, match="No space left on device"):
        write_results(folder, CONTENTS, OPTION)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == (
        ["a", "a/b", "a/b/notes.txt"] if is_there else []
    )
